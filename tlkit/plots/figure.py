"""A figure that a notebook shows as an image with alternative text, and the look that all figures share."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlkit.colors import FROZEN, GRID, INK, MUTED, TRAINABLE

if TYPE_CHECKING:  # matplotlib is loaded when the first figure is made
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "STATES",
    "WIDTH",
    "Picture",
    "chart",
    "panels",
    "sheet",
    "shorten",
    "text_width",
    "write",
]

STATES = {
    "frozen": {"facecolor": FROZEN, "hatch": "///", "edgecolor": "white"},
    "trainable": {"facecolor": TRAINABLE, "edgecolor": "white"},
}
WIDTH = 630  # pixels: 16 cm at DPI
DPI = 100
FONT_SIZE = 10  # points; the smallest in any figure
TITLE_SIZE = 12  # points


class Picture:
    """A matplotlib figure with alternative text, ready to be the last line of a cell.

    Notebooks, exported pages and untrusted copies show it as an image whose `alt` text says what it shows.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    subject : str
        What the figure is about, without measured numbers: a cell's text output stays the same from run to run.
    alt : str
        What the figure shows, in sentences.
    """

    def __init__(self, figure: Figure, subject: str, alt: str) -> None:
        self.figure = figure
        self.subject = subject
        self.alt = alt

    @cached_property
    def encoded(self) -> tuple[str, bytes]:
        """The image, 630 pixels wide, as (mime type, bytes): PNG for charts, JPEG where it shows photos."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from PIL import Image

        canvas = FigureCanvasAgg(self.figure)
        canvas.draw()
        image = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).convert("RGB")
        buffer = io.BytesIO()
        if image.getcolors(4096) is None:
            image.save(buffer, "JPEG", quality=80, optimize=True)
            return "image/jpeg", buffer.getvalue()
        image.quantize(256, method=Image.Quantize.MEDIANCUT).save(buffer, "PNG", optimize=True)
        return "image/png", buffer.getvalue()

    @property
    def html(self) -> str:
        """An `<img>` element that carries the image and its alternative text."""
        mime, image = self.encoded
        data = base64.b64encode(image).decode()
        return f'<img src="data:{mime};base64,{data}" alt="{escape(self.alt)}" style="max-width:100%">'

    def save(self, path: str | Path) -> None:
        """Write the figure to a file; the suffix decides the format (.png, .svg, .pdf)."""
        self.figure.savefig(path, dpi=DPI)

    def __repr__(self) -> str:
        return f"Picture({self.subject!r})"

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        # JupyterLab and nbconvert ignore the alt metadata of images, so the HTML carries the text for them.
        mime, image = self.encoded
        data = {"text/plain": repr(self), "text/html": self.html, mime: base64.b64encode(image).decode()}
        return data, {mime: {"alt": self.alt}}


def sheet(height: float, title: str) -> Axes:
    """Make a white figure and return axes whose units are pixels; (0, 0) is the top left, below the title.

    The figure belongs to no window and to no pyplot state, so threads can draw at the same time.
    """
    axes = _axes(height, title, left=0, right=0, bottom=0)
    axes.set(xlim=(0, WIDTH), ylim=(height, 0))
    axes.axis("off")
    return axes


def chart(
    height: float, title: str, *, left: float = 70, right: float = 20, xlabel: str = "", ylabel: str = ""
) -> Axes:
    """Make a white figure and return labeled axes, `height` pixels high, with margins in pixels."""
    axes = _axes(height, title, left=left, right=right, bottom=50)
    axes.set_ylabel(ylabel, color=INK, fontsize=FONT_SIZE)
    _dress(axes, xlabel)
    return axes


def panels(height: float, title: str, xlabels: Sequence[str], *, ylabel: str = "", top: float = 0) -> list[Axes]:
    """Make a white figure and return labeled axes side by side, which share what is read upwards.

    They are `height` pixels high; `top` pixels above them stay free.
    """
    first = chart(height + top, title, right=WIDTH / 2, ylabel=ylabel)
    figure, box = first.figure, first.get_position()
    left, gap, right = 74 / WIDTH, 26 / WIDTH, 20 / WIDTH
    width = (1 - left - right - gap * (len(xlabels) - 1)) / len(xlabels)
    tall = box.height * height / (height + top)
    first.set_position((left, box.y0, width, tall))
    others = [
        figure.add_axes((left + number * (width + gap), box.y0, width, tall), sharey=first)
        for number in range(1, len(xlabels))
    ]
    for axes, xlabel in zip([first, *others], xlabels, strict=True):
        _dress(axes, xlabel)
        axes.tick_params(labelleft=axes is first)
    return [first, *others]


def _dress(axes: Axes, xlabel: str) -> None:
    axes.set_facecolor("white")
    axes.tick_params(which="both", colors=INK, labelsize=FONT_SIZE)
    axes.set_xlabel(xlabel, color=INK, fontsize=FONT_SIZE)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(MUTED)


def _axes(height: float, title: str, *, left: float, right: float, bottom: float) -> Axes:
    # Every color and size is set here or by the caller, so that no style sheet makes a figure unreadable.
    from matplotlib.figure import Figure

    lines = textwrap.wrap(title, 58)
    total = height + bottom + 14 + 21 * len(lines)
    figure = Figure(figsize=(WIDTH / DPI, total / DPI), dpi=DPI, facecolor="white")
    heading = figure.text(8 / WIDTH, 1 - 6 / total, "\n".join(lines), ha="left", va="top", color=INK)
    heading.set(fontsize=TITLE_SIZE, fontweight="bold", parse_math=False)
    return figure.add_axes((left / WIDTH, bottom / total, 1 - (left + right) / WIDTH, height / total))


def text_width(text: str, *, size: float = FONT_SIZE, bold: bool = False) -> float:
    """Return the width in pixels of a text in a figure, a little too much: drawn letters are wider than designed."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size, weight="bold" if bold else "normal")
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] * 1.04 * DPI / 72


def shorten(text: str, width: float, *, bold: bool = False) -> str:
    """Cut a text to `width` pixels, with an ellipsis for what is missing."""
    if text_width(text, bold=bold) <= width:
        return text
    while text and text_width(f"{text}…", bold=bold) > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


def write(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Write a text in the common look; a dollar sign in a class name starts no formula."""
    axes.text(x, y, text, **{"fontsize": FONT_SIZE, "color": INK, "parse_math": False, **style})
