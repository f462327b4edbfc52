"""The controls of a HeadDesigner: a row for each layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets

from tlkit.layers.activations import ACTIVATIONS
from tlkit.layers.descriptions import Dense, Output
from tlkit.layers.initializers import SCHEMES
from tlkit.widgets.controls import WRAPPED
from tlkit.widgets.heads import ACTIVATION, WEIGHT_INIT

__all__ = ["LABEL", "HiddenRow", "OutputRow"]

LABEL = "110px"  # width of the labels on the left
WIDTHS = (0, *(2**power for power in range(3, 13)))  # 0 stands for no layer
DROPOUTS = tuple(tenths / 10 for tenths in range(10))


class _Row(ipywidgets.HBox):
    """A layer: what it is, and beside or below that its options."""

    def __init__(self, layer: ipywidgets.Widget, options: Sequence[ipywidgets.Widget]) -> None:
        self.controls = options if isinstance(layer, ipywidgets.HTML) else [layer, *options]
        self.options = ipywidgets.HBox(options, layout=WRAPPED)
        super().__init__([layer, self.options], layout=WRAPPED)

    def on_change(self, told: Callable[[Any], None]) -> None:
        """Tell when a control is set."""
        for control in self.controls:
            control.observe(told, "value")


class HiddenRow(_Row):
    """A hidden layer: its width, which may be none, its activation, its dropout, and how its weights are drawn."""

    def __init__(self, number: int) -> None:
        self.units = ipywidgets.SelectionSlider(
            options=[(str(width) if width else "none", width) for width in WIDTHS],
            value=0,
            description=f"Hidden layer {number}",
            continuous_update=False,
            style={"description_width": LABEL},
            layout={"width": "340px"},
        )
        names = [name for name in ACTIVATIONS if name != "softmax"]
        self.activation = _choice("activation", [(name, name) for name in names], ACTIVATION)
        self.dropout, self.weight_init = _dropout(), _weight_init()
        super().__init__(self.units, [self.activation, self.dropout, self.weight_init])

    @property
    def layer(self) -> Dense | None:
        """What the controls say; None where there is no such layer."""
        if not self.units.value:
            return None
        return Dense(
            self.units.value,
            activation=self.activation.value,
            dropout=self.dropout.value,
            weight_init=self.weight_init.value,
        )

    @layer.setter
    def layer(self, layer: Dense | None) -> None:
        if layer is None:
            self.units.value = 0
            return
        given = layer.given()
        _set(self.units, layer.n_out)
        _set(self.activation, given.get("activation", "identity"))
        _set(self.dropout, given.get("dropout", 0.0))
        _set(self.weight_init, given.get("weight_init", WEIGHT_INIT))

    def show(self, *, shown: bool) -> None:
        """Show or hide the row; the options of no layer are hidden."""
        self.layout.display = "" if shown else "none"
        self.options.layout.display = "" if self.units.value else "none"


class OutputRow(_Row):
    """The output layer: its width is the data's."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.n_out = len(classes)
        text = f"{self.n_out} units for {self.n_out} classes, softmax"
        words = ipywidgets.HTML(
            text, description="Output", style={"description_width": LABEL}, layout={"width": "340px"}
        )
        self.dropout, self.weight_init = _dropout(), _weight_init()
        super().__init__(words, [self.dropout, self.weight_init])

    @property
    def layer(self) -> Output:
        """What the controls say."""
        return Output(self.n_out, dropout=self.dropout.value, weight_init=self.weight_init.value)

    @layer.setter
    def layer(self, layer: Output) -> None:
        _set(self.dropout, layer.given().get("dropout", 0.0))
        _set(self.weight_init, layer.given().get("weight_init", WEIGHT_INIT))


def _dropout() -> ipywidgets.Dropdown:
    return _choice("dropout", [(f"{share:g}", share) for share in DROPOUTS], 0.0)


def _weight_init() -> ipywidgets.Dropdown:
    return _choice("weight init", [(name, name) for name in SCHEMES], WEIGHT_INIT)


def _choice(description: str, options: list[tuple[str, Any]], value: Any) -> ipywidgets.Dropdown:
    style, layout = {"description_width": "initial"}, {"width": "max-content"}
    return ipywidgets.Dropdown(options=options, value=value, description=description, style=style, layout=layout)


def _set(control: Any, value: Any) -> None:
    """Set a control that offers options to any value, an option that it lacks so far among them."""
    options = list(control.options)
    if value not in [known for _, known in options]:
        options.append((f"{value:g}" if isinstance(value, float) else str(value), value))
        control.options = sorted(options, key=lambda option: option[1]) if isinstance(value, (int, float)) else options
    control.value = value
