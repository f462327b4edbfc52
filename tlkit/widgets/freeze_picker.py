"""FreezePicker: move the boundary between the frozen and the trainable part, and see what that means."""

from __future__ import annotations

from html import escape
from typing import Any

import ipywidgets
import traitlets

from tlkit.builder import TransferLearning
from tlkit.graph import Network
from tlkit.memory import counted, readable_size
from tlkit.widgets.cuts import Cut, CutPoints, Part
from tlkit.widgets.face import FROZEN, TRAINABLE, Panel, code_block, error, facts, row

__all__ = ["FreezePicker"]

NOTHING = "(nothing frozen)"


class FreezePicker(Panel):
    """A slider over the places where a network can be frozen, with what each choice means.

    Every position shows which stages of the network are frozen and which are trained, how many parameters that is,
    what the trainable part reads, and how much space the featurized images take.

    Parameters
    ----------
    net : Network
        It is not changed.
    images : ImageSet, Split or any data set, optional
        Adds the size of these images when they are featurized.

    Attributes
    ----------
    boundary : str or None
        The last frozen vertex; settable by name, dotted path or index. None freezes nothing.
    net : Network
        A new network with this boundary, made when it is asked for; each boundary keeps its own.
    code : str
        Python that makes it from `tl` and `net`.

    Raises
    ------
    ValueError
        When the network has several inputs or nowhere to cut.

    Examples
    --------
    >>> import tlkit as tl
    >>> picker = FreezePicker(tl.zoo.load("vgg16", weights=None))
    >>> picker.boundary = "block4_pool"
    >>> print(picker.code)
    net = tl.TransferLearning(net).set_feature_extractor("block4_pool").build()
    """

    boundary = traitlets.Any(None, allow_none=True)

    def __init__(self, net: Network, images: Any = None) -> None:
        self._cuts = CutPoints(net)
        self._images = _count(images)
        self._nets: dict[str | None, Network] = {}
        options = [(NOTHING, ""), *((name, name) for name in self._cuts.names)]  # a slider has no None
        self._slider = ipywidgets.SelectionSlider(
            options=options,
            value="",
            description="Frozen up to",
            style={"description_width": "90px"},
            layout={"flex": "1 1 320px", "width": "auto"},
        )
        self._less = _button("Freeze less", "Move the boundary towards the input")
        self._more = _button("Freeze more", "Move the boundary towards the output")
        self._picture = ipywidgets.HTML()
        controls = ipywidgets.HBox(
            [self._less, self._slider, self._more], layout={"flex_flow": "row wrap", "align_items": "center"}
        )
        super().__init__([controls, self._picture])
        self._slider.observe(self._moved, "value")
        self._less.on_click(lambda _: self._step(-1))
        self._more.on_click(lambda _: self._step(+1))
        self.boundary = self._cuts.default()

    @property
    def net(self) -> Network:
        """A new network with this boundary; asking again gives the same one, as trained as it is."""
        if self.boundary not in self._nets:
            self._nets[self.boundary] = self._builder().build()
        return self._nets[self.boundary]

    @property
    def code(self) -> str:
        """Python that makes the network from `tl` and `net`."""
        name = f'"{self.boundary}"' if self.boundary else ""
        return f"net = tl.TransferLearning(net).set_feature_extractor({name}).build()"

    def face(self) -> str:
        """Return the picture, the figures and the code as HTML."""
        cut = self._cuts.at(self.boundary)
        picture = _strip(self._cuts.parts(self.boundary)) + _shares(cut)
        return picture + facts(self._figures(cut)) + code_block(self.code)

    def __repr__(self) -> str:
        cut = self._cuts.at(self.boundary)
        return (
            f"FreezePicker(boundary={self.boundary!r}: {cut.frozen:,} parameters frozen, {cut.trainable:,} trainable)"
        )

    # -- inside -------------------------------------------------------------------------------------------------

    def _builder(self) -> TransferLearning:
        names = [self.boundary] if self.boundary else []
        return TransferLearning(self._cuts.net).set_feature_extractor(*names)

    def _figures(self, cut: Cut) -> list[tuple[str, str]]:
        total = cut.frozen + cut.trainable
        rows = [
            ("Parameters frozen", f"{cut.frozen:,} ({cut.frozen / max(total, 1):.1%})"),
            ("Parameters trainable", f"{cut.trainable:,} ({cut.trainable / max(total, 1):.1%})"),
            ("The trainable part reads", f"{cut.boundary or 'the image itself'}: {_shape(cut)}"),
        ]
        if cut.boundary is None:
            return [*rows, ("Featurized images", "none: all of the network runs for every image, every time")]
        rows.append(("One featurized image (float32)", readable_size(cut.nbytes)))
        if self._images is not None:
            label = f"All {counted(self._images, 'image')}, featurized"
            rows.append((label, readable_size(cut.nbytes * self._images)))
        return rows

    @traitlets.validate("boundary")
    def _resolved(self, proposal: dict[str, Any]) -> str | None:
        return self._cuts.resolve(proposal["value"])

    @traitlets.observe("boundary")
    def _show(self, _: Any) -> None:
        self._slider.value = self.boundary or ""
        self._less.disabled = self.boundary is None
        self._more.disabled = self.boundary == self._cuts.names[-1]
        self._picture.value = self.face()

    def _moved(self, change: dict[str, Any]) -> None:
        try:
            self.boundary = change["new"] or None
        except Exception as problem:  # weights on both sides, for example; unsaid here, it would vanish into a log
            self._picture.value = error(f"{problem.args[0]} .boundary is still {self.boundary!r}.")
        else:
            self._show(change)

    def _step(self, places: int) -> None:
        self._slider.index = min(max(self._slider.index + places, 0), len(self._cuts.names))


