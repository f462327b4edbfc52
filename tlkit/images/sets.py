"""Pictures with classes: loaded from any source, split into a training and a test set, read in batches."""

from __future__ import annotations

import hashlib
import os
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tlkit.files.storage import RemotePath, name_below
from tlkit.images.augmenting import AugmentedImages
from tlkit.images.decoding import Geometry
from tlkit.images.pictures import Pictures
from tlkit.images.preprocessing import Preprocessing
from tlkit.images.sources import find_equal_files, find_pictures
from tlkit.markup import html_row, html_table

__all__ = ["ImageSet", "Split", "load"]

MOST_COMPARED = 20_000  # pictures; comparing more would take longer than reading some of them


def load(
    source: str | os.PathLike[str] | Sequence[tuple[Any, str]] = "drawn",
    split: float | None = 0.8,
    *,
    seed: int = 13,
    size: int | Preprocessing = 224,
    per_class: int | None = None,
    on_bad: str = "raise",
    threads: int | None = None,
    cache_megabytes: float = 256,
) -> Split | ImageSet:
    """Load pictures of several classes, and split them into a training and a test set.

    The split is DL4J's: all classes are cut to the length of the smallest, shuffled from the seed, and divided by
    the same count in every class. Classes alternate in the rows, so that `train[:50]` has as many of each.
    The order of a class depends on the seed and the files' names only: a new file leaves the others as they were.
    Copies of a picture in two classes, or in the training and the test set, give a warning; among more than 20,000
    pictures they are not looked for. `advice` tells more: few or uneven pictures, and copies that were saved again.

    Parameters
    ----------
    source : str, path, or sequence of (path, class)
        "drawn" (flowers drawn by code), "photos" (TensorFlow's flower photos, downloaded once), a folder with one
        subfolder a class, or a .tgz, .tar.gz or .zip archive of such a folder. A .csv or .parquet table has the
        columns `path` and `label`; its paths may be relative to it. All but archives may also lie on object storage
        (``s3://bucket/photos``); pictures there are not looked through for copies.
    split : float or None
        Share of the training set, between 0 and 1. None loads every picture as one `ImageSet`, uncut.
    seed : int
        Seed of the shuffle.
    size : int or Preprocessing
        Pixels of the square cut from each picture's center, after the shorter side was resized to `size / 0.875`;
        or `network.preprocessing`, to resize and crop as the network's weights expect.
    per_class : int, optional
        At most this many pictures a class. "drawn" draws this many, 100 when left out.
    on_bad : {"raise", "skip"}
        What to do about broken pictures. "raise": the first one met in reading raises `BadImagesError`, which lists
        all of them. "skip": every picture is decoded once now, and broken ones are left out and listed in `.skipped`.
    threads : int, optional
        Decoding threads; one a processor (at most 16) when left out.
    cache_megabytes : float
        Decoded pixels stay in memory when all of them take at most this much; otherwise every pass decodes again.

    Returns
    -------
    Split or ImageSet
        `.train`, `.test` and `.classes`; with `split=None` the one set.

    Raises
    ------
    ValueError
        An unknown source, or a folder without two classes of pictures.

    Examples
    --------
    >>> import tlkit as tl
    >>> flowers = tl.images.load("drawn", per_class=10)
    >>> len(flowers.train), len(flowers.test), flowers.classes
    (40, 10, ('daisy', 'dandelion', 'roses', 'sunflowers', 'tulips'))
    """
    _check_options(split, per_class, on_bad)
    geometry = Geometry.of(size)
    root, files = find_pictures(source, per_class=per_class)
    skipped: tuple[tuple[Path, str], ...] = ()
    if on_bad == "skip":
        skipped = _broken(root, files, geometry, threads)
        bad = {path for path, _ in skipped}
        files = {name: [path for path in paths if path not in bad] for name, paths in files.items()}
    _check_counts(root, files, 1 if split is None else 2)

    count = per_class
    if split is not None:
        smallest = min(map(len, files.values()))
        count = min(smallest, per_class or smallest)
    shuffled = {name: _shuffle(root, paths, seed)[:count] for name, paths in files.items()}
    rows = [(path, label) for row in zip_longest(*shuffled.values()) for label, path in enumerate(row) if path]
    pictures = Pictures(root, [path for path, _ in rows], geometry, threads=threads, cache_megabytes=cache_megabytes)
    everything = ImageSet(pictures, torch.tensor([label for _, label in rows]), tuple(files), skipped=skipped)
    border = 0 if split is None else len(files) * min(max(round(split * count), 1), count - 1)
    _warn_of_copies(root, rows, border)
    if split is None:
        return everything
    return Split(everything[:border], everything[border:])


