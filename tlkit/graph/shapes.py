"""Run modules on shapes alone, without computing any value."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

__all__ = ["run_on_meta", "make_meta_examples"]


def make_meta_examples(shapes: Mapping[str, Sequence[int]], module: nn.Module) -> dict[str, Tensor]:
    """Return one example for each input, without values, of the number type of a module's weights."""
    dtype = next((value.dtype for value in module.parameters() if value.is_floating_point()), None)
    return {name: torch.empty(1, *shape, dtype=dtype, device="meta") for name, shape in shapes.items()}


@torch.no_grad()
def run_on_meta(module: nn.Module, *arguments: Any, **options: Any) -> Any:
    """Call a copy of a module on shapes alone, in evaluation mode: its weights and the arguments have no values."""
    values = [*module.parameters(), *module.buffers()]
    memo: dict[int, Any] = {id(value): _without_values(value) for value in values}
    try:
        with torch.device("meta"):
            return copy.deepcopy(module, memo).eval()(*arguments, **options)
    except (RuntimeError, TypeError):
        if any(value.is_meta for value in values):
            raise
    # its steps depend on values, or it keeps tensors of its own that are neither parameters nor buffers
    return _on_zeros(module, values, arguments, options)


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
