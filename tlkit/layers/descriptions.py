"""Layers: descriptions of what is yet to be made, with the settings that each may have."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from numbers import Integral
from typing import Any

from torch import nn

import tlkit.layers.modules as modules
from tlkit.errors import near_misses, quoted
from tlkit.layers.activations import check_activation, make_activation
from tlkit.layers.losses import ACTIVATION_OF, check_loss
from tlkit.layers.modules import OPERATIONS, Layer, OutputLayer, as_layer
from tlkit.layers.options import UNSET, Options
from tlkit.layers.plain import make_from_plain

__all__ = [
    "Activation",
    "BatchNorm",
    "Conv2d",
    "Dense",
    "Description",
    "Dropout",
    "ElementWise",
    "Flatten",
    "GlobalPool",
    "LayerDescription",
    "Loss",
    "Merge",
    "Output",
    "Pool2d",
    "Subset",
]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Description:
    """A vertex that is yet to be made; its sizes are inferred from what it reads."""

    def make(self, *shapes: Shape) -> nn.Module:
        """Return the module for inputs of these shapes (without the batch)."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return the description as plain data, for JSON."""
        return {"layer": type(self).__name__, **{f.name: getattr(self, f.name) for f in fields(self)}}


@dataclass(frozen=True, repr=False)
class LayerDescription(Options, Description):
    """A layer with weights that is yet to be made; every option of `Options` may be given by name."""

    mixin = Layer

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.n_out, Integral) or self.n_out < 1:
            msg = f"The width of {type(self).__name__} is a whole number, 1 or more, got {self.n_out}."
            raise ValueError(msg)

    def to_dict(self) -> dict[str, Any]:
        """Return the description as plain data, for JSON."""
        return {"layer": type(self).__name__, **Options.to_dict(self)}

    def make_bare(self, shape: Shape) -> nn.Module:
        """Return the torch layer alone."""
        raise NotImplementedError

    def make(self, *shapes: Shape) -> nn.Module:
        """Return the layer with its dropout and activation, weights not drawn yet."""
        layer = as_layer(self.make_bare(*shapes), self.mixin)
        layer.dropout = None if self.dropout is UNSET or not self.dropout else nn.Dropout(self.dropout)
        layer.activation = make_activation(None if self.activation is UNSET else self.activation)
        layer.weight_noise = None if self.weight_noise is UNSET else self.weight_noise
        return layer


@dataclass(frozen=True, repr=False)
class Dense(LayerDescription):
    """A fully connected layer. Of tokens (n, tokens, d) it takes each by itself.

    Parameters
    ----------
    n_out : int
        Number of units.
    n_in : int, optional
        Size of the input; inferred when left out.

    Examples
    --------
    >>> import tlkit as tl
    >>> tl.Dense(256, activation="relu", dropout=0.5).make((4096,))
    Linear(
      in_features=4096, out_features=256, bias=True
      (dropout): Dropout(p=0.5, inplace=False)
      (activation): ReLU()
    )
    """

    n_out: int
    n_in: int | None = None

    def make_bare(self, shape: Shape) -> nn.Module:
        if len(shape) not in (1, 2):
            msg = (
                f"{type(self).__name__} takes a flat input, got shape {shape}. Put tl.Flatten() or tl.GlobalPool() "
                "between, or read a vertex behind the network's own pooling."
            )
            raise ValueError(msg)
        if len(shape) == 2 and self.activation == "softmax":
            raise _softmax_over_tokens(self, shape)
        return nn.Linear(_checked_n_in(self, shape[-1]), self.n_out)


@dataclass(frozen=True, repr=False)
class Output(Dense):
    """A fully connected layer that answers: softmax and negative log-likelihood unless told otherwise.

    Training uses the loss fused with the activation; the network answers with the activation's values. A label that is
    missing (-100 among class numbers, NaN among numbers) takes no part in the loss.

    Parameters
    ----------
    n_out : int
        Number of classes.
    loss : {"negative_log_likelihood", "binary_cross_entropy", "mean_squared_error", "hinge"}
        What training minimizes: for one class of several; for several labels at once; for numbers; for one class
        against the others by a margin. Each brings its own activation: softmax, sigmoid, identity, identity.
    loss_weight : float
        Factor of this loss where a network has several outputs, whose losses are added.
    """

    loss: str = "negative_log_likelihood"
    loss_weight: float = field(default=1.0, kw_only=True)
    activation: str | None = field(default=UNSET, kw_only=True)

    mixin = OutputLayer

    def __post_init__(self) -> None:
        check_loss(self.loss)
        _check_loss_weight(self.loss_weight)
        if self.activation is UNSET:
            object.__setattr__(self, "activation", ACTIVATION_OF[self.loss])
        super().__post_init__()

    def make(self, *shapes: Shape) -> nn.Module:
        if len(shapes[0]) == 2:
            msg = (
                f"Output answers once an image, and it reads {shapes[0][0]} tokens of {shapes[0][1]} numbers each, "
                f"shape {shapes[0]}. {_FROM_TOKENS}"
            )
            raise ValueError(msg)
        layer = super().make(*shapes)
        layer.loss, layer.loss_weight = self.loss, self.loss_weight
        if layer.activation is None:
            layer.activation = nn.Identity()
        return layer


