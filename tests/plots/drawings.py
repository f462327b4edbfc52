"""What the tests of figures draw, and how they look into what was drawn."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from PIL import Image

from tlkit.plots.figure import Picture

__all__ = ["FLOWERS", "Photos", "frames", "history", "patches", "texts", "vgg16"]

FLOWERS = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
CONVOLUTIONS = {
    "block1": (3, 64),
    "block2": (64, 128),
    "block3": (128, 256),
    "block4": (256, 512),
    "block5": (512, 512),
}


class Photos:
    """Smooth colored noise behind the data protocol: about as hard to compress as photos of flowers."""

    classes = FLOWERS

    def __init__(self, count: int = 40) -> None:
        self.labels = torch.arange(count) % 5

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, batch_size, order=None):
        pixels = [np.random.default_rng(int(row)).integers(0, 255, (6, 6, 3), dtype=np.uint8) for row in order]
        photos = [np.asarray(Image.fromarray(p).resize((224, 224), Image.Resampling.BICUBIC)) for p in pixels]
        yield torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2), self.labels[order]


def vgg16(boundary: str) -> list[tuple[str, str, int, bool]]:
    blocks = []
    for block, (before, width) in CONVOLUTIONS.items():
        for number in range(2 if block < "block3" else 3):
            channels = before if number == 0 else width
            blocks.append((f"{block}_conv{number + 1}", "Conv2d", 9 * channels * width + width))
        blocks.append((f"{block}_pool", "MaxPool", 0))
    blocks += [("flatten", "Flatten", 0), ("fc1", "Dense", 102764544), ("fc2", "Dense", 16781312)]
    blocks.append(("predictions", "Output", 20485))
    last = [name for name, *_ in blocks].index(boundary)
    return [(*block, number <= last) for number, block in enumerate(blocks)]


def history(best: float, count: int = 30) -> SimpleNamespace:
    losses = [1.6 - best * step / count for step in range(count)]
    return SimpleNamespace(losses=losses, evaluations=[(step, best * step / count) for step in range(0, count + 1, 5)])


def texts(picture: Picture) -> list[str]:
    axes = picture.figure.axes[0]
    return [text.get_text() for text in [*picture.figure.texts, *axes.texts]]


def patches(picture: Picture, color: str) -> list[Rectangle]:
    found = [patch for patch in picture.figure.axes[0].patches if isinstance(patch, Rectangle)]
    return [patch for patch in found if to_hex(patch.get_facecolor()).upper() == color and patch.get_fill()]


def frames(picture: Picture, color: str) -> int:
    found = [patch for patch in picture.figure.axes[0].patches if not patch.get_fill()]
    return sum(to_hex(patch.get_edgecolor()).upper() == color for patch in found)
