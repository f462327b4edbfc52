"""Noise on weights while a layer trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from tlkit.layers.plain import make_from_plain

__all__ = ["DropConnect", "as_weight_noise"]


@dataclass(frozen=True)
class DropConnect:
    """Drop single weights, anew for each batch, while training (Wan et al., 2013).

    Parameters
    ----------
    p : float
        Probability to drop a weight (DL4J's DropConnect gives the probability to keep it); the others grow by
        1 / (1 - p). Biases stay.
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.p < 1:
            msg = f"p is the probability to drop a weight, at least 0 and below 1, got {self.p}."
            raise ValueError(msg)

    def __call__(self, weight: Tensor) -> Tensor:
        """Return a noisy copy of a weight."""
        return F.dropout(weight, self.p)

    def to_dict(self) -> dict[str, Any]:
        """Return the noise as plain data, for JSON."""
        return {"weight_noise": type(self).__name__, "p": self.p}


def as_weight_noise(value: Any) -> DropConnect:
    """Return weight noise for itself, or for the data of `to_dict`.

    Raises
    ------
    TypeError
        For anything else.
    """
    if isinstance(value, DropConnect):
        return value
    if isinstance(value, Mapping) and value.get("weight_noise") == DropConnect.__name__:
        return make_from_plain({DropConnect.__name__: DropConnect}, "weight_noise", value)
    msg = f"weight_noise is tl.DropConnect(p), or None to remove it, got {value!r}."
    raise TypeError(msg)
