"""From a picture file to square uint8 pixels, and what is wrong with one that gives none."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from tlkit.errors import near_misses, quoted
from tlkit.files.storage import RemotePath, name_below
from tlkit.images.preprocessing import Preprocessing

__all__ = ["SUFFIXES", "BadImagesError", "Geometry", "decode", "explain_broken", "open_picture"]

# What photos come in, by Pillow's names. It knows thirty formats more, some of which start programs or are rarely
# tested. Only newer ones have AVIF; HEIF is there once pillow-heif was registered.
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jfif"),
    "PNG": (".png",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "AVIF": (".avif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".pgm", ".ppm"),
    "HEIF": (),
}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
OTHERS = {b"%!PS": "PostScript", b"%PDF": "PDF", b"8BPS": "Photoshop"}  # how their files begin

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadImagesError(ValueError):
    """Some pictures cannot be decoded.

    Attributes
    ----------
    broken : tuple of (Path, str)
        Every broken picture of the set with its reason; the message shows the first 20.
    """

    def __init__(self, broken: Iterable[tuple[Path, str]], *, total: int, root: Path) -> None:
        self.broken = tuple(broken)
        lines = [f"  {name_below(root, path)}: {reason}" for path, reason in self.broken[:20]]
        if len(self.broken) > 20:
            lines.append(f"  ... and {len(self.broken) - 20} more (all of them are in the error's .broken)")
        super().__init__(
            f"{len(self.broken)} of {total} pictures in {root} cannot be decoded:\n" + "\n".join(lines) + "\n"
            "Replace or delete these files, or load the others with on_bad='skip'."
        )


@dataclass(frozen=True)
class Geometry:
    """How a picture becomes a square: its shorter side is resized, then the center is cut out.

    Parameters
    ----------
    size : int
        Height and width of the square, in pixels.
    resize : int
        Length of the resized shorter side, in pixels; at least `size`.
    interpolation : str
        Name of a Pillow filter, such as "bilinear" or "bicubic".
    """

    size: int = 224
    resize: int = 256
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.resize:
            msg = (
                f"A crop of {self.size} pixels cannot be cut from a shorter side of {self.resize} pixels. "
                "The size is at least 1 and at most the resized shorter side."
            )
            raise ValueError(msg)
        filters = [name.lower() for name in Image.Resampling.__members__]
        if self.interpolation not in filters:
            msg = (
                f"There is no interpolation {self.interpolation!r}: Pillow has {quoted(filters)}."
                f"{near_misses(self.interpolation, filters)}"
            )
            raise ValueError(msg)

    @classmethod
    def of(cls, size: int | Preprocessing) -> Geometry:
        """Read a network's preprocessing, or take a size with the usual margin: 224 pixels are cut from 256."""
        if isinstance(size, Preprocessing):
            return cls(size.size, size.resize, size.interpolation)
        if isinstance(size, int):
            return cls(size, round(size / 0.875))
        msg = f"size={size!r} is neither a number of pixels nor a network's preprocessing. Write size=224, for example."
        raise TypeError(msg)

    def box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return the crop's left, top, right and bottom edges in the pixels of a picture before it is resized."""
        shorter = min(width, height)
        edges = []
        for length in (width, height):
            resized = int(self.resize * length / shorter)
            start = round((resized - self.size) / 2)
            edges.append((start * length / resized, (start + self.size) * length / resized))
        (left, right), (top, bottom) = edges
        return left, top, right, bottom


def open_picture(path: str | os.PathLike[str] | IO[bytes]) -> Image.Image:
    """Open a picture file with Pillow, if it is in one of the formats of photos; its content decides."""
    Image.init()
    return Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])


