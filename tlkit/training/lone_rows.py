"""The last row of an epoch, when it is alone: batch normalization that trains cannot take the statistics of one row."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tlkit.graph.network import Network

__all__ = ["count_batches", "join_lone_row"]


def count_batches(net: Network, rows: int, batch_size: int) -> int:
    """Return the batches of an epoch; a last row that batch normalization cannot take alone joins the batch before.

    Raises
    ------
    ValueError
        When every batch has one row, and batch normalization cannot take it.
    """
    lone = batch_size == 1 or rows % batch_size == 1
    name = _find_vertex_that_needs_two(net) if lone else None
    if name is None:
        return -(-rows // batch_size)
    if batch_size == 1 or rows == 1:
        msg = (
            f"'{name}' normalizes by the mean and spread of a batch, and with batch_size={batch_size} and {rows} rows "
            "a batch is a single row. Use batch_size=2 or more and at least two rows, or keep the statistics that are "
            "there: fixed_statistics=True in tl.FineTuneConfiguration."
        )
        raise ValueError(msg)
    return rows // batch_size


def join_lone_row(batches: Iterable[Any], count: int) -> Iterator[tuple[Any, Any]]:
    """Yield `count` batches: a batch beyond them becomes part of the last one."""
    batches = iter(batches)
    yield from itertools.islice(batches, count - 1)
    last, *more = batches
    yield tuple(map(_join, last, *more)) if more else last


def _join(*values: Any) -> Any:
    if isinstance(values[0], Mapping):
        return {name: _join(*(value[name] for value in values)) for name in values[0]}
    return torch.cat(values)


def _find_vertex_that_needs_two(net: Network) -> str | None:
    """Return a vertex whose batch normalization trains, and sees one value for each channel of an example."""
    mode = net.training
    net.train()
    training = {part: name for name, vertex in net.vertices.items() for part in _trained_norms(vertex.module)}
    net.train(mode)
    found = []

    def watch(name: str) -> Any:
        def note(part: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if inputs[0].shape[2:].numel() == 1:
                found.append(name)

        return note

    handles = [part.register_forward_pre_hook(watch(name)) for part, name in training.items()]
    try:
        if training:
            net.output_shapes()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def _trained_norms(module: nn.Module) -> list[nn.Module]:
    return [part for part in module.modules() if isinstance(part, _BatchNorm) and part.training]
