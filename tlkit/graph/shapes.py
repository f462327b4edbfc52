"""Run modules on shapes alone, without computing any value."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

__all__ = ["check_rows", "copy_on_meta", "make_meta_examples", "run_on_meta"]

FEW = 1 << 22  # numbers, of a few images


def make_meta_examples(shapes: Mapping[str, Sequence[int]], module: nn.Module, rows: int = 1) -> dict[str, Tensor]:
    """Return examples for each input, without values, of the number type of a module's weights."""
    dtype = next((value.dtype for value in module.parameters() if value.is_floating_point()), None)
    return {name: torch.empty(rows, *shape, dtype=dtype, device="meta") for name, shape in shapes.items()}


@torch.no_grad()
def run_on_meta(module: nn.Module, *arguments: Any, **options: Any) -> Any:
    """Call a copy of a module on shapes alone, in evaluation mode: its weights and the arguments have no values."""
    values = [*module.parameters(), *module.buffers()]
    bounded = torch.get_default_device().type == "meta"  # a file's network is rebuilt: its sizes are not to be trusted
    try:
        with torch.device("meta"):
            return copy_on_meta(module).eval()(*arguments, **options)
    except (RuntimeError, TypeError):
        sizes = [value.numel() for value in arguments if isinstance(value, Tensor)]
        if any(value.is_meta for value in values) or (bounded and sum(sizes) > FEW):
            raise
    # its steps depend on values, or it keeps tensors of its own that are neither parameters nor buffers
    return _on_zeros(module, values, arguments, options)


def copy_on_meta(module: nn.Module) -> nn.Module:
    """Return a copy of a module whose weights and buffers have no values."""
    memo: dict[int, Any] = {id(value): _without_values(value) for value in [*module.parameters(), *module.buffers()]}
    return copy.deepcopy(module, memo)


def check_rows(values: Mapping[str, Tensor], outputs: Sequence[str], rows: int) -> None:
    """Refuse outputs that are not one row an example.

    Parameters
    ----------
    values : mapping of str to Tensor
        What the vertices answer for `rows` examples, in running order.

    Raises
    ------
    ValueError
        When an output has more or fewer rows; the message names the first vertex that does.
    """
    for output in outputs:
        if values[output].shape[:1] != (rows,):
            name, value = next((name, value) for name, value in values.items() if value.shape[:1] != (rows,))
            msg = (
                f"Vertex '{name}' makes shape {tuple(value.shape)} of {rows} examples, so the network would not answer "
                "one row for each of them. The first dimension is that of the examples: keep it in the module, "
                "x.reshape(x.shape[0], ...) or x.flatten(1), or replace the vertex by one that fits what it reads."
            )
            raise ValueError(msg)


def _without_values(value: Tensor) -> Tensor:
    empty = torch.empty_like(value, device="meta")
    return nn.Parameter(empty, requires_grad=False) if isinstance(value, nn.Parameter) else empty


def _on_zeros(module: nn.Module, values: list[Tensor], arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
    where = values[0].device if values else torch.device("cpu")

    def real(value: Any) -> Any:
        return torch.zeros_like(value, device=where) if isinstance(value, Tensor) else value

    def empty(value: Any) -> Any:
        return value.to("meta") if isinstance(value, Tensor) else value

    with torch.device(where):
        answer = copy.deepcopy(module).eval()(*tree_map(real, arguments), **tree_map(real, options))
    return tree_map(empty, answer)
