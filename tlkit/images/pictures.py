"""Many picture files as one array of pixels, decoded in threads."""

from __future__ import annotations

import copy
import hashlib
import io
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tlkit.files.storage import name_below
from tlkit.images.decoding import BadImagesError, Geometry, decode, explain_broken

__all__ = ["ChangedImageError", "Pictures"]


class ChangedImageError(RuntimeError):
    """A picture's file holds other bytes than those that were read to tell it from others."""


class Pictures:
    """Picture files as one array of pixels, decoded in threads when first read.

    Parameters
    ----------
    root : Path
        The folder that messages name.
    paths : sequence of Path
        The files, all below `root`; row numbers count them.
    geometry : Geometry
        Resize and crop.
    threads : int, optional
        Decoding threads; one a processor (at most 16) when left out.
    cache_megabytes : float
        Decoded pixels stay in memory when those of all files take at most this much.

    Attributes
    ----------
    keeps : bool
        Whether what is decoded now stays in memory.
    expected : dict of int to str
        The sha256 that the files of some row numbers must have.
    """

    def __init__(
        self,
        root: Path,
        paths: Sequence[Path],
        geometry: Geometry,
        *,
        threads: int | None = None,
        cache_megabytes: float = 256,
    ) -> None:
        self.root = root
        self.paths = tuple(paths)
        self.geometry = geometry
        self.threads = threads or min(16, os.cpu_count() or 1)
        shape = (len(self.paths), *self.shape)
        self._kept = np.empty(shape, np.uint8) if np.prod(shape) <= cache_megabytes * 2**20 else None
        self._is_kept = np.zeros(len(self.paths), bool)
        self._kept_of: dict[int, str] = {}  # the sha256 of the bytes that kept pixels were decoded from
        self.expected: Mapping[int, str] = {}
        self.keeps = self._kept is not None

    def read_once(self, sha256: Mapping[int, str] | None = None) -> Pictures:
        """Return the same pictures to be read once: what is decoded in that is not kept, what is kept is used.

        Parameters
        ----------
        sha256 : dict of int to str, optional
            For a row number, what its file holds. Kept pixels of other bytes are not used then, and another file is
            refused with a `ChangedImageError`.
        """
        pictures = copy.copy(self)
        pictures.keeps = False
        pictures.expected = sha256 or {}
        return pictures

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one picture's pixels."""
        return 3, self.geometry.size, self.geometry.size

    def stream(self, batches: Iterable[Sequence[int]]) -> Iterator[Tensor]:
        """Yield uint8 pixels (n, 3, size, size) for each batch of row numbers, while the next ones are being decoded.

        Raises
        ------
        BadImagesError
            A picture is broken; all broken ones of all rows are listed.
        ChangedImageError
            A file holds other bytes than `read_once` was told.
        """
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="decode")
        ahead: deque[tuple[np.ndarray, list[Future[None]]]] = deque()
        try:
            for rows in batches:
                ahead.append(self._begin(pool, rows))
                if len(ahead) > 1 + 2 * self.threads // max(1, len(rows)):
                    yield _finish(*ahead.popleft())
            while ahead:
                yield _finish(*ahead.popleft())
        except _BadPicture as bad:
            broken = dict([bad.args, *self.broken()])
            raise BadImagesError(sorted(broken.items()), total=len(self.paths), root=self.root) from bad.__cause__
        finally:
            pool.shutdown(cancel_futures=True)

    def broken(self) -> list[tuple[Path, str]]:
        """Decode every picture and return the path and the reason of each that fails."""
        with ThreadPoolExecutor(self.threads, thread_name_prefix="decode") as pool:
            reasons = list(pool.map(self._reason, range(len(self.paths))))
        return [(path, reason) for path, reason in zip(self.paths, reasons, strict=True) if reason]

    def _begin(self, pool: ThreadPoolExecutor, rows: Sequence[int]) -> tuple[np.ndarray, list[Future[None]]]:
        if self._kept is not None and self._is_kept[rows].all() and not self.expected:
            return self._kept[rows], []
        pixels = np.empty((len(rows), *self.shape), np.uint8)
        return pixels, [pool.submit(self._read, row, place) for row, place in zip(rows, pixels, strict=True)]

    def _read(self, row: int, place: np.ndarray) -> None:
        expected = self.expected.get(row)
        if self._is_kept[row] and expected in (None, self._kept_of[row]):
            place[:] = self._kept[row]
            return
        path = self.paths[row]
        try:
            content = path.read_bytes()
            sha256 = hashlib.sha256(content).hexdigest() if self.keeps or expected else ""
            if not expected or sha256 == expected:
                place[:] = decode(io.BytesIO(content), self.geometry)
        except Exception as error:  # a decoder that meets broken bytes may raise anything
            raise _BadPicture(path, explain_broken(path, error)) from error
        if expected and sha256 != expected:
            msg = (
                f"'{name_below(self.root, path)}' changed while the pictures were being read: it holds other bytes "
                "than at first. Start again when nothing writes to the pictures; what was finished is kept."
            )
            raise ChangedImageError(msg)
        if self.keeps:
            self._kept[row] = place
            self._kept_of[row] = sha256
            self._is_kept[row] = True

    def _reason(self, row: int) -> str:
        try:
            self._read(row, np.empty(self.shape, np.uint8))
        except _BadPicture as bad:
            return bad.args[1]
        return ""


class _BadPicture(Exception):
    """One picture's path and the reason why it cannot be decoded."""


def _finish(pixels: np.ndarray, reading: list[Future[None]]) -> Tensor:
    for picture in reading:
        picture.result()
    return torch.from_numpy(pixels)
