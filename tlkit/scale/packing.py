"""A network on its way to other processes: its structure goes with the job, its weights lie in a file."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from tlkit.graph import Network
from tlkit.weights import copied_out, mapped, write_weights

__all__ = ["filled_network", "structure_of", "write_network"]


def structure_of(net: Network) -> Network:
    """Return a copy whose weights have shapes and number types only, so that it is small to send."""
    memo: dict[int, object] = {}
    for tensor in [*net.parameters(), *net.buffers()]:
        empty = torch.empty_like(tensor.detach(), device="meta")
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
    memo[id(net.optimizers)] = None
    return copy.deepcopy(net, memo)


def write_network(net: Network, path: Path) -> None:
    """Write all numbers of a network, those that a state dict leaves out too, to a safetensors file."""
    values = {name: value.detach().cpu().contiguous() for name, value in _named(net).items()}
    write_weights(values, path, {})


def filled_network(structure: Network, path: str | os.PathLike[str], device: str = "cpu") -> Network:
    """Return a network of this structure with the numbers of a file."""
    values = copied_out(lambda: mapped(Path(path)))
    net = copy.deepcopy(structure)
    for name, old in _named(net).items():
        owner, _, last = name.rpartition(".")
        new = values[name].to(device)
        kept = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
        module = net.get_submodule(owner)
        (module._parameters if last in module._parameters else module._buffers)[last] = kept
    return net


def _named(net: Network) -> dict[str, Tensor]:
    return {
        **dict(net.named_buffers(remove_duplicate=False)),
        **dict(net.named_parameters(remove_duplicate=False)),
    }
