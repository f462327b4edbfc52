"""Pictures with classes: where they come from, what is wrong with them, how they become pixels."""

from __future__ import annotations

from tlkit.images.augmenting import AugmentedImages
from tlkit.images.decoding import BadImagesError, Geometry, decode
from tlkit.images.preprocessing import Preprocessing
from tlkit.images.quality import Advice, advice, interval
from tlkit.images.sets import ImageSet, Split, load

__all__ = [
    "Advice",
    "AugmentedImages",
    "BadImagesError",
    "Geometry",
    "ImageSet",
    "Preprocessing",
    "Split",
    "advice",
    "decode",
    "interval",
    "load",
]