def _button(text: str, tooltip: str) -> ipywidgets.Button:
    return ipywidgets.Button(description=text, tooltip=tooltip, layout={"width": "auto"})


def _count(images: Any) -> int | None:
    if images is None:
        return None
    try:
        return len(images.train) + len(images.test) if hasattr(images, "train") else len(images)
    except TypeError as error:
        msg = f"images is a data set such as tl.images.load(), got {type(images).__name__}."
        raise TypeError(msg) from error


def _shape(cut: Cut) -> str:
    if len(cut.shape) < 2:
        return f"{cut.numbers:,} numbers"
    return f"{' × '.join(map(str, cut.shape))} = {cut.numbers:,} numbers"


def _strip(parts: list[Part]) -> str:
    """Draw the stages from input to output."""
    cells = []
    for before, part in zip([None, *parts], parts, strict=False):
        style, word = (FROZEN, "frozen") if part.frozen else (TRAINABLE, "trainable")
        edge = "6px solid #222" if before is not None and before.frozen and not part.frozen else "1px solid #fff"
        box = f"border:none;border-left:{edge};padding:8px 2px;min-width:56px;text-align:center;vertical-align:middle"
        label = escape(part.label).replace("_", "_<wbr>")
        cells.append(
            f'<td style="{style};{box};font-size:11px;line-height:1.4;white-space:normal">{label}<br>'
            f"<b>{word}</b><br>{_amount(part.parameters)}</td>"
        )
    return row("The network from input to output; the numbers count parameters.", cells)


def _shares(cut: Cut) -> str:
    """Draw how the parameters divide, to scale."""
    total = max(cut.frozen + cut.trainable, 1)
    box = "border:none;padding:0;height:18px;text-align:center;font-size:11px;line-height:18px;overflow:hidden"
    cells = []
    for style, word, count in ((FROZEN, "frozen", cut.frozen), (TRAINABLE, "trainable", cut.trainable)):
        text = f"<b>{word}</b> {count / total:.1%}" if count > total / 5 else ""
        if count:
            cells.append(f'<td style="{style};{box};width:{count / total:.1%}">{text}</td>')
    return row("Its parameters, to scale.", cells)


def _amount(parameters: int) -> str:
    if parameters < 1000:
        return str(parameters) if parameters else "–"
    return f"{parameters / 1e6:.1f} M" if parameters >= 1e6 else f"{parameters / 1e3:.1f} k"
