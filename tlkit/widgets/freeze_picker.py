"""FreezePicker: move the boundary between the frozen and the trainable part, and see what that means."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ipywidgets
import traitlets

from tlkit.builder import TransferLearning
from tlkit.errors import sentence
from tlkit.graph.network import Network
from tlkit.training.timings import Timings, time_vertices
from tlkit.widgets.background import Background, GivenUp
from tlkit.widgets.controls import WRAPPED, make_button, make_toggles
from tlkit.widgets.cut_facts import cut_facts, cut_pictures, describe_cut, seconds_facts
from tlkit.widgets.cuts import Cuts
from tlkit.widgets.face import Panel, code_block, error, note
from tlkit.widgets.network_strip import NetworkStrip, widen

__all__ = ["FreezePicker"]

LABEL = "90px"  # width of the labels on the left
NOTHING = "(nothing frozen)"
SEVERAL = "(chosen in the list)"
NOTES = {
    "parameters": "Widths: parameters. The narrowest blocks are widened to be seen; low ones have no parameters.",
    "time": "Widths: seconds of a forward pass, as measured. Low blocks have no parameters.",
}
ESTIMATE = "Widths: multiplications of a forward pass, until its seconds are measured. Low blocks have no parameters."
HINT = "Ctrl-click, on a Mac Cmd-click, chooses several; so does Shift with the arrow keys."


class FreezePicker(Panel):
    """A slider over the places where a network can be frozen, with what each choice means.

    Every choice shows the network to scale, its frozen and its trainable part, how many parameters each has, what the
    trainable part reads, and how much space the featurized images take. `measure`, or a click on its button, adds what
    an epoch costs in seconds on this machine. The slider offers the vertices through which everything flows; the list
    of all vertices takes any of them, and several.

    Parameters
    ----------
    net : Network
        It is not changed.
    images : ImageSet, Split or any data set, optional
        Adds the size of these images when they are featurized, and says how many an epoch has.

    Attributes
    ----------
    boundary : str, tuple of str or None
        The last frozen vertex, or several; settable by name, dotted path or index, or a tuple of these. None freezes
        nothing.
    net : Network
        A new network with this boundary, made when it is asked for; each boundary keeps its own.
    code : str
        Python that makes it from `tl` and `net`.

    Examples
    --------
    >>> import tlkit as tl
    >>> picker = tl.FreezePicker(tl.zoo.load("vgg16", weights=None))
    >>> picker.boundary = "block4_pool"
    >>> print(picker.code)
    net = tl.TransferLearning(net).set_feature_extractor("block4_pool").build()
    """

    boundary = traitlets.Any(None, allow_none=True)

    def __init__(self, net: Network, images: Any = None) -> None:
        self._cuts = Cuts(net)
        self._images = images
        self._rows, self._epoch_rows = _counts(images)
        self._nets: dict[tuple[str, ...], Network] = {}
        self._timings: Timings | None = None
        self._background = Background()
        self._still = False
        self._make_controls()
        self._figures, self._seconds, self._problem, self._code = (ipywidgets.HTML() for _ in range(4))
        slider = ipywidgets.HBox([self._less, self._slider, self._more], layout=WRAPPED)
        scale = ipywidgets.HBox([self._scale, self._measure], layout=WRAPPED)
        more = ipywidgets.Accordion(
            [ipywidgets.VBox([self._list, ipywidgets.HTML(note(HINT))]), self._code],
            titles=["Any vertex, or several: all vertices in a list", "The same in code (.code)"],
            selected_index=None,
        )
        super().__init__([slider, self._strip, scale, self._problem, self._figures, self._seconds, more])
        self._draw_scale()
        self.boundary = self._cuts.default()
        self._show()

    # -- what a program asks and sets ---------------------------------------------------------------------------

    @property
    def net(self) -> Network:
        """A new network with this boundary; asking again gives the same one, as trained as it is."""
        names = self._names
        if names not in self._nets:
            self._nets[names] = TransferLearning(self._cuts.net).set_feature_extractor(*names).build()
        return self._nets[names]

    @property
    def code(self) -> str:
        """Python that makes the network from `tl` and `net`."""
        names = ", ".join(f'"{name}"' for name in self._names)
        return f"net = tl.TransferLearning(net).set_feature_extractor({names}).build()"

    def measure(self) -> None:
        """Measure what the network costs in seconds on this machine, and show it; a click on the button does the same.

        It takes a few seconds, and is done once for all boundaries.
        """
        self._background.do(self._measured)

    def face(self) -> str:
        """Return pictures, figures and code as HTML; seconds are left out, which differ from run to run."""
        cut = self._cuts.at(self._names)
        return cut_pictures(self._cuts, cut) + cut_facts(cut, self._rows) + code_block(self.code)

    def __repr__(self) -> str:
        cut = self._cuts.at(self._names)
        return (
            f"FreezePicker(boundary={self.boundary!r}: {cut.frozen:,} parameters frozen, {cut.trainable:,} trainable)"
        )

    # -- controls -----------------------------------------------------------------------------------------------

    def _make_controls(self) -> None:
        cuts = self._cuts
        self._slider = ipywidgets.SelectionSlider(
            options=self._slider_options(),
            value=(),
            description="Frozen up to",
            style={"description_width": LABEL},
            layout={"flex": "1 1 320px", "width": "auto"},
        )
        self._less = make_button("Freeze less", "Move the boundary towards the input")
        self._more = make_button("Freeze more", "Move the boundary towards the output")
        self._list = ipywidgets.SelectMultiple(
            options=cuts.order,
            rows=min(len(cuts.order), 12),
            description="Boundaries",
            tooltip="All vertices; those chosen are frozen with everything that feeds them",
            style={"description_width": LABEL},
            layout={"width": "420px"},
        )
        places = {name: number for number, name in enumerate(cuts.order)}
        self._strip = NetworkStrip(
            names=list(cuts.order),
            details=[f"{name}: {cuts.sizes[name]:,} parameters" for name in cuts.order],
            weighty=[cuts.sizes[name] > 0 for name in cuts.order],
            stops=[-1, *(places[name] for name in cuts.points)],
        )
        self._scale = make_toggles("Widths show", list(NOTES), label=LABEL)
        self._measure = make_button(
            "Measure seconds", "Measure what an epoch costs on this machine; it takes some seconds"
        )
        self._slider.observe(lambda change: self._chosen(change["new"]), "value")
        self._list.observe(lambda change: self._chosen(change["new"]), "value")
        self._strip.observe(lambda change: self._chosen(self._at(change["new"])), "position")
        self._scale.observe(lambda _: self._draw_scale(), "value")
        self._less.on_click(lambda _: self._step(-1))
        self._more.on_click(lambda _: self._step(+1))
        self._measure.on_click(lambda _: self._background.ask(self._measured_by_hand))

    @property
    def _names(self) -> tuple[str, ...]:
        return self._cuts.resolve(self.boundary)

    def _slider_options(self) -> list[tuple[str, tuple[str, ...]]]:
        """The cut points, and at the end the present choice where it is none of them."""
        options = [(NOTHING, ()), *((name, (name,)) for name in self._cuts.points)]
        known = [value for _, value in options]
        return options if self._names in known else [*options, (SEVERAL, self._names)]

    def _at(self, position: int) -> tuple[str, ...]:
        return () if position == 0 else (self._cuts.points[position - 1],) if position > 0 else self._names

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Set controls without taking that for a choice."""
        before, self._still = self._still, True
        try:
            yield
        finally:
            self._still = before

    def _chosen(self, names: tuple[str, ...]) -> None:
        if self._still:
            return
        try:
            self.boundary = names
        except Exception as problem:  # weights on both sides, for example; unsaid here, it would vanish into a log
            self._problem.value = error(f"{sentence(problem)} .boundary is still {self.boundary!r}.")
        else:
            self._problem.value = ""
        self._show()  # also where nothing has changed: a control may stand at what was refused

    def _step(self, places: int) -> None:
        self._slider.index = min(max(self._slider.index + places, 0), len(self._cuts.points))

    # -- showing ------------------------------------------------------------------------------------------------

    @traitlets.validate("boundary")
    def _resolved(self, proposal: dict[str, Any]) -> str | tuple[str, ...] | None:
        names = self._cuts.resolve(proposal["value"])
        return names if len(names) > 1 else names[0] if names else None

    @traitlets.observe("boundary")
    def _boundary_changed(self, _: Any) -> None:
        self._problem.value = ""
        self._show()

    def _show(self) -> None:
        names, cut = self._names, self._cuts.at(self._names)
        with self._quiet():
            options = self._slider_options()
            if options != list(self._slider.options):
                self._slider.options = options
            self._slider.value = self._list.value = names
            with self._strip.hold_sync():
                self._strip.frozen = [name in cut.vertices for name in self._cuts.order]
                self._strip.marks = [self._cuts.order.index(name) for name in names]
                self._strip.said = describe_cut(cut)
                self._strip.position = self._slider.index if self._slider.index <= len(self._cuts.points) else -1
        self._less.disabled = not names
        self._more.disabled = self._slider.index >= len(self._cuts.points)
        self._figures.value = cut_facts(cut, self._rows)
        self._code.value = code_block(self.code, titled=False)
        self._show_seconds()

    def _show_seconds(self) -> None:
        if self._timings is not None:
            cut = self._cuts.at(self._names)
            epoch = self._timings.epoch(self._cuts.net, cut.vertices, self._epoch_rows)
            self._seconds.value = seconds_facts(cut, epoch, self._epoch_rows)

    def _draw_scale(self) -> None:
        """Draw the blocks as wide as they have parameters or take time; multiplications stand for unmeasured time."""
        amounts, text = self._cuts.sizes, NOTES[self._scale.value]
        if self._scale.value == "time":
            amounts, text = (self._timings.forward, text) if self._timings else (self._cuts.work, ESTIMATE)
        with self._strip.hold_sync():
            self._strip.widths = widen([amounts[name] for name in self._cuts.order])
            self._strip.note = text

    # -- measuring ----------------------------------------------------------------------------------------------

    def _measured(self, given_up: GivenUp) -> None:
        images = getattr(self._images, "train", self._images)
        self._timings = time_vertices(self._cuts.net, images, given_up, self._tell) or self._timings
        self._show_seconds()
        self._draw_scale()

    def _measured_by_hand(self, given_up: GivenUp) -> None:
        self._measure.disabled = True
        try:
            self._measured(given_up)
        except Exception as problem:  # unsaid here, it would vanish with its thread
            self._seconds.value = error(f"The network could not be measured: {sentence(problem)}")
        finally:
            self._measure.disabled = False

    def _tell(self, what: str) -> None:
        self._seconds.value = note(f"Measuring {what} …")


def _counts(images: Any) -> tuple[int | None, int]:
    """Return how many images there are, if any, and how many of them, or of a thousand, an epoch has."""
    if images is None:
        return None, 1000
    try:
        split = hasattr(images, "train")
        return (len(images.train) + len(images.test), len(images.train)) if split else (len(images), len(images))
    except TypeError as problem:
        msg = f"images is a data set such as tl.images.load(), got {type(images).__name__}."
        raise TypeError(msg) from problem
