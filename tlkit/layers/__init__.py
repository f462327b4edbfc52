"""Descriptions of new layers, and what they are made of: modules, activations, losses, initializers, updaters."""

from __future__ import annotations

from tlkit.layers.descriptions import (
    Activation,
    BatchNorm,
    Conv2d,
    Dense,
    Description,
    Dropout,
    ElementWise,
    Flatten,
    GlobalPool,
    LayerDescription,
    Loss,
    Merge,
    Output,
    Pool2d,
    Subset,
)

__all__ = [
    "Activation",
    "BatchNorm",
    "Conv2d",
    "Dense",
    "Description",
    "Dropout",
    "ElementWise",
    "Flatten",
    "GlobalPool",
    "LayerDescription",
    "Loss",
    "Merge",
    "Output",
    "Pool2d",
    "Subset",
]
