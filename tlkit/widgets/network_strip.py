"""The drawn network of a FreezePicker: its vertices to scale, and a boundary that pointer and arrow keys move."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anywidget
import traitlets

from tlkit.colors import css_variables

__all__ = ["NetworkStrip", "widen"]

LEAST = 1 / 60  # of the width: a narrower block would not be seen


class NetworkStrip(anywidget.AnyWidget):
    """A row of blocks, one for each vertex, frozen ones hatched; for the keyboard and screen readers it is a slider.

    Attributes
    ----------
    names, details : list of str
        Of each vertex, and what is said of it under the pointer.
    widths : list of float
        Share of the whole width of each block, from `widen`.
    weighty : list of bool
        Whether the vertex has parameters; the others are drawn half as high.
    frozen : list of bool
        Whether the vertex is frozen.
    marks : list of int
        The vertices behind which a boundary lies.
    stops : list of int
        The vertices behind which the boundary can be put; -1 is in front of the first.
    position : int
        Index of the one where it lies now; -1 where it lies nowhere among them, or at several places.
    said : str
        The state in words.
    note : str
        What the widths mean.
    """

    _esm = Path(__file__).with_name("network_strip.js")
    _css = css_variables() + Path(__file__).with_name("network_strip.css").read_text(encoding="utf-8")
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    details = traitlets.List(traitlets.Unicode()).tag(sync=True)
    widths = traitlets.List(traitlets.Float()).tag(sync=True)
    weighty = traitlets.List(traitlets.Bool()).tag(sync=True)
    frozen = traitlets.List(traitlets.Bool()).tag(sync=True)
    marks = traitlets.List(traitlets.Int()).tag(sync=True)
    stops = traitlets.List(traitlets.Int()).tag(sync=True)
    position = traitlets.Int(-1).tag(sync=True)
    said = traitlets.Unicode().tag(sync=True)
    note = traitlets.Unicode().tag(sync=True)

    def __repr__(self) -> str:
        return f"NetworkStrip({len(self.names)} vertices)"


def widen(amounts: Sequence[float]) -> list[float]:
    """Return each amount's share of the width, in proportion except that the least ones are made wide enough to see.

    Examples
    --------
    >>> from tlkit.widgets.network_strip import widen
    >>> widen([1, 1, 2])
    [0.25, 0.25, 0.5]
    >>> [round(share, 3) for share in widen([0, 1, 3])]
    [0.017, 0.246, 0.737]
    """
    least = min(LEAST, 1 / (2 * len(amounts)))
    amounts = list(amounts) if sum(amounts) else [1.0] * len(amounts)
    small: set[int] = set()
    while True:
        rest = (1 - least * len(small)) / (sum(amounts) - sum(amounts[number] for number in small))
        more = {number for number, amount in enumerate(amounts) if amount * rest < least} - small
        if not more:
            return [least if number in small else amount * rest for number, amount in enumerate(amounts)]
        small |= more
