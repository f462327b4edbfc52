"""Copies of modules that share the memory of their weights until one of the two changes it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["copy_module", "copy_state"]


def copy_module(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """Copy a module; vertices that share weights share them in the copy too.

    Parameters
    ----------
    module : nn.Module
    memo : dict of int to object
        As that of `copy.deepcopy`: what was copied before, by identity. Modules that share weights are copied with
        one memo.

    Examples
    --------
    >>> from tlkit.files.copying import copy_module
    >>> from torch import nn
    >>> twin = copy_module(nn.Linear(4, 2), {})
    >>> twin.weight.shape
    torch.Size([2, 4])
    """
    for tensor in [*module.parameters(), *module.buffers()]:
        if id(tensor) not in memo:
            twin = _copy_tensor(tensor.detach())
            memo[id(tensor)] = nn.Parameter(twin, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else twin
    return copy.deepcopy(module, memo)


def copy_state(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a state dict; what never changes takes no memory of its own."""
    return {name: _copy_tensor(value.detach()) for name, value in module.state_dict(keep_vars=True).items()}


def _copy_tensor(tensor: Tensor) -> Tensor:
    """Copy a tensor; where torch can do that safely, memory is copied only when one of the two is written to.

    The only place that calls torch's lazy clone, which is not public: a torch without it copies at once.
    """
    # not on other devices, where optimizers write past the copy-on-write mark, and not in memory that is not torch's
    # own (files, torch.load, other processes) or that NumPy sees too: writing there would crash, or change both
    lazily = tensor.device.type == "cpu" and tensor.untyped_storage().resizable() and not tensor.is_shared()
    return torch._lazy_clone(tensor) if lazily and hasattr(torch, "_lazy_clone") else tensor.clone()
