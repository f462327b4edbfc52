"""Small stores, photos and networks, the same in every process that makes them."""

from __future__ import annotations

from pathlib import Path

import torch
from nets import narrow_vgg16, seeded
from PIL import Image

import tlkit as tl
from tlkit.features.store import FeatureStore, StoreSpec
from tlkit.helper import TransferLearningHelper

ROWS_PER_SHARD = 4
CLASSES = ("daisy", "roses")


def make_spec(rows: int, **changes: object) -> StoreSpec:
    """A store of rows that follow from their numbers."""
    fields = {
        "key": {"graph": "conv relu", "weights": {"conv.weight": "1"}},
        "shapes": {"fc2": (16,)},
        "dtype": "float32",
        "classes": CLASSES,
        "labels": torch.arange(rows) % 2,
        "images": [{"path": f"roses/{k} ä.jpg", "size": 10, "sha256": f"{k:064}"} for k in range(rows)],
        "rows_per_shard": ROWS_PER_SHARD,
    }
    return StoreSpec(**{**fields, **changes})


def values(rows: range, width: int = 16) -> dict[str, torch.Tensor]:
    """The features of some rows."""
    numbers = torch.tensor(rows, dtype=torch.float32)
    return {"fc2": numbers[:, None] + torch.arange(width) / 2**15}


class Compute:
    """Gives the features of some rows, and notes which shards were asked for."""

    def __init__(self, width: int = 16) -> None:
        self.width = width
        self.asked = []

    def __call__(self, rows: range) -> dict[str, torch.Tensor]:
        self.asked.append(rows[0] // ROWS_PER_SHARD)
        return values(rows, self.width)


def fill(path: Path, spec: StoreSpec, compute: Compute | None = None) -> tuple[FeatureStore, Compute]:
    """Fill a store and return it with its note of what was computed."""
    compute = compute or Compute()
    return FeatureStore.fill(path, spec, compute, progress=False), compute


def shard_file(path: Path, number: int, suffix: str = "safetensors") -> Path:
    """A file of a complete store."""
    [file] = (Path(path) / "shards").glob(f"{number:05d}-*.{suffix}")
    return file


def shard_bytes(path: Path) -> dict[str, bytes]:
    """The bytes of every shard by the name of its file."""
    return {file.name: file.read_bytes() for file in sorted((Path(path) / "shards").glob("*.safetensors"))}


def make_photos(folder: Path, count: int = 24) -> Path:
    """A folder of small pictures of two classes."""
    for number in range(count):
        of_class = folder / CLASSES[number % 2]
        of_class.mkdir(parents=True, exist_ok=True)
        save_picture(of_class / f"{number}.png", number)
    return folder


def save_picture(path: Path, seed: int) -> None:
    """Save a small picture that follows from the seed."""
    with seeded(seed):
        pixels = torch.randint(0, 256, (40, 48, 3), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(path)


def make_helper(boundary: str = "block4_pool", *, batch_norm: bool = False, **preprocessing: object):
    """A helper of a small frozen network that reads photos."""
    net = narrow_vgg16(batch_norm=batch_norm, classes=2).freeze(boundary)
    net.preprocessing = tl.Preprocessing(**{"size": 32, "resize": 36, **preprocessing})
    return TransferLearningHelper(net)


def read_photos(folder: Path, helper: TransferLearningHelper, **options: object):
    """The photos as the helper's network expects them."""
    return tl.images.load(folder, split=None, size=helper.network.preprocessing, **options)
