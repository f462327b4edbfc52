"""The pictures that the programs beside this one measure on, and what they find when none are named.

    python benchmarks/photos.py

Flower photos where there are some: TLKIT_TEST_PHOTOS, an archive or a folder, as for the tests. Else drawn flowers,
which are smaller files, so that decoding them takes less time than photos do.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

import tlkit as tl

__all__ = ["described", "found", "load"]

PLACES = (
    os.environ.get("TLKIT_TEST_PHOTOS", ""),
    Path(__file__).parent.parent.parent / "shared" / "data" / "flower_photos.tgz",
)
CLASSES = 5


def found() -> str:
    """Return the source for `tl.images.load`: an archive or a folder of photos, or "drawn"."""
    return next((str(place) for place in PLACES if str(place) and Path(place).exists()), "drawn")


def load(count: int, size: int | tl.Preprocessing, source: str | None = None, **options: object) -> tl.ImageSet:
    """Return so many pictures as one set, as many of each class."""
    return tl.images.load(source or found(), split=None, size=size, per_class=count // CLASSES, **options)


def described(source: str) -> str:
    """Say what the pictures are."""
    return "drawn flowers (no photos: set TLKIT_TEST_PHOTOS)" if source == "drawn" else "photos"


def main() -> None:
    """Print what will be measured on."""
    print(f"pictures: {described(found())}; {torch.get_num_threads()} threads; PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()
