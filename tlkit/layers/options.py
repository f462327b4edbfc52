"""Options of a layer, in three states: not set, removed (None), or a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from tlkit.errors import near_misses
from tlkit.layers.constraints import Constraint, as_constraints
from tlkit.layers.initializers import Distribution, as_weight_init
from tlkit.layers.noise import DropConnect, as_weight_noise
from tlkit.layers.updaters import Updater, as_updater

__all__ = ["GRADIENT_NORMALIZATIONS", "UNSET", "Options", "Settings"]

GRADIENT_NORMALIZATIONS = (
    "clip_value",  # every element into [-threshold, threshold]
    "clip_norm_per_layer",  # L2 norm of a layer's gradient to at most threshold
    "clip_norm_per_parameter",  # the same for each parameter alone
    "renormalize_per_layer",  # divide by the L2 norm of the layer's gradient
    "renormalize_per_parameter",
)


class _Unset:
    """The state of an option that was not given."""

    def __repr__(self) -> str:
        return "UNSET"

    def __copy__(self) -> _Unset:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> _Unset:
        return self


UNSET: Any = _Unset()


@dataclass(frozen=True)
class Settings:
    """How the weights of one vertex are trained (all resolved, nothing unset)."""

    updater: Updater | None = None
    bias_updater: Updater | None = None
    l1: float = 0.0
    l2: float = 0.0
    weight_decay: float = 0.0
    l1_bias: float = 0.0
    l2_bias: float = 0.0
    weight_decay_bias: float = 0.0
    gradient_normalization: str | None = None
    gradient_normalization_threshold: float = 1.0
    constraints: tuple[Constraint, ...] = ()
    fixed_statistics: bool | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class Options:
    """Options that a layer and a fine-tune configuration have in common.

    Leaving one out keeps what is there, None removes it, a value replaces it.

    Parameters
    ----------
    activation : str
        Name of the activation behind the layer: "relu", "tanh", "softmax", "identity", ...
    weight_init : str or Distribution
        How new weights are drawn: "xavier", "relu", ... or ``tl.Normal(0, 0.01)``.
    bias_init : float
        Value of new biases.
    dropout : float
        Probability with which an element of the layer's INPUT is dropped (DL4J's dropOut gives the probability
        to keep it).
    updater : Updater or functools.partial of a torch.optim class
        Rule that turns gradients into steps; the learning rate lives in it.
    bias_updater : Updater or functools.partial of a torch.optim class
        Another one for the biases.
    l1, l2 : float
        Penalties on the weights (not on biases), added to the gradient.
    weight_decay : float
        Share of each weight, times the learning rate, taken off with each step.
    l1_bias, l2_bias, weight_decay_bias : float
        The same for the biases (of weight layers; the shift of a normalization is no bias).
    weight_noise : DropConnect
        Noise on the weights while training.
    gradient_normalization : str
        One of `GRADIENT_NORMALIZATIONS`.
    gradient_normalization_threshold : float
        Its bound.
    constraints : Constraint or sequence of Constraint
        What the weights (not biases) are brought back to after each step: `tl.MaxNorm`, `tl.UnitNorm`,
        `tl.NonNegative`.
    fixed_statistics : bool
        Whether batch normalization goes on using the statistics it has, and keeps them, while its scale and shift
        train: few images give poor statistics. When left out, it does in vertices whose weights were learned in an
        earlier training, and not in fresh ones, see `Network.fresh`.
    """

    activation: str | None = field(default=UNSET)
    weight_init: str | Distribution | None = field(default=UNSET)
    bias_init: float | None = field(default=UNSET)
    dropout: float | None = field(default=UNSET)
    updater: Any = field(default=UNSET)
    bias_updater: Any = field(default=UNSET)
    l1: float | None = field(default=UNSET)
    l2: float | None = field(default=UNSET)
    weight_decay: float | None = field(default=UNSET)
    l1_bias: float | None = field(default=UNSET)
    l2_bias: float | None = field(default=UNSET)
    weight_decay_bias: float | None = field(default=UNSET)
    weight_noise: DropConnect | None = field(default=UNSET)
    gradient_normalization: str | None = field(default=UNSET)
    gradient_normalization_threshold: float | None = field(default=UNSET)
    constraints: Any = field(default=UNSET)
    fixed_statistics: bool | None = field(default=UNSET)

    def __new__(cls, *arguments: Any, **options: Any) -> Options:
        """Answer an option that does not exist with the ones that do."""
        known = [f.name for f in fields(cls)]
        for name in options:
            if name not in known:
                rate = " The learning rate lives in the updater: updater=tl.Adam(lr=1e-3)."
                hint = rate if name in ("lr", "learning_rate") else near_misses(name, known)
                msg = f"{cls.__name__} has no option '{name}'.{hint} The options are {', '.join(known)}."
                raise TypeError(msg)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        from tlkit.layers.activations import check_activation

        for names, read in (
            (("updater", "bias_updater"), as_updater),
            (("weight_init",), as_weight_init),
            (("activation",), check_activation),
            (("weight_noise",), as_weight_noise),
            (("constraints",), as_constraints),
        ):
            for name in names:
                if _given(value := getattr(self, name)):
                    object.__setattr__(self, name, read(value))
        if _given(self.dropout) and not 0 <= self.dropout < 1:
            msg = f"dropout is the probability to drop an element, at least 0 and below 1, got {self.dropout}."
            raise ValueError(msg)
        for name in ("l1", "l2", "weight_decay", "l1_bias", "l2_bias", "weight_decay_bias"):
            value = getattr(self, name)
            if _given(value) and value < 0:
                msg = f"{name} must not be negative, got {value}. Use 0 or None to remove it."
                raise ValueError(msg)
        kind = self.gradient_normalization
        if _given(kind) and kind not in GRADIENT_NORMALIZATIONS:
            msg = (
                f"gradient_normalization is one of {', '.join(GRADIENT_NORMALIZATIONS)}, got {kind!r}."
                f"{near_misses(kind, GRADIENT_NORMALIZATIONS)}"
            )
            raise ValueError(msg)

    def given(self) -> dict[str, Any]:
        """Return the options that were given, None included."""
        return {f.name: getattr(self, f.name) for f in fields(Options) if getattr(self, f.name) is not UNSET}

    def settings(self, before: Settings) -> Settings:
        """Return `before` with the given training options replaced and the removed ones at their default."""
        names = {f.name for f in fields(Settings)}
        blank = Settings()
        changed = {
            name: getattr(blank, name) if value is None else value
            for name, value in self.given().items()
            if name in names
        }
        return Settings(**{name: changed.get(name, getattr(before, name)) for name in names})

    def to_dict(self) -> dict[str, Any]:
        """Return everything that was given as plain data, for JSON."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not UNSET}
        return {name: to_plain(value) for name, value in given.items()}

    def __repr__(self) -> str:
        own = [f for f in fields(self) if f.name not in {option.name for option in fields(Options)}]
        shown = {f.name: getattr(self, f.name) for f in own if getattr(self, f.name) != f.default} | self.given()
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def to_plain(value: Any) -> Any:
    """Return an option's value as plain data, for JSON."""
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return value.to_dict() if hasattr(value, "to_dict") else value


def _given(value: Any) -> bool:
    return value is not UNSET and value is not None