_FROM_TOKENS = (
    "Make one vector of them first: tl.GlobalPool() averages them; tl.Subset(0, 1), then tl.Flatten(), takes the first "
    "one, which is the class token where there is one."
)


def _softmax_over_tokens(description: Description, shape: Shape) -> ValueError:
    kind = type(description).__name__
    return ValueError(
        f"{kind}'s softmax would go over the {shape[0]} tokens of its input, shape {shape}. {_FROM_TOKENS}"
    )


def _check_loss_weight(value: float) -> None:
    if not value >= 0:
        msg = f"loss_weight is the factor of an output's loss, 0 or more, got {value}."
        raise ValueError(msg)


@dataclass(frozen=True, repr=False)
class Conv2d(LayerDescription):
    """A two-dimensional convolution.

    Parameters
    ----------
    n_out : int
        Number of filters.
    kernel_size, stride, dilation, groups : int
        As in torch.nn.Conv2d.
    padding : int or "same"
        Zeros added on each side.

    Raises
    ------
    ValueError
        For a size that no convolution has.
    """

    n_out: int
    kernel_size: int = 3
    stride: int = 1
    padding: int | str = 0
    dilation: int = 1
    groups: int = 1
    n_in: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_sizes(self, "kernel_size", "stride", "dilation", "groups")
        if self.padding not in ("same", "valid"):
            _check_sizes(self, "padding", least=0)

    def make_bare(self, shape: Shape) -> nn.Module:
        if len(shape) != 3:
            msg = f"Conv2d takes an input of shape (channels, height, width), got {shape}."
            raise ValueError(msg)
        n_in = _checked_n_in(self, shape[0])
        geometry = {name: getattr(self, name) for name in ("stride", "padding", "dilation", "groups")}
        return nn.Conv2d(n_in, self.n_out, self.kernel_size, **geometry)


def _checked_n_in(description: Any, found: int) -> int:
    if description.n_in not in (None, found):
        kind = type(description).__name__
        msg = f"{kind}(n_in={description.n_in}) reads an input of size {found}. Leave n_in out: it is inferred."
        raise ValueError(msg)
    return found


def _check_sizes(description: Description, *names: str, least: int = 1) -> None:
    for name in names:
        value = getattr(description, name)
        sides = value if isinstance(value, (tuple, list)) and len(value) == 2 else [value]
        if not all(isinstance(side, Integral) and side >= least for side in sides):
            words = " or 'same'" if name == "padding" and isinstance(description, Conv2d) else ""
            msg = f"{name} of {type(description).__name__} is a whole number, {least} or more{words}, got {value!r}."
            raise ValueError(msg)


def _check_kind(kind: str, *known: str) -> None:
    if kind not in known:
        msg = f"kind is {quoted(known, 'or')}, got {kind!r}.{near_misses(kind, known)}"
        raise ValueError(msg)


@dataclass(frozen=True)
class BatchNorm(Description):
    """Batch normalization over the channels of its input."""

    def make(self, *shapes: Shape) -> nn.Module:
        kind = {1: nn.BatchNorm1d, 2: nn.BatchNorm1d, 3: nn.BatchNorm2d, 4: nn.BatchNorm3d}[len(shapes[0])]
        return kind(shapes[0][0])


@dataclass(frozen=True)
class Activation(Description):
    """An activation as a vertex of its own."""

    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", check_activation(self.name))

    def make(self, *shapes: Shape) -> nn.Module:
        return make_activation(self.name) or nn.Identity()


@dataclass(frozen=True)
class Dropout(Description):
    """Dropout as a vertex of its own; `p` is the probability to drop an element."""

    p: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.p < 1:
            msg = f"p is the probability to drop an element, at least 0 and below 1, got {self.p}."
            raise ValueError(msg)

    def make(self, *shapes: Shape) -> nn.Module:
        return nn.Dropout(self.p)


