"""Small feature stores for tests."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from tlkit.features.store import FeatureStore, StoreSpec

ROWS, SIZE, SHARDS = 50, 8, 7


CLASSES = ("daisy", "roses", "tulips")


def image(number, version="1"):
    content = f"{number} {version}".encode()
    return {"path": f"roses/photo {number} ä.jpg", "size": 10, "sha256": hashlib.sha256(content).hexdigest()}


def make_spec(rows=ROWS, **changes):
    fields = {
        "key": {
            "graph": "conv relu",
            "weights": {"block5_conv3.weight": "1", "block5_conv3.bias": "2"},
            "preprocessing": {"resize": 256},
        },
        "shapes": {"fc2": (4,)},
        "dtype": "float32",
        "classes": CLASSES,
        "labels": torch.arange(rows) % 3,
        "images": [image(k) for k in range(rows)],
        "rows_per_shard": SIZE,
    }
    return StoreSpec(**{**fields, **changes})


class Compute:
    """Features that follow from the row number, and a note of which shards and rows were asked for."""

    def __init__(self, shapes=None, stop_at=None):
        self.shapes = shapes or {"fc2": (4,)}
        self.stop_at = stop_at
        self.asked = []
        self.rows = []

    def __call__(self, rows):
        self.asked.append(rows[0] // SIZE)
        self.rows += rows
        if self.asked[-1] == self.stop_at:
            raise KeyboardInterrupt
        return {name: values(rows, shape) for name, shape in self.shapes.items()}


def values(rows, shape=(4,)):
    numbers = torch.tensor(rows, dtype=torch.float32)
    width = int(torch.tensor(shape).prod()) if shape else 1
    return (numbers[:, None] + torch.arange(width) / 128).reshape(len(rows), *shape)


def fill(path, spec=None, compute=None):
    compute = compute or Compute()
    return FeatureStore.fill(path, spec or make_spec(), compute, progress=False), compute


def shard_bytes(path):
    return {file.name: file.read_bytes() for file in sorted((Path(path) / "shards").glob("*.safetensors"))}


def shard_file(path, number, suffix="safetensors", spec=None):
    shard = (spec or make_spec()).layout.shards[number]
    return shard.data(Path(path)) if suffix == "safetensors" else shard.record(Path(path))


def changed_key(**changes):
    return make_spec(key={**make_spec().key, **changes})