class ImageSet:
    """Pictures of several classes, decoded when they are read; made by `load`.

    Attributes
    ----------
    paths : tuple of Path
        The picture files.
    labels : LongTensor of shape (n,)
        Each picture's class, as an index into `classes`.
    classes : tuple of str
        Names of the classes, sorted.
    root : Path
        The folder that holds all of them.
    geometry : Geometry
        How a picture becomes `size` x `size` pixels.
    skipped : tuple of (Path, str)
        Broken pictures that `load(..., on_bad="skip")` left out, with the reason of each.

    Examples
    --------
    >>> import tlkit as tl
    >>> train = tl.images.load("drawn", per_class=10).train
    >>> pixels, label = train[0]
    >>> pixels.shape, pixels.dtype
    (torch.Size([3, 224, 224]), torch.uint8)
    >>> [len(labels) for _, labels in train.batches(16)]
    [16, 16, 8]
    """

    def __init__(
        self,
        pictures: Pictures,
        labels: Tensor,
        classes: tuple[str, ...],
        *,
        skipped: tuple[tuple[Path, str], ...] = (),
        rows: Tensor | None = None,
    ) -> None:
        self._pictures = pictures  # shared by all subsets, with the pixels decoded so far
        self._rows = torch.arange(len(labels)) if rows is None else rows
        self.labels = labels
        self.classes = classes
        self.skipped = skipped

    @property
    def paths(self) -> tuple[Path, ...]:
        """The picture files."""
        return tuple(self._pictures.paths[row] for row in self._rows.tolist())

    @property
    def root(self) -> Path:
        """The folder that holds all of them."""
        return self._pictures.root

    @property
    def geometry(self) -> Geometry:
        """How a picture becomes a square."""
        return self._pictures.geometry

    @property
    def size(self) -> int:
        """Height and width of the decoded pictures, in pixels."""
        return self.geometry.size

    @property
    def class_counts(self) -> list[int]:
        """How many pictures each class has, in the order of `classes`."""
        return torch.bincount(self.labels, minlength=len(self.classes)).tolist()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int | slice) -> tuple[Tensor, int] | ImageSet:
        """Return (uint8 pixels of shape (3, size, size), label) of one picture, or an `ImageSet` for a slice."""
        if isinstance(index, slice):
            return self.subset(range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            msg = f"There is no image {index}: the set has {len(self)}, counted from 0."
            raise IndexError(msg)
        return self.pixels([index])[0], int(self.labels[index])

    def subset(self, indices: Sequence[int] | Tensor) -> ImageSet:
        """Return the pictures of some row numbers (or of a mask), in that order; the decoded pixels are shared."""
        rows = self._numbers(indices)
        return ImageSet(self._pictures, self.labels[rows], self.classes, skipped=self.skipped, rows=self._rows[rows])

    def read_once(self, sha256: Sequence[str] = ()) -> ImageSet:
        """Return the same pictures to be read once: the decoded pixels are not kept in memory.

        Parameters
        ----------
        sha256 : sequence of str, optional
            What the files hold. One that holds something else when it is read is refused with a `ChangedImageError`.
        """
        rows = dict(zip(self._rows.tolist(), sha256, strict=True)) if sha256 else None
        pictures = self._pictures.read_once(rows)
        return ImageSet(pictures, self.labels, self.classes, skipped=self.skipped, rows=self._rows)

    def augmented(self, transform: Callable[[Tensor], Tensor]) -> AugmentedImages:
        """Return the pictures changed at random each time they are read.

        Parameters
        ----------
        transform : callable
            Takes uint8 pixels of shape (3, size, size) and returns as many, for example
            ``torchvision.transforms.v2.RandomHorizontalFlip()``.

        Examples
        --------
        >>> import tlkit as tl
        >>> from torchvision.transforms import v2
        >>> train = tl.images.load("drawn", per_class=10).train
        >>> train.augmented(v2.RandomHorizontalFlip())
        AugmentedImages: 40 images, changed by RandomHorizontalFlip(p=0.5) at each reading
        """
        return AugmentedImages(self, transform)

    def pixels(self, rows: Sequence[int] | Tensor | None = None) -> Tensor:
        """Return uint8 pixels of shape (n, 3, size, size) of some row numbers, or of all."""
        [pixels] = self._pictures.stream([self._rows[self._numbers(rows)].tolist()])
        return pixels

    def batches(self, batch_size: int, order: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (uint8 pixels of shape (n, 3, size, size), labels of shape (n,)), decoding ahead in threads.

        Parameters
        ----------
        batch_size : int
            Pictures a batch; the last one may be smaller.
        order : LongTensor, optional
            Row numbers in the order wanted; 0, 1, 2, ... when left out.

        Raises
        ------
        BadImagesError
            A picture cannot be decoded; the message lists every broken one.
        """
        order = self._numbers(order)
        parts = order.split(batch_size) if len(order) else ()
        pixels = self._pictures.stream(self._rows[part].tolist() for part in parts)
        return ((x, self.labels[part]) for x, part in zip(pixels, parts, strict=True))

    def __repr__(self) -> str:
        counts = self.class_counts
        per_class = ", ".join(f"{name} {count}" for name, count in zip(self.classes, counts, strict=True))
        return f"ImageSet: {len(self)} images of {self.size} x {self.size} pixels ({per_class})"

    def _repr_html_(self) -> str:
        return _html_table(repr(self).partition(" (")[0], self.classes, {"images": self.class_counts})

    def _numbers(self, rows: Sequence[int] | Tensor | None) -> Tensor:
        numbers = torch.arange(len(self))
        if rows is None:
            return numbers
        rows = torch.as_tensor(rows).cpu()
        return numbers[rows if rows.dtype == torch.bool else rows.long()]


@dataclass(frozen=True, repr=False)
class Split:
    """A training and a test set that share no picture.

    Parameters
    ----------
    train, test : ImageSet
        The two sets, with the same classes.
    """

    train: ImageSet
    test: ImageSet

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, sorted."""
        return self.train.classes

    @property
    def skipped(self) -> tuple[tuple[Path, str], ...]:
        """Broken pictures that `load(..., on_bad="skip")` left out, with the reason of each."""
        return self.train.skipped

    def __repr__(self) -> str:
        return f"Split\n  train: {self.train!r}\n  test:  {self.test!r}"

    def _repr_html_(self) -> str:
        size = self.train.size
        title = f"Split: {len(self.train)} training and {len(self.test)} test images of {size} x {size} pixels"
        return _html_table(title, self.classes, {"train": self.train.class_counts, "test": self.test.class_counts})


def _broken(
    root: Path, files: dict[str, list[Path]], geometry: Geometry, threads: int | None
) -> tuple[tuple[Path, str], ...]:
    paths = [path for paths in files.values() for path in paths]
    return tuple(Pictures(root, paths, geometry, threads=threads, cache_megabytes=0).broken())


def _shuffle(root: Path, paths: list[Path], seed: int) -> list[Path]:
    # Sorting by a hash shuffles the same way on every platform and in every version of Python and NumPy.
    def key(path: Path) -> bytes:
        name = unicodedata.normalize("NFC", name_below(root, path))
        return hashlib.sha256(f"{seed}/{name}".encode(errors="surrogatepass")).digest()

    return sorted(paths, key=key)


def _warn_of_copies(root: Path, rows: Sequence[tuple[Path, int]], border: int) -> None:
    """Warn of the same bytes in two classes, and on both sides of the border between training and test set."""
    if len(rows) > MOST_COMPARED or any(isinstance(path, RemotePath) for path, _ in rows):
        return
    place = {path: (label, row < border) for row, (path, label) in enumerate(rows)}
    copies = find_equal_files(place)
    two_classes = [same for same in copies if len({place[path][0] for path in same}) > 1]
    both_sets = [same for same in copies if same not in two_classes and len({place[path][1] for path in same}) > 1]
    for found, where, harm in (
        (two_classes, "two classes", "One of the labels is wrong, and training cannot satisfy both"),
        (both_sets, "the training and the test set", "The test then asks what training has shown (leakage)"),
    ):
        if found:
            names = "; ".join(" = ".join(name_below(root, path) for path in same) for same in found[:5])
            more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
            number = "1 picture is" if len(found) == 1 else f"{len(found)} pictures are"
            warnings.warn(f"{number} in {where}: {names}{more}. {harm}. Keep one copy of each.", stacklevel=3)


def _check_options(split: float | None, per_class: int | None, on_bad: str) -> None:
    if split is not None and not 0 < split < 1:
        hint = f" For {split} percent write split={split / 100}." if 1 < split < 100 else ""
        msg = f"split={split} is no share of the pictures: it lies between 0 and 1, or is None for one set.{hint}"
        raise ValueError(msg)
    least = 1 if split is None else 2
    if per_class is not None and per_class < least:
        msg = f"per_class={per_class} is too few pictures of each class: {least} are needed at least. None takes all."
        raise ValueError(msg)
    if on_bad not in ("raise", "skip"):
        msg = f"on_bad={on_bad!r} is unknown. Expected is 'raise' or 'skip'."
        raise ValueError(msg)


def _check_counts(root: Path, files: dict[str, list[Path]], least: int) -> None:
    for name, paths in files.items():
        if len(paths) < least:
            found = "one usable picture, and a split needs two" if paths else "no usable picture"
            msg = f"Class '{name}' in {root} has {found}. Add pictures, or take the class out."
            raise ValueError(msg)


def _html_table(title: str, classes: tuple[str, ...], columns: dict[str, list[int]]) -> str:
    name, number = "padding:2px 12px 2px 0;text-align:left", "padding:2px 0 2px 12px;text-align:right"
    styles = [name, *[number] * len(columns)]
    rows = [html_row(["class", *columns], styles, heads=len(styles))]
    for class_name, *counts in zip(classes, *columns.values(), strict=True):
        rows.append(html_row([class_name, *(f"{count:,}" for count in counts)], styles))
    return html_table(rows, caption=title, caption_style="text-align:left;white-space:nowrap")
