"""HeadDesigner: change a new head's layers and see at once what it learns from cached features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import ipywidgets

from tlkit.errors import sentence
from tlkit.features.rows import FeatureRows
from tlkit.graph.network import Network
from tlkit.layers.descriptions import Dense, Description, Output
from tlkit.memory import counted
from tlkit.widgets.background import Background, GivenUp
from tlkit.widgets.controls import make_toggles
from tlkit.widgets.face import Panel, code_block, error, headline, note
from tlkit.widgets.head_bench import HeadBench, Run
from tlkit.widgets.head_rows import LABEL, HiddenRow, OutputRow
from tlkit.widgets.heads import ACTIVATION, Head
from tlkit.widgets.holding_out import hold_out
from tlkit.widgets.run_comparison import run_picture, run_table

__all__ = ["HeadDesigner"]

RATES = (5e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
MOST_LAYERS = 4
PRESETS = {"last layer (III.A)": (), "1024-256 (III.B)": (1024, 256)}
DELAY = 0.1  # seconds that the controls must rest before training starts


class HeadDesigner(Panel):
    """Controls for the layers of a new head, which is trained on cached features at every change.

    A change by hand trains in a thread beside the notebook, and the next change ends that training; a change by code
    trains before it returns. What is read from the designer is always that of the last change. The number of classes is
    the data's. The same settings always give the same weights, so that two rows of the table differ by what was changed
    and by nothing else.

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
        What was trained so far: layers, parameters, accuracy, history.
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
    >>> designer = tl.HeadDesigner(features)
    >>> designer.layers = 16, 8
    >>> designer
    HeadDesigner(8 -> 16 -> 8 -> 2, 32 rows to train on, 8 rows to test on)
    """

    def __init__(self, features: FeatureRows, test: FeatureRows | None = None, *, seed: int = 12345) -> None:
        train, held = (features, test) if test is not None else hold_out(features)
        self._bench = HeadBench(train, held, seed=seed)
        self._given_test = test is not None
        self._runs: list[Run] = []
        self._net: Network | None = None
        self._background = Background(DELAY)
        self._still = False
        self._make_controls()
        self._status, self._comparison, self._code = (ipywidgets.HTML() for _ in range(3))
        code = ipywidgets.Accordion([self._code], titles=["The same in code (.code)"], selected_index=None)
        super().__init__([*self._controls(), self._status, self._comparison, code])
        self._arrange()
        self._background.do(partial(self._train, self.head))

    # -- what a program asks and sets ---------------------------------------------------------------------------

    @property
    def head(self) -> Head:
        """The head that the controls describe."""
        hidden = [row.layer for row in self._rows if row.layer]
        return Head((*hidden, self._output.layer), self._rate.value, self._epochs.value, self._pooling.value)

    @property
    def layers(self) -> tuple[Description, ...]:
        """The head's layers, the output last."""
        return tuple(what for _, what, _ in self._bench.vertices(self.head))

    @layers.setter
    def layers(self, layers: int | Description | Sequence[int | Description]) -> None:
        layers = layers if isinstance(layers, (list, tuple)) else [layers]
        head = self.head.with_layers(layers)
        if len(head.hidden) > MOST_LAYERS:
            many = len(head.hidden)
            msg = f"The widget holds up to {MOST_LAYERS} hidden layers, got {many}. Build deeper heads in code."
            raise ValueError(msg)
        self._set(head)
        self._background.do(partial(self._train, head))

    @property
    def runs(self) -> list[Run]:
        """What was trained so far."""
        self._background.settle()
        return list(self._runs)

    @property
    def net(self) -> Network | None:
        """The trained head of the last run; None where every run so far has failed."""
        self._background.settle()
        return self._net

    @property
    def code(self) -> str:
        """Python that builds, trains and tests the same head."""
        if self._given_test:
            return self._bench.code(self.head, "features", "test")
        return f"train, test = tl.widgets.hold_out(features)\n{self._bench.code(self.head)}"

    def face(self) -> str:
        """Return the last runs and the code as HTML; seconds are left out, which differ from run to run."""
        runs = self.runs
        result = headline(self._result(runs[-1])) if runs else note("Nothing was trained yet.")
        return result + run_picture(runs) + run_table(runs, seconds=False) + code_block(self.code)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self._bench.shape))
        sizes = " -> ".join([shape, *(str(layer.n_out) for layer in self.head.layers)])
        train, test = counted(len(self._bench.train), "row"), counted(len(self._bench.test), "row")
        return f"HeadDesigner({sizes}, {train} to train on, {test} to test on)"

    # -- controls -----------------------------------------------------------------------------------------------

    def _make_controls(self) -> None:
        wide = {"style": {"description_width": LABEL}, "layout": {"width": "440px"}, "continuous_update": False}
        self._presets = make_toggles("Preset", list(PRESETS), label=LABEL)
        self._rows = [HiddenRow(number) for number in range(1, MOST_LAYERS + 1)]
        self._output = OutputRow(self._bench.classes)
        self._rate = ipywidgets.SelectionSlider(
            options=[(f"{rate:g}", rate) for rate in RATES], value=1e-2, description="Learning rate", **wide
        )
        self._epochs = ipywidgets.IntSlider(value=5, min=1, max=30, description="Epochs", **wide)
        kinds = [("averaged over height and width", True), ("read one by one", False)]
        self._pooling = make_toggles("Features are", kinds, label=LABEL)
        self._pooling.layout.display = "" if len(self._bench.shape) == 3 else "none"
        for row in [*self._rows, self._output]:
            row.on_change(self._changed)
        for control in (self._rate, self._epochs, self._pooling):
            control.observe(self._changed, "value")
        self._presets.observe(self._preset_chosen, "value")

    def _controls(self) -> list[ipywidgets.Widget]:
        return [self._presets, self._pooling, *self._rows, self._output, self._rate, self._epochs]

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Move controls without training at each one."""
        before, self._still = self._still, True
        try:
            yield
        finally:
            self._still = before

    def _set(self, head: Head) -> None:
        """Bring the controls to a head's layers."""
        with self._quiet():
            for row, layer in zip(self._rows, [*head.hidden, *[None] * MOST_LAYERS], strict=False):
                row.layer = layer
            self._output.layer = head.output
            self._pooling.value = head.pooling
        self._arrange()

    def _preset_chosen(self, change: dict[str, Any]) -> None:
        if not self._still and change["new"] is not None:
            self._set(self._preset(change["new"]))
            self._ask()

    def _preset(self, name: str) -> Head:
        hidden = [Dense(width, activation=ACTIVATION) for width in PRESETS[name]]
        return self.head.with_layers([*hidden, Output(len(self._bench.classes))])

    def _changed(self, _: Any) -> None:
        if not self._still:
            self._arrange()
            self._ask()

    def _ask(self) -> None:
        self._background.ask(partial(self._train, self.head))

    def _arrange(self) -> None:
        """Show the hidden layers in use and one more, the preset that they are, and the code."""
        used = max((number for number, row in enumerate(self._rows, start=1) if row.layer), default=0)
        for number, row in enumerate(self._rows):
            row.show(shown=number <= used)
        head = self.head
        with self._quiet():
            self._presets.value = next((name for name in PRESETS if self._preset(name).layers == head.layers), None)
        self._code.value = code_block(self.code, titled=False)

    # -- training -----------------------------------------------------------------------------------------------

    def _train(self, head: Head, given_up: GivenUp) -> None:
        """Train a head and show what came of it; in a thread, so only traits of widgets are set."""
        self._tell(f"{head.words}: training")
        try:
            trained = self._bench.run(head, given_up, self._tell)
            if trained is None:
                return
            self._net, run = trained
            self._runs.append(run)
            self._status.value = headline(self._result(run, seconds=True))
            self._comparison.value = run_picture(self._runs) + run_table(self._runs, seconds=True)
        except Exception as problem:  # whatever it is, the reader must see it: here it would vanish into a log
            self._status.value = error(sentence(problem))

    def _tell(self, text: str) -> None:
        self._status.value = note(f"{text} …")

    def _result(self, run: Run, *, seconds: bool = False) -> str:
        test, train = counted(len(self._bench.test), "row"), counted(len(self._bench.train), "row")
        passes = counted(run.head.epochs, "pass", "passes")
        time = f", {run.history.seconds:.1f} s" if seconds else ""
        return f"Test accuracy {run.accuracy:.1%} ({test}): {run.head.words}, {passes} over {train}{time}."