def decode(path: str | os.PathLike[str] | IO[bytes], geometry: Geometry | None = None) -> np.ndarray:
    """Decode one picture file.

    The EXIF orientation is applied. Gray, palette, CMYK and 16-bit pixels become 8-bit RGB; transparency is dropped;
    of an animation the first frame is taken. Crop and resize are one step over the crop's pixels only. A JPEG more
    than twice as large as needed is decoded at 1/2, 1/4 or 1/8 of its size. Bytes of pixels that have changed are
    noticed in a PNG, which holds checksums; in other formats, such as JPEG, they mostly give some other pixels.

    Parameters
    ----------
    path : path or binary file
        The file; its content counts, not its suffix.
    geometry : Geometry, optional
        Resize and crop; 224 pixels from a shorter side of 256 when left out.

    Returns
    -------
    ndarray
        uint8 of shape (3, size, size).

    Raises
    ------
    OSError, ValueError, ...
        Whatever Pillow raises for a broken file, and ValueError for a picture too large to open safely.
    """
    geometry = geometry or Geometry()
    with open_picture(path) as image:
        if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
            msg = (
                f"it claims {image.width} x {image.height} pixels, more than the {Image.MAX_IMAGE_PIXELS:,} that are "
                "safe to open (PIL.Image.MAX_IMAGE_PIXELS)"
            )
            raise ValueError(msg)
        if image.format == "PNG":
            _require_right_checksums(image.fp)
        image.draft(None, (2 * geometry.resize, 2 * geometry.resize))
        image.load()
        upright = _upright(image)
        square = _rgb(upright).resize(
            (geometry.size, geometry.size),
            Image.Resampling[geometry.interpolation.upper()],
            box=geometry.box(*upright.size),
        )
    return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))


def _require_right_checksums(png: IO[bytes]) -> None:
    """Compare the pixels of a PNG with the checksums beside them, which Pillow does not."""
    before = png.tell()
    png.seek(8)
    while len(head := png.read(8)) == 8 and head[4:] != b"IEND":
        length = int.from_bytes(head[:4], "big")
        if head[4:] != b"IDAT":
            png.seek(length + 4, os.SEEK_CUR)
            continue
        content, checksum = png.read(length), png.read(4)
        if len(checksum) == 4 and zlib.crc32(content, zlib.crc32(b"IDAT")) != int.from_bytes(checksum, "big"):
            msg = "its pixels have changed: a checksum in the file is another"
            raise ValueError(msg)
    png.seek(before)


def _upright(image: Image.Image) -> Image.Image:
    # ImageOps.exif_transpose also writes the EXIF block anew, and fails where a camera left it damaged.
    turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        msg = "its pixels are floating-point numbers of unknown range; save it with 8 bits a channel"
        raise ValueError(msg)
    if image.mode.startswith("I"):  # 16 bits: Pillow's own conversion would clip nearly all of them to white
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def explain_broken(path: Path | IO[bytes], error: Exception) -> str:
    """Say in words why `decode` raised an error for a picture."""
    if isinstance(error, UnidentifiedImageError):
        return _no_picture(_start(path))
    if isinstance(error, Image.DecompressionBombError):
        claimed = re.search(r"\d+", str(error))
        pixels = f"{int(claimed[0]):,}" if claimed else "too many"
        return f"it claims {pixels} pixels, more than are safe to open (PIL.Image.MAX_IMAGE_PIXELS)"
    if isinstance(error, OSError) and error.strerror:
        link = f"it is a link to '{os.readlink(path)}': " if path.is_symlink() else ""
        return f"{link}{error.strerror}"
    return str(error) or type(error).__name__


def _start(path: Path | IO[bytes]) -> bytes:
    if not isinstance(path, (Path, RemotePath)):
        path.seek(0)
        return path.read(64)
    with path.open("rb") as file:
        return file.read(64)


def _no_picture(start: bytes) -> str:
    if not start:
        return "the file is empty"
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "it is a web page, no picture"
    if start[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1"):
        return "it is a HEIC picture, which Pillow does not read; save it as JPEG"
    for begin, kind in OTHERS.items():
        if start.startswith(begin):
            return f"it is a {kind} file, no photo; save it as JPEG"
    return "no picture in a format that Pillow knows"
