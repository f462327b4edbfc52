"""The look that all widgets share: HTML with inline styles, readable in both themes and without any widget."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import ipywidgets

from tlkit.colors import BLACK, FROZEN, FROZEN_STRIPE, GRAY, NEUTRAL, TRAINABLE, WHITE, WRONG, translucent
from tlkit.markup import Markup, html_row, html_table
from tlkit.widgets.keyboard import GUARDED, KeyboardGuard

__all__ = [
    "FROZEN_STYLE",
    "TRAINABLE_STYLE",
    "Panel",
    "StaticFace",
    "code_block",
    "drawn_row",
    "error",
    "facts",
    "headline",
    "note",
    "table",
]

# The colors and the hatching of tlkit.plots. White on the blue and black on the orange are both readable.
FROZEN_STYLE = (
    f"background-color:{FROZEN};color:{WHITE};background-image:"
    f"repeating-linear-gradient(135deg,{FROZEN},{FROZEN} 5px,{FROZEN_STRIPE} 5px,{FROZEN_STRIPE} 10px)"
)
TRAINABLE_STYLE = f"background-color:{TRAINABLE};color:{BLACK};background-image:none"
LINE = f"1px solid {translucent(GRAY, 0.5)}"
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
    frame = f"border:1px solid {WRONG};border-left:6px solid {WRONG};padding:6px 10px;max-width:720px"
    return f'<p role="alert" style="{TEXT};{frame}"><b>Error:</b> {escape(text)}</p>'


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Return a table with a label and a value in each row."""
    styles = [f"{CELL};text-align:left;font-weight:normal", f"{CELL};text-align:right"]
    return html_table((html_row(texts, styles, heads=1, scope="row") for texts in rows), style=TABLE)


def table(head: Sequence[str], rows: Iterable[Sequence[str | float]], *, words: Sequence[str], caption: str) -> str:
    """Return a table under a head; the columns named in `words` are aligned on the left.

    A cell that is a float is drawn as a bar, full at 1.
    """
    sides = ["left" if name in words else "right" for name in head]
    bold = [f"{CELL};text-align:{side};font-weight:bold" for side in sides]
    plain = [f"{CELL};white-space:nowrap;text-align:{side}" for side in sides]
    lines = [html_row(head, bold, heads=len(head), scope="col")]
    lines += [html_row([_bar(x) if isinstance(x, float) else x for x in values], plain) for values in rows]
    return html_table(lines, caption=caption, style=TABLE, caption_style=CAPTION, scrolls=True)


def drawn_row(caption: str, texts: Sequence[str], styles: Sequence[str]) -> str:
    """Return a picture that is one row of a table: its words stay when a viewer drops the styles."""
    style = "border-collapse:collapse;width:100%;margin:4px 0;border:none"
    return html_table([html_row(texts, styles)], caption=caption, style=style, caption_style=CAPTION, scrolls=True)


def code_block(code: str, *, titled: bool = True) -> str:
    """Return Python code, by default under a line that says what it is."""
    style = f"margin:2px 0 4px 0;padding:6px 10px;border:{LINE};max-width:820px;overflow-x:auto"
    font = "font-family:monospace;font-size:12px;line-height:1.4;white-space:pre"
    title = note("The same in code (.code):") if titled else ""
    return f'{title}<pre style="{style};{font}">{escape(code)}</pre>'


def _bar(share: float) -> Markup:
    full = f"width:100px;border:{LINE};margin-top:4px"
    part = f"background-color:{NEUTRAL};width:{share:.0%};height:10px"
    return Markup(f'<div style="{full}"><div style="{part}"></div></div>')
