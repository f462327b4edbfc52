"""Beyond one machine: what featurizing many pictures takes."""

from __future__ import annotations

import importlib
from typing import Any

from tlkit.errors import near_misses

_HOMES = {"Plan": "planning", "plan": "planning"}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(f"tlkit.scale.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    msg = f"tlkit.scale has no '{name}'.{near_misses(name, __all__)}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return list(__all__)
