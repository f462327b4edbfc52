"""The fine-tune configuration: training options for everything that is not frozen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tlkit.settings import Options

__all__ = ["FineTuneConfiguration"]


@dataclass(frozen=True, kw_only=True, repr=False)
class FineTuneConfiguration(Options):
    """Options for all vertices that are not frozen, and defaults for new layers (DL4J's class of this name).

    Every option of `Options` may be given. One that is left out keeps what a layer has, None removes it, a value
    replaces it. A new layer's own options win over the configuration; the configuration wins over the library's
    defaults. Frozen vertices are never touched, and `activation` never reaches an output.

    Parameters
    ----------
    seed : int, optional
        Seed of new weights and of the order in which `fit` shows the examples.

    Examples
    --------
    >>> from tlkit.updaters import Nesterovs
    >>> tuning = FineTuneConfiguration(updater=Nesterovs(lr=5e-5, momentum=0.9), l2=None, seed=12345)
    >>> FineTuneConfiguration.from_json(tuning.to_json()) == tuning
    True
    """

    seed: int | None = None

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> FineTuneConfiguration:
        """Undo `to_dict`."""
        return cls(**data)

    def to_json(self) -> str:
        """Return the configuration as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> FineTuneConfiguration:
        """Undo `to_json`."""
        return cls.from_dict(json.loads(text))
