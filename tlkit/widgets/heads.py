"""A new head on featurized data: its layers and how it is trained, described and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import Any

from tlkit.errors import quoted
from tlkit.layers.descriptions import Dense, Description, Flatten, GlobalPool, Output

__all__ = ["ACTIVATION", "WEIGHT_INIT", "Head"]

ACTIVATION = "relu"  # of a hidden layer of which nothing else is said
WEIGHT_INIT = "xavier"


@dataclass(frozen=True)
class Head:
    """A head that is yet to be made, and how it is trained.

    Parameters
    ----------
    layers : sequence of Dense
        The hidden layers and, last, the `tl.Output`. Of each one the width, the activation, the dropout and the
        initialization of its weights may be given; they are kept in one form, without what is the default.
    learning_rate : float
        Of Nesterov's momentum.
    epochs : int
        Passes over the training data.
    pooling : bool
        Whether features with height and width are averaged over both, or read number by number.

    Examples
    --------
    >>> import tlkit as tl
    >>> from tlkit.widgets.heads import Head
    >>> head = Head([tl.Dense(256, activation="relu", dropout=0.0), tl.Output(5)])
    >>> head.layers
    (Dense(n_out=256, activation='relu'), Output(n_out=5, activation='softmax'))
    >>> head.with_layers((1024, 256)).words
    '1024-256'
    """

    layers: tuple[Dense, ...]
    learning_rate: float = 1e-2
    epochs: int = 5
    pooling: bool = True

    def __post_init__(self) -> None:
        *hidden, output = self.layers
        object.__setattr__(self, "layers", (*map(_hidden, hidden), _output(output)))
        if not self.learning_rate > 0:
            msg = f"The learning rate is a number above 0, such as 0.01; got {self.learning_rate!r}."
            raise ValueError(msg)
        if not isinstance(self.epochs, int) or self.epochs < 1:
            msg = f"epochs is a whole number of passes over the data, at least 1; got {self.epochs!r}."
            raise ValueError(msg)

    @property
    def hidden(self) -> tuple[Dense, ...]:
        """The hidden layers."""
        return self.layers[:-1]

    @property
    def output(self) -> Output:
        """The output layer."""
        return self.layers[-1]

    @property
    def words(self) -> str:
        """The widths as they are spoken of: "1024-256", or "no hidden layer"."""
        return "-".join(str(layer.n_out) for layer in self.hidden) or "no hidden layer"

    def with_layers(self, layers: Sequence[int | Description]) -> Head:
        """Return this head with other layers.

        A hidden layer is a description, or a width alone: then the rest is that of the layer in its place so far. The
        output stays where none is given; pooling follows a leading `tl.GlobalPool()` or `tl.Flatten()`.

        Raises
        ------
        TypeError, ValueError
            When a layer is none, says what a head cannot hold, or the output has another number of classes.
        """
        layers, pooling, output = list(layers), self.pooling, self.output
        if layers and isinstance(layers[0], (GlobalPool, Flatten)):
            pooling = isinstance(layers.pop(0), GlobalPool)
        if layers and isinstance(layers[-1], Output):
            output = layers.pop()
            if output.n_out != self.output.n_out:
                msg = f"The data have {self.output.n_out} classes, so the output has as many; got {output!r}."
                raise ValueError(msg)
        hidden = [self._of_width(number, layer) for number, layer in enumerate(layers)]
        return replace(self, layers=(*hidden, output), pooling=pooling)

    def _of_width(self, number: int, layer: Any) -> Any:
        if isinstance(layer, Description):
            return layer
        if not isinstance(layer, int) or isinstance(layer, bool) or layer < 1:
            msg = f"A hidden layer has a whole number of units, at least 1, such as 256; got {layer!r}."
            raise ValueError(msg)
        before = self.hidden[number : number + 1]
        return replace(before[0], n_out=layer) if before else Dense(layer, activation=ACTIVATION)

    def vertices(self, shape: tuple[int, ...]) -> list[tuple[str, Description]]:
        """Return the vertices of the chain behind features of a shape: names and descriptions."""
        chain: list[tuple[str, Description]] = []
        if len(shape) == 3 and self.pooling:
            chain.append(("pool", GlobalPool()))
        elif len(shape) > 1:
            chain.append(("flat", Flatten()))
        chain += [(f"hidden{number}", layer) for number, layer in enumerate(self.hidden, start=1)]
        return [*chain, ("predictions", self.output)]

    def count(self, shape: tuple[int, ...]) -> int:
        """Return the number of parameters, without making any."""
        first = shape[0] if len(shape) == 3 and self.pooling else prod(shape)
        widths = [first, *(layer.n_out for layer in self.layers)]
        return sum((before + 1) * after for before, after in pairwise(widths))


def _hidden(layer: Any) -> Dense:
    if type(layer) is not Dense:
        msg = f"The hidden layers of a head are widths, such as (1024, 256), or tl.Dense; got {layer!r}."
        raise TypeError(msg)
    return Dense(layer.n_out, activation=layer.given().get("activation") or "identity", **_options(layer))


def _output(layer: Any) -> Output:
    if type(layer) is not Output:
        msg = f"The last layer of a head is a tl.Output, got {layer!r}."
        raise TypeError(msg)
    plain = Output(layer.n_out, **_options(layer))
    if (layer.loss, layer.loss_weight, layer.activation) != (plain.loss, plain.loss_weight, plain.activation):
        msg = f"The output of a head tells classes apart by softmax; {layer!r} says something else. Build it in code."
        raise ValueError(msg)
    return plain


def _options(layer: Dense) -> dict[str, Any]:
    """Return dropout and initialization of a layer where they are not the default, and refuse what else it says."""
    given = layer.given()
    more = sorted({*given, *(["n_in"] if layer.n_in else [])} - {"activation", "dropout", "weight_init"})
    if more:
        msg = (
            f"A head sets width, activation, dropout and weight_init of a layer; {layer!r} sets {quoted(more)} as "
            "well. Build it in code."
        )
        raise ValueError(msg)
    defaults = {"dropout": 0.0, "weight_init": WEIGHT_INIT}
    return {name: given[name] for name, value in defaults.items() if given.get(name) not in (None, value)}
