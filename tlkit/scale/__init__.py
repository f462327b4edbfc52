"""Beyond one machine: the same featurizer on a Ray cluster, and what featurizing many pictures takes.

Nothing of Ray is imported before an engine starts it; ``pip install 'tlkit[ray]'`` brings it.
"""

from __future__ import annotations

import importlib
from typing import Any

from tlkit.errors import near_misses

_HOMES = {"Plan": "planning", "Ray": "engine", "plan": "planning"}

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
