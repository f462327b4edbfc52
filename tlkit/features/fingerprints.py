"""What a module computes, written down so that another text means other features."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator
from types import CodeType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.dropout import _DropoutNd

__all__ = ["described", "digest_of_tensor"]

LIBRARIES = {"torch", "torchvision", "timm", "tlkit", "builtins", "numpy", "math"}
DIGESTED = 1 << 18  # numbers at a time


def described(module: nn.Module) -> str:
    """Write down what a module is made of; dropout is left out, it never acts in a frozen vertex."""
    lines = []
    for name, part in module.named_modules():
        if not isinstance(part, _DropoutNd):
            lines += [f"{name}: {type(part).__name__}({part.extra_repr()})", *_left_out(part)]
    return "\n".join(lines)


def digest_of_tensor(value: Tensor) -> str:
    """Return the sha256 of a tensor's numbers."""
    found = hashlib.sha256()
    for part in value.detach().cpu().contiguous().view(-1).split(DIGESTED):
        # a piece is copied: handing the tensor itself to NumPy would end its sharing of memory with another network
        found.update(part.clone().view(torch.uint8).numpy())
    return found.hexdigest()


def _left_out(part: nn.Module) -> Iterator[str]:
    """Write down what a part's printout leaves out."""
    if isinstance(part, fx.GraphModule):
        yield part.code.strip()
    own = not _of_library(type(part))
    if own or type(part).extra_repr is nn.Module.extra_repr:
        for name, value in sorted(vars(part).items()):
            text = None if name.startswith("_") or name == "training" else _plain(value)
            if text is not None:
                yield f"{name} = {text}"
    if own and not isinstance(part, fx.GraphModule):
        yield f"code: {_Code(type(part)).digest()}"


def _plain(value: Any) -> str | None:
    """Write down a number, text, tensor or function; anything else is None."""
    if isinstance(value, Tensor):
        return digest_of_tensor(value)
    if isinstance(value, (frozenset, set)):
        value = sorted(map(repr, value))
    if inspect.isroutine(value):
        return f"{value.__module__}.{value.__qualname__}"
    try:
        return json.dumps(value)
    except (TypeError, ValueError):
        return None


def _of_library(thing: Any) -> bool:
    return str(getattr(thing, "__module__", "")).partition(".")[0] in LIBRARIES


class _Code:
    """The code that a module of one's own runs, from its `forward` on; names of variables and comments don't count."""

    def __init__(self, kind: type) -> None:
        self.kinds = [base for base in kind.__mro__ if not _of_library(base)]
        self.found: dict[str, Any] = {}
        self._follow("forward", {})

    def digest(self) -> str:
        """Return the sha256 of all of it."""
        return hashlib.sha256(json.dumps(self.found, sort_keys=True).encode()).hexdigest()

    def _follow(self, name: str, names: dict[str, Any]) -> None:
        found = {f"{depth}.{name}": vars(kind)[name] for depth, kind in enumerate(self.kinds) if name in vars(kind)}
        if not found and name in names:
            found = {name: names[name]}
        for place, value in found.items():
            if place in self.found or _of_library(value):
                continue
            function = getattr(value, "fget", None) or getattr(value, "__func__", value)
            code = getattr(function, "__code__", None)
            self.found[place] = list(_instructions(code, function.__doc__)) if code else _plain(value)
            if code:
                cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
                closed = {used: cell.cell_contents for used, cell in cells.items() if used != "__class__"}
                for used in _names(code):
                    self._follow(used, {**function.__globals__, **closed})


def _names(code: CodeType) -> Iterator[str]:
    yield from (*code.co_names, *code.co_freevars)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _instructions(code: CodeType, comment: str | None = None) -> Iterator[str]:
    yield code.co_code.hex()
    yield " ".join(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _instructions(constant)
        elif comment is None or constant != comment:
            yield _plain(constant) or repr(constant)
