"""A network on its way to other processes: its structure goes with the job, its weights lie in a file."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from tlkit.files.weights import copied_out, mapped, write_weights
from tlkit.graph.network import Network

__all__ = ["fill_network", "make_network", "collect_numbers", "copy_structure", "write_network"]


def copy_structure(net: Network) -> Network:
    """Return a copy whose weights have shapes and number types only, so that it is small to send."""
    return _with_space(net, "meta")


def write_network(net: Network, path: Path) -> None:
    """Write all numbers of a network to a safetensors file."""
    write_weights({name: value.detach().cpu().contiguous() for name, value in collect_numbers(net).items()}, path, {})


def fill_network(structure: Network, path: Path, device: str = "cpu") -> Network:
    """Return a network of this structure with the numbers of a file."""
    net, values = make_network(structure, device), copied_out(lambda: mapped(path))
    with torch.no_grad():
        for name, value in collect_numbers(net).items():
            value.copy_(values[name])
    return net


def make_network(structure: Network, device: str = "cpu") -> Network:
    """Return a network of this structure whose numbers are still to be filled in."""
    return _with_space(structure, device)


def collect_numbers(net: Network) -> dict[str, Tensor]:
    """Return all tensors of a network by name, those that a state dict leaves out too."""
    return {
        **dict(net.named_buffers(remove_duplicate=False)),
        **dict(net.named_parameters(remove_duplicate=False)),
    }


def _with_space(net: Network, device: str) -> Network:
    memo: dict[int, object] = {id(net.optimizers): None}
    for tensor in [*net.parameters(), *net.buffers()]:
        space = torch.empty_like(tensor.detach(), device=device)
        memo[id(tensor)] = nn.Parameter(space, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else space
    return copy.deepcopy(net, memo)
