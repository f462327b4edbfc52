"""Where a network's weights are, and what it reads brought there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["find_device", "move"]


def find_device(net: nn.Module) -> torch.device:
    """Return where a network's weights are; one without any is on the CPU."""
    return next(net.parameters(), next(net.buffers(), torch.empty(0))).device


def move(value: Any, device: torch.device) -> Any:
    """Return tensors on a device, those in mappings and tuples too; what is there already is not copied.

    Examples
    --------
    >>> import torch
    >>> from tlkit.features.moving import move
    >>> move(({"x": torch.zeros(1)}, torch.ones(1)), torch.device("cpu"))
    ({'x': tensor([0.])}, tensor([1.]))
    """
    if isinstance(value, Mapping):
        return {name: move(one, device) for name, one in value.items()}
    if isinstance(value, tuple):
        return tuple(move(one, device) for one in value)
    if isinstance(value, Tensor) and device.type == "cuda" and value.device.type == "cpu":
        return value.pin_memory().to(device, non_blocking=True)  # the CPU goes on, such as decoding, meanwhile
    return value.to(device) if isinstance(value, Tensor) else value
