"""Constraints: what weights are brought back to after each training step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from tlkit.errors import near_misses
from tlkit.layers.plain import make_from_plain

__all__ = ["Constraint", "MaxNorm", "NonNegative", "UnitNorm", "as_constraints"]


@dataclass(frozen=True)
class Constraint:
    """A rule for the weights of one layer, as data; the weights that lead to one unit are one vector."""

    def apply(self, weight: Tensor) -> None:
        """Change a weight of shape (units, ...) in place."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return the constraint as plain data, for JSON."""
        return {"constraint": type(self).__name__, **asdict(self)}


@dataclass(frozen=True)
class MaxNorm(Constraint):
    """Shorten a unit's weights to an L2 norm of at most `maximum` (Srebro et al., 2005)."""

    maximum: float = 2.0

    def __post_init__(self) -> None:
        if self.maximum <= 0:
            msg = f"maximum is the largest L2 norm of a unit's weights, above 0, got {self.maximum}."
            raise ValueError(msg)

    def apply(self, weight: Tensor) -> None:
        norm = _norms(weight)
        weight.mul_(norm.clamp(max=self.maximum) / norm)


@dataclass(frozen=True)
class UnitNorm(Constraint):
    """Bring a unit's weights to an L2 norm of 1."""

    def apply(self, weight: Tensor) -> None:
        weight.div_(_norms(weight))


@dataclass(frozen=True)
class NonNegative(Constraint):
    """Set negative weights to 0."""

    def apply(self, weight: Tensor) -> None:
        weight.clamp_(min=0)


def _norms(weight: Tensor) -> Tensor:
    rows = weight.flatten(1).norm(dim=1).clamp(min=1e-12)
    return rows.reshape(-1, *[1] * (weight.ndim - 1))


NAMED = {kind.__name__: kind for kind in (MaxNorm, NonNegative, UnitNorm)}


def as_constraints(value: Any) -> tuple[Constraint, ...]:
    """Return constraints for one, several, or the data of `to_dict`.

    Raises
    ------
    TypeError
        For anything else.
    """
    values = value if isinstance(value, (list, tuple)) else [value]
    return tuple(_as_constraint(item) for item in values)


def _as_constraint(value: Any) -> Constraint:
    if isinstance(value, Constraint):
        return value
    if isinstance(value, Mapping) and value.get("constraint") in NAMED:
        return make_from_plain(NAMED, "constraint", value)
    msg = (
        f"A constraint is one of {', '.join(NAMED)} (for example tl.MaxNorm(2.0)), got {value!r}."
        f"{near_misses(str(value), NAMED)}"
    )
    raise TypeError(msg)
