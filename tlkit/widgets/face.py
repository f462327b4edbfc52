"""The look that all widgets share: HTML with inline styles, readable in both themes and without any widget."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import ipywidgets

from tlkit.widgets.keyboard import GUARDED, KeyboardGuard

__all__ = [
    "FROZEN",
    "TRAINABLE",
    "Panel",
    "StaticFace",
    "code_block",
    "error",
    "facts",
    "headline",
    "note",
    "row",
    "table",
]

# The colors and the hatching of tlkit.plots, as styles. White on the blue and black on the orange are both readable.
FROZEN = (
    "background-color:#0072B2;color:#fff;"
    "background-image:repeating-linear-gradient(135deg,#0072B2,#0072B2 5px,#00588A 5px,#00588A 10px)"
)
TRAINABLE = "background-color:#E69F00;color:#000;background-image:none"
BAR = "#56B4E9"  # neither frozen nor trainable
LINE = "1px solid rgba(128,128,128,0.5)"
TEXT = "margin:4px 0;font-size:13px;line-height:1.5"
CAPTION = "text-align:left;padding:3px 0;font-size:13px;caption-side:top"
TABLE = f"border-collapse:collapse;{TEXT};table-layout:auto"
CELL = f"padding:3px 14px 3px 0;border:none;border-bottom:{LINE};vertical-align:top"


class StaticFace:
    """Mixed into a widget: what is shown of it where no widget can run, on GitHub or in an exported page."""

    def face(self) -> str:
        """Return the widget as HTML that stands still."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        return {**super()._repr_mimebundle_(**kwargs), "text/plain": repr(self), "text/html": self.face()}


class Panel(StaticFace, ipywidgets.VBox):
    """A widget made of controls one below the other: keys stay in them, and it has a face that stands still.

    A subclass says what `face` and `__repr__` are; both are the same in every run, because notebooks are compared.

    Parameters
    ----------
    children : iterable of Widget
        From top to bottom; an invisible keyboard guard follows them.
    """

    def __init__(self, children: Iterable[ipywidgets.Widget]) -> None:
        super().__init__([*children, KeyboardGuard()], layout={"max_width": "860px"})
        self.add_class(GUARDED)


def note(text: str) -> str:
    """Return a sentence."""
    return f'<p style="{TEXT}">{escape(text)}</p>'


def headline(text: str) -> str:
    """Return a sentence that stands out."""
    return f'<p style="{TEXT};font-weight:bold">{escape(text)}</p>'


def error(text: str) -> str:
    """Return a sentence in a frame that says, in a word as well, that something is wrong."""
    frame = "border:1px solid #D55E00;border-left:6px solid #D55E00;padding:6px 10px;max-width:720px"
    return f'<p role="alert" style="{TEXT};{frame}"><b>Error:</b> {escape(text)}</p>'


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Return a table with a label and a value in each row."""
    body = "".join(
        f'<tr><th scope="row" style="{CELL};text-align:left;font-weight:normal">{escape(label)}</th>'
        f'<td style="{CELL};text-align:right">{escape(value)}</td></tr>'
        for label, value in rows
    )
    return f'<table style="{TABLE}">{body}</table>'


def table(head: Sequence[str], rows: Iterable[Sequence[str | float]], *, words: Sequence[str], caption: str) -> str:
    """Return a table under a head; the columns named in `words` are aligned on the left.

    A cell that is a float is drawn as a bar, full at 1.
    """
    sides = ["left" if name in words else "right" for name in head]
    titles = "".join(
        f'<th scope="col" style="{CELL};text-align:{side};font-weight:bold">{escape(name)}</th>'
        for name, side in zip(head, sides, strict=True)
    )
    body = "".join(
        f"<tr>{''.join(_cell(value, side) for value, side in zip(values, sides, strict=True))}</tr>" for values in rows
    )
    title = f'<caption style="{CAPTION}">{escape(caption)}</caption>'
    return f'<div style="overflow-x:auto"><table style="{TABLE}">{title}<tr>{titles}</tr>{body}</table></div>'


def row(caption: str, cells: Iterable[str]) -> str:
    """Return a picture that is one row of a table: its words stay when a viewer drops the styles."""
    return (
        '<div style="overflow-x:auto"><table style="border-collapse:collapse;width:100%;margin:4px 0;border:none">'
        f'<caption style="{CAPTION}">{escape(caption)}</caption><tr>{"".join(cells)}</tr></table></div>'
    )


def code_block(code: str, *, titled: bool = True) -> str:
    """Return Python code, by default under a line that says what it is."""
    style = f"margin:2px 0 4px 0;padding:6px 10px;border:{LINE};max-width:820px;overflow-x:auto"
    font = "font-family:monospace;font-size:12px;line-height:1.4;white-space:pre"
    title = note("The same in code (.code):") if titled else ""
    return f'{title}<pre style="{style};{font}">{escape(code)}</pre>'


def _cell(value: str | float, side: str) -> str:
    content = _bar(value) if isinstance(value, float) else escape(value)
    return f'<td style="{CELL};white-space:nowrap;text-align:{side}">{content}</td>'


def _bar(share: float) -> str:
    full = f"width:100px;border:{LINE};margin-top:4px"
    return f'<div style="{full}"><div style="background-color:{BAR};width:{share:.0%};height:10px"></div></div>'
