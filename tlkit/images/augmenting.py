"""Augmentation: pictures that change at random each time they are read, and a fixed number of versions of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tlkit.layers.initializers import make_generator
from tlkit.memory import counted

if TYPE_CHECKING:
    from tlkit.images.sets import ImageSet

__all__ = ["AugmentedImages", "Views"]


class AugmentedImages:
    """Pictures that a transform changes at random each time they are read; made by `ImageSet.augmented`.

    They train a whole network. Features that are computed once need versions that stay the same:
    ``helper.featurize(augmented, views=4)`` takes four of each picture.

    Attributes
    ----------
    images : ImageSet
        The pictures as they are.
    transform : callable
        What changes them.
    labels : LongTensor of shape (n,)
        Each picture's class, as an index into `classes`.
    classes : tuple of str
        Names of the classes.
    """

    def __init__(self, images: ImageSet, transform: Callable[[Tensor], Tensor]) -> None:
        self.images = images
        self.transform = transform
        self.labels = images.labels
        self.classes = images.classes

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, batch_size: int, order: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches as `ImageSet.batches` does, each picture changed at random.

        Raises
        ------
        ValueError
            When the transform returns something else than a picture of the same size as uint8.
        """
        for pixels, labels in self.images.batches(batch_size, order):
            yield torch.stack([self.changed(picture) for picture in pixels]), labels

    def changed(self, picture: Tensor) -> Tensor:
        """Return uint8 pixels of shape (3, size, size), changed by the transform."""
        found = self.transform(picture)
        if not isinstance(found, Tensor) or found.shape != picture.shape or found.dtype != torch.uint8:
            got = _kind(found) if isinstance(found, Tensor) else type(found).__name__
            msg = (
                f"An augmentation turns {_kind(picture)} into another such picture; {self.transform!r} returned {got}. "
                "Leave scaling to floats and normalizing out of it: the network does both."
            )
            raise ValueError(msg)
        return found

    def __repr__(self) -> str:
        return f"AugmentedImages: {counted(len(self), 'image')}, changed by {self.transform!r} at each reading"


class Views:
    """A fixed number of versions of each augmented picture: first one of every picture, then another of every picture.

    A version depends on the seed, the picture's file name and the version's number only, so that a new picture leaves
    the versions of the others as they are. The caller's random numbers are left as they were.

    Parameters
    ----------
    augmented : AugmentedImages
        The pictures.
    count : int
        How many versions of each, at least 1.
    seed : int
        Another seed gives other versions.

    Raises
    ------
    ValueError
        When `count` is below 1, or the transform does not draw its random numbers from torch.
    """

    def __init__(self, augmented: AugmentedImages, count: int, seed: int = 0) -> None:
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            msg = f"views is how many versions of each picture are kept, a whole number from 1 on; got {count!r}."
            raise ValueError(msg)
        self.augmented = augmented
        self.count = count
        self.seed = seed
        self.labels = augmented.labels.repeat(count)
        self.classes = augmented.classes
        self._names = [f"{path.parent.name}/{path.name}" for path in augmented.images.paths]
        self._require_repeatable()

    def __len__(self) -> int:
        return self.count * len(self.augmented)

    def batches(self, batch_size: int, order: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches as `ImageSet.batches` does; row ``v * n + i`` is version ``v`` of picture ``i`` of ``n``."""
        order = torch.arange(len(self)) if order is None else order
        originals = self.augmented.images.batches(batch_size, order % len(self.augmented))
        for rows, (pixels, labels) in zip(order.split(batch_size), originals, strict=True):
            versions = [self._version(row, picture) for row, picture in zip(rows.tolist(), pixels, strict=True)]
            yield torch.stack(versions), labels

    def _version(self, row: int, picture: Tensor) -> Tensor:
        number, place = divmod(row, len(self.augmented))
        seed = make_generator(self.seed, f"view {number} of {self._names[place]}").initial_seed()
        with torch.random.fork_rng(devices=()):
            torch.random.default_generator.manual_seed(seed)
            return self.augmented.changed(picture)

    def _require_repeatable(self) -> None:
        rows = torch.arange(min(8, len(self)))
        (one, _), (other, _) = (next(self.batches(len(rows), rows)) for _ in range(2))
        if not torch.equal(one, other):
            msg = (
                f"{self.augmented.transform!r} takes random numbers from elsewhere than torch, so no version of a "
                "picture can be repeated. Use torch.rand and the like, as torchvision.transforms.v2 does."
            )
            raise ValueError(msg)

    def __repr__(self) -> str:
        return f"Views: {counted(self.count, 'version')} of each of {counted(len(self.augmented), 'image')}"


def _kind(pixels: Tensor) -> str:
    return f"{str(pixels.dtype).removeprefix('torch.')} of shape {tuple(pixels.shape)}"
