"""Checkpoints of a fit on a cluster: one safetensors file that each epoch replaces as a whole."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from tlkit.files.publishing import published
from tlkit.files.weights import copied_out, mapped, write_weights
from tlkit.graph.network import Network
from tlkit.scale.packing import collect_numbers
from tlkit.training.optimizers import Optimizers, join_state, part_state

__all__ = ["Progress", "read_progress", "restore_checkpoint", "write_checkpoint"]


@dataclass
class Progress:
    """How far a fit has come.

    Parameters
    ----------
    epoch : int
        Epochs that are done.
    epochs_seen : int
        Epochs that the network has ever seen.
    examples : int
        Examples shown.
    losses : list of float
        Of each batch.
    stopped : str
        Why training ended before its time, or an empty string.
    ended : bool
        Whether nothing follows.
    """

    epoch: int = 0
    epochs_seen: int = 0
    examples: int = 0
    losses: list[float] = field(default_factory=list)
    stopped: str = ""
    ended: bool = False


def write_checkpoint(net: Network, progress: Progress, path: Path) -> None:
    """Write a network's weights, what its updaters remember, and how far it has come."""
    plain, tensors = part_state(net.optimizers.state() if net.optimizers else {})
    header = {"progress": asdict(progress), "updater_state": plain}
    with published(path, "fit.safetensors") as temporary:
        weights = {name: value.detach().cpu().contiguous() for name, value in collect_numbers(net).items()}
        write_weights(weights | tensors, temporary, {"tlkit": json.dumps(header)})


def read_progress(path: Path) -> Progress:
    """Read how far a fit has come, without the weights."""
    return Progress(**_header(path)["progress"])


def restore_checkpoint(net: Network, path: Path) -> Progress:
    """Give a network the weights, the updaters' memory and the epochs of a checkpoint, and return how far it came."""
    header, tensors = _header(path), copied_out(lambda: mapped(path))
    with torch.no_grad():
        for name, value in collect_numbers(net).items():
            value.copy_(tensors[name])
    Optimizers.of(net).restore(join_state(header["updater_state"], tensors))
    progress = Progress(**header["progress"])
    net.epochs_seen = progress.epochs_seen
    return progress


def _header(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        return json.loads((file.metadata() or {})["tlkit"])
