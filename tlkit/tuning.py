"""The fine-tune configuration: training options for everything that is not frozen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from tlkit.layers.options import Options
from tlkit.layers.updaters import Updater, as_updater

__all__ = ["FineTuneConfiguration"]


@dataclass(frozen=True, kw_only=True, repr=False)
class FineTuneConfiguration(Options):
    """How the vertices of a network train, and defaults for new layers (DL4J's class of this name).

    Every option of `Options` may be given. One that is left out keeps what a layer has, None removes it, a value
    replaces it. A new layer's own options win over the configuration; the configuration wins over the library's
    defaults. What a frozen vertex computes is never touched: `activation`, `dropout` and `weight_noise` pass it by,
    and its updater and penalties wait until it is unfrozen. `activation` never reaches an output.

    Parameters
    ----------
    seed : int, optional
        Seed of new weights and of the order in which `fit` shows the examples.
    updaters : mapping of str to Updater, optional
        Other updaters for some vertices, by patterns over their names: ``{"block5_*": tl.Adam(1e-5)}`` lets block 5
        learn slowly. The last pattern that matches a vertex counts, before `updater`.

    Examples
    --------
    >>> import tlkit as tl
    >>> tuning = tl.FineTuneConfiguration(updater=tl.Nesterovs(lr=5e-5, momentum=0.9), l2=None, seed=12345)
    >>> tl.FineTuneConfiguration.from_json(tuning.to_json()) == tuning
    True
    """

    seed: int | None = None
    updaters: Mapping[str, Updater] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.updaters is None:
            return
        if not isinstance(self.updaters, Mapping):
            msg = f"updaters gives updaters by vertex, such as {{'block5_*': tl.Adam(1e-5)}}, got {self.updaters!r}."
            raise TypeError(msg)
        object.__setattr__(self, "updaters", {pattern: as_updater(u) for pattern, u in self.updaters.items()})

    def for_vertex(self, name: str) -> FineTuneConfiguration:
        """Return the configuration with the updater that a vertex of this name gets."""
        found = [updater for pattern, updater in (self.updaters or {}).items() if matches(pattern, name)]
        return replace(self, updater=found[-1]) if found else self

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> FineTuneConfiguration:
        """Undo `to_dict`."""
        return cls(**data)

    def to_dict(self) -> dict[str, Any]:
        """Return everything that was given as plain data, for JSON."""
        return {name: value for name, value in super().to_dict().items() if (name, value) != ("updaters", None)}

    def to_json(self) -> str:
        """Return the configuration as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> FineTuneConfiguration:
        """Undo `to_json`."""
        return cls.from_dict(json.loads(text))


def matches(pattern: str, name: str) -> bool:
    """Say whether a pattern such as "block5_*" is meant for a vertex; dots are spelled as in module paths."""
    return fnmatchcase(name, pattern.replace(".", "_"))
