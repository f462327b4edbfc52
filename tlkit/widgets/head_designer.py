"""HeadDesigner: change a new head's layers and see at once what it learns from cached features."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ipywidgets

from tlkit.features import FeatureRows
from tlkit.graph import Network
from tlkit.layers import Dense, Description, Output
from tlkit.memory import counted
from tlkit.widgets.face import Panel, code_block, error, headline, note, table
from tlkit.widgets.heads import Head, HeadBench, Run, hold_out

__all__ = ["HeadDesigner"]

WIDTHS = (0, *(2**power for power in range(3, 13)))  # 0 stands for no layer
RATES = (5e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
MOST_LAYERS = 4
PRESETS = {"last layer (III.A)": (), "1024-256 (III.B)": (1024, 256)}
SHOWN_RUNS = 6


class HeadDesigner(Panel):
    """Controls for the layers of a new head, which is trained on cached features at every change.

    The number of classes is the data's. The same settings always give the same weights, so that two rows of the table
    differ by what was changed and by nothing else.

    Parameters
    ----------
    features : Features or FeatureStore
        What `helper.featurize` returned, of one boundary: the rows to train on.
    test : Features or FeatureStore, optional
        The rows to test on; without it a fifth of `features` is held out, the same share of every class.
    seed : int
        Of the new weights and the order of examples.

    Attributes
    ----------
    layers : tuple of Description
        The head's layers, the output last. Settable by the widths of the hidden layers, ``designer.layers = 1024,
        256``, or by descriptions, ``[tl.Dense(256, activation="tanh")]``.
    runs : list of Run
        What was trained so far: layers, parameters, accuracy, seconds.
    net : Network
        The trained head of the last run; it reads the features.
    code : str
        Python that builds, trains and tests the same head, from `tl`, `features` and, where it was given, `test`.

    Raises
    ------
    TypeError, ValueError
        When the data are no features, of several boundaries, or not of one kind.

    Examples
    --------
    >>> import torch, tlkit as tl
    >>> features = tl.Features({"fc2": torch.rand(40, 8)}, torch.arange(40) % 2, ["daisy", "roses"])
    >>> designer = HeadDesigner(features)
    >>> designer.layers = 16, 8
    >>> designer
    HeadDesigner(8 -> 16 -> 8 -> 2, 32 rows to train on, 8 rows to test on)
    """

    def __init__(self, features: FeatureRows, test: FeatureRows | None = None, *, seed: int = 12345) -> None:
        train, held = (features, test) if test is not None else hold_out(features)
        self._bench = HeadBench(train, held, seed=seed)
        self._given_test = test is not None
        self.runs: list[Run] = []
        self.net: Network | None = None
        self._lock = threading.RLock()  # some versions of ipykernel call handlers from a second thread
        self._still = False
        self._make_controls()
        self._result = ipywidgets.HTML()
        self._code = ipywidgets.HTML()
        code = ipywidgets.Accordion([self._code], titles=["The same in code (.code)"], selected_index=None)
        super().__init__([*self._controls(), self._result, code])
        self._train()

    # -- what a program asks and sets ---------------------------------------------------------------------------

    @property
    def head(self) -> Head:
        """The head that the controls describe."""
        return Head(
            hidden=tuple(row.value for row in self._widths if row.value),
            activation=self._activation.value,
            dropout=self._dropout.value,
            learning_rate=self._rate.value,
            epochs=self._epochs.value,
            pooling=self._pooling.value,
        )

    @property
    def layers(self) -> tuple[Description, ...]:
        """The head's layers, the output last."""
        return tuple(what for _, what, _ in self._bench.vertices(self.head))

    @layers.setter
    def layers(self, layers: int | Sequence[int | Description]) -> None:
        layers = list(layers) if isinstance(layers, (list, tuple)) else [layers]
        hidden, options = _described(layers, len(self._bench.classes))
        if len(hidden) > MOST_LAYERS:
            msg = f"The widget holds up to {MOST_LAYERS} hidden layers, got {len(hidden)}. Build deeper heads in code."
            raise ValueError(msg)
        Head(hidden, **options)  # raises what is wrong with it
        self._set(hidden, **options)

    @property
    def code(self) -> str:
        """Python that builds, trains and tests the same head."""
        if self._given_test:
            return self._bench.code(self.head, "features", "test")
        return f"train, test = tl.widgets.hold_out(features)\n{self._bench.code(self.head)}"

    def face(self) -> str:
        """Return the last runs and the code as HTML; seconds are left out, which differ from run to run."""
        return self._report(seconds=False) + code_block(self.code)

    def __repr__(self) -> str:
        widths = [*self._bench.shape, *self.head.hidden, len(self._bench.classes)]
        sizes = " -> ".join([" x ".join(map(str, self._bench.shape)), *map(str, widths[len(self._bench.shape) :])])
        train, test = counted(len(self._bench.train), "row"), counted(len(self._bench.test), "row")
        return f"HeadDesigner({sizes}, {train} to train on, {test} to test on)"

    # -- controls -----------------------------------------------------------------------------------------------

    def _make_controls(self) -> None:
        wide = {"style": {"description_width": "110px"}, "layout": {"width": "440px"}, "continuous_update": False}
        self._presets = _toggles("Preset", list(PRESETS.items()))
        options = [(str(width) if width else "none", width) for width in WIDTHS]
        self._widths = [
            ipywidgets.SelectionSlider(options=options, value=0, description=f"Hidden layer {number}", **wide)
            for number in range(1, MOST_LAYERS + 1)
        ]
        self._activation = _toggles("Activation", [(name, name) for name in ("relu", "tanh", "gelu")])
        self._dropout = ipywidgets.FloatSlider(
            value=0, min=0, max=0.9, step=0.1, readout_format=".1f", description="Dropout", **wide
        )
        self._rate = ipywidgets.SelectionSlider(
            options=[(f"{rate:g}", rate) for rate in RATES], value=1e-2, description="Learning rate", **wide
        )
        self._epochs = ipywidgets.IntSlider(value=5, min=1, max=30, description="Epochs", **wide)
        self._pooling = _toggles("Features are", [("averaged over height and width", True), ("read one by one", False)])
        self._pooling.layout.display = "" if len(self._bench.shape) == 3 else "none"
        for control in [*self._widths, self._activation, self._dropout, self._rate, self._epochs, self._pooling]:
            control.observe(self._changed, "value")
        self._presets.observe(self._preset_chosen, "value")
        self._show_rows()

    def _controls(self) -> list[ipywidgets.Widget]:
        return [
            self._presets, self._pooling, *self._widths, self._activation, self._dropout, self._rate, self._epochs,
        ]  # fmt: skip

    def _set(self, hidden: tuple[int, ...], activation: str | None = None, dropout: float | None = None) -> None:
        """Set several controls and train once."""
        with self._lock:
            with self._quiet():
                for row, width in zip(self._widths, [*hidden, *[0] * MOST_LAYERS], strict=False):
                    _offer(row, width)
                    row.value = width
                if activation is not None:
                    _offer(self._activation, activation)
                    self._activation.value = activation
                if dropout is not None:
                    self._dropout.max = max(self._dropout.max, dropout)
                    self._dropout.value = dropout
            self._train()

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Move controls without training at each one."""
        self._still = True
        try:
            yield
        finally:
            self._still = False

    def _preset_chosen(self, change: dict[str, Any]) -> None:
        if not self._still and change["new"] is not None:
            self._set(change["new"])

    def _changed(self, _: Any) -> None:
        if not self._still:
            self._train()

    def _show_rows(self) -> None:
        """Show the hidden layers in use and one more."""
        used = max((number for number, row in enumerate(self._widths, start=1) if row.value), default=0)
        for number, row in enumerate(self._widths):
            row.layout.display = "" if number <= used else "none"

    # -- training -----------------------------------------------------------------------------------------------

    def _train(self) -> None:
        with self._lock:
            with self._quiet():
                self._show_rows()
                self._presets.value = self.head.hidden if self.head.hidden in PRESETS.values() else None
            self._code.value = code_block(self.code, titled=False)
            self._result.value = note(f"Training {self.head.words} …") + self._table(seconds=True)
            try:
                self.net, run = self._bench.run(self.head)
            except Exception as problem:  # whatever it is, the reader must see it: here it would vanish into a log
                self._result.value = error(_sentence(problem)) + self._table(seconds=True)
            else:
                self.runs.append(run)
                self._result.value = self._report(seconds=True)

    def _report(self, *, seconds: bool) -> str:
        if not self.runs:
            return note("Nothing was trained yet.")
        last = self.runs[-1]
        test, train = counted(len(self._bench.test), "row"), counted(len(self._bench.train), "row")
        passes = counted(last.head.epochs, "pass", "passes")
        time = f", {last.seconds:.1f} s" if seconds else ""
        text = f"Test accuracy {last.accuracy:.1%} ({test}): {last.head.words}, {passes} over {train}{time}."
        return headline(text) + self._table(seconds=seconds)

    def _table(self, *, seconds: bool) -> str:
        """Return the last runs, the newest first, the best marked by a word."""
        if not self.runs:
            return ""
        best = max(run.accuracy for run in self.runs)
        head = ["run", "hidden layers", "activation", "dropout", "learning rate", "epochs", "parameters"]
        head += ["seconds"] * seconds + ["test accuracy", "", ""]
        rows = []
        for number, run in list(enumerate(self.runs, start=1))[: -SHOWN_RUNS - 1 : -1]:
            row = [str(number), "-".join(map(str, run.head.hidden)) or "none"]
            row += [run.head.activation if run.head.hidden else "–", f"{run.head.dropout:.1f}"]
            row += [f"{run.head.learning_rate:g}", str(run.head.epochs), f"{run.parameters:,}"]
            row += [f"{run.seconds:.1f}"] * seconds
            rows.append([*row, f"{run.accuracy:.1%}", run.accuracy, "best" if run.accuracy == best else ""])
        caption = f"The last {len(rows)} of {len(self.runs)} runs, newest first." if len(self.runs) > 1 else "One run."
        return table(head, rows, words=("hidden layers", "activation", ""), caption=caption)


def _described(layers: Sequence[int | Description], n_classes: int) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Return the hidden widths, and the options that all layers have in common."""
    if layers and isinstance(layers[-1], Output):
        if layers[-1].n_out != n_classes:
            msg = f"The data have {n_classes} classes, so the output has as many; got {layers[-1]!r}."
            raise ValueError(msg)
        layers = layers[:-1]
    options: dict[str, Any] = {}
    hidden = []
    for layer in layers:
        if type(layer) is Dense:
            extra = set(layer.given()) - {"activation", "dropout"}
            if extra:
                msg = f"The widget sets width, activation and dropout only; {layer!r} says more. Build it in code."
                raise ValueError(msg)
            defaults = {"activation": "identity", "dropout": 0.0}
            given = {name: defaults[name] if value is None else value for name, value in layer.given().items()}
            for name, value in given.items():
                if options.setdefault(name, value) != value:
                    msg = f"All hidden layers of the widget have one {name}, got {options[name]!r} and {value!r}."
                    raise ValueError(msg)
            hidden.append(layer.n_out)
        elif isinstance(layer, Description):
            msg = f"The widget's hidden layers are widths, such as (1024, 256), or tl.Dense; got {layer!r}."
            raise TypeError(msg)
        else:
            hidden.append(layer)
    return tuple(hidden), options


def _toggles(description: str, options: list[tuple[str, Any]]) -> ipywidgets.ToggleButtons:
    style = {"description_width": "110px", "button_width": "auto"}
    layout = {"display": "flex", "flex_flow": "row wrap", "width": "auto"}
    return ipywidgets.ToggleButtons(
        options=options, value=options[0][1], description=description, style=style, layout=layout
    )


def _offer(control: Any, value: Any) -> None:
    """Add a value to the options of a control that lacks it."""
    options = list(control.options)
    if value not in [known for _, known in options]:
        options.append((str(value), value))
        control.options = sorted(options, key=lambda option: option[1]) if isinstance(value, int) else options


def _sentence(problem: Exception) -> str:
    return str(problem.args[0]) if problem.args else type(problem).__name__