@dataclass(frozen=True)
class Flatten(Description):
    """Flatten everything but the batch."""

    def make(self, *shapes: Shape) -> nn.Module:
        return nn.Flatten()


@dataclass(frozen=True)
class GlobalPool(Description):
    """Average or maximum over height and width, or over tokens: (c, h, w) to (c,), (tokens, d) to (d,)."""

    kind: str = "average"

    def __post_init__(self) -> None:
        _check_kind(self.kind, "average", "max")

    def make(self, *shapes: Shape) -> nn.Module:
        if len(shapes[0]) == 2:
            return modules.TokenPool(self.kind)
        if len(shapes[0]) != 3:
            msg = f"GlobalPool takes maps (channels, height, width) or tokens (tokens, d), got shape {shapes[0]}."
            raise ValueError(msg)
        return nn.Sequential({"average": nn.AdaptiveAvgPool2d, "max": nn.AdaptiveMaxPool2d}[self.kind](1), nn.Flatten())


@dataclass(frozen=True)
class Pool2d(Description):
    """Maximum or average pooling (DL4J's SubsamplingLayer)."""

    kind: str = "max"
    kernel_size: int = 2
    stride: int | None = None
    padding: int = 0

    def __post_init__(self) -> None:
        _check_kind(self.kind, "max", "average")
        _check_sizes(self, "kernel_size", *(["stride"] if self.stride is not None else []))
        _check_sizes(self, "padding", least=0)

    def make(self, *shapes: Shape) -> nn.Module:
        pool = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}[self.kind]
        return pool(self.kernel_size, self.stride, self.padding)


@dataclass(frozen=True)
class Loss(Description):
    """A loss and its activation behind a layer that has its weights already (DL4J's LossLayer).

    Parameters
    ----------
    loss, loss_weight
        As those of `Output`.
    """

    loss: str = "negative_log_likelihood"
    loss_weight: float = 1.0

    def __post_init__(self) -> None:
        check_loss(self.loss)
        _check_loss_weight(self.loss_weight)

    def make(self, *shapes: Shape) -> nn.Module:
        if len(shapes[0]) == 2 and ACTIVATION_OF[self.loss] == "softmax":
            raise _softmax_over_tokens(self, shapes[0])
        return modules.Loss(self.loss, self.loss_weight)


@dataclass(frozen=True)
class Merge(Description):
    """Concatenate several inputs along a dimension, 1 for channels (DL4J's MergeVertex)."""

    dim: int = 1

    def make(self, *shapes: Shape) -> nn.Module:
        last = min(map(len, shapes), default=1)
        if not isinstance(self.dim, Integral) or self.dim == 0 or not -last <= self.dim <= last:
            which = "1, the only one" if last == 1 else f"1 to {last}"
            msg = f"dim of Merge is a dimension behind the examples', here {which}, got {self.dim!r}."
            raise ValueError(msg)
        return modules.Merge(self.dim)


@dataclass(frozen=True)
class ElementWise(Description):
    """Combine inputs of one shape: add, subtract, product, average or max (DL4J's ElementWiseVertex)."""

    operation: str = "add"

    def __post_init__(self) -> None:
        if self.operation not in OPERATIONS:
            known = ", ".join(OPERATIONS)
            msg = f"operation is one of {known}, got {self.operation!r}.{near_misses(self.operation, OPERATIONS)}"
            raise ValueError(msg)

    def make(self, *shapes: Shape) -> nn.Module:
        return modules.ElementWise(self.operation)


@dataclass(frozen=True)
class Subset(Description):
    """Channels, or tokens, `start` up to, not including, `stop` (DL4J's SubsetVertex)."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not all(isinstance(place, Integral) for place in (self.start, self.stop)):
            msg = f"start and stop of Subset are whole numbers, got {self.start!r} and {self.stop!r}."
            raise ValueError(msg)

    def make(self, *shapes: Shape) -> nn.Module:
        return modules.Subset(self.start, self.stop)


DESCRIPTIONS = {
    kind.__name__: kind
    for kind in (
        Dense, Output, Loss, Conv2d, BatchNorm, Activation, Dropout, Flatten, GlobalPool, Pool2d, Merge, ElementWise,
        Subset,
    )
}  # fmt: skip


def description_from_dict(data: dict[str, Any]) -> Description:
    """Undo `Description.to_dict`; a ValueError says what does not exist."""
    return make_from_plain(DESCRIPTIONS, "layer", data)
