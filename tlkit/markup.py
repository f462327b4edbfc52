"""Tables as HTML whose styles stand in each cell: notebooks, GitHub and exported pages show them alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["Markup", "html_row", "html_table"]


class Markup(str):
    """A text that is HTML already; other texts of a table are escaped."""


def html_row(texts: Sequence[object], styles: Sequence[str], *, heads: int = 0, scope: str = "") -> str:
    """Return a row of cells.

    Parameters
    ----------
    texts : sequence of Markup, or of anything that has a text
    styles : sequence of str
        CSS of each cell.
    heads : int
        How many of the cells, from the left, are heads.
    scope : {"", "col", "row"}
        What they are the heads of, for screen readers.

    Examples
    --------
    >>> from tlkit.markup import html_row
    >>> html_row(["roses < tulips", 12], ["text-align:left", "text-align:right"], heads=1)
    '<tr><th style="text-align:left">roses &lt; tulips</th><td style="text-align:right">12</td></tr>'
    """
    head = f'th scope="{scope}"' if scope else "th"
    cells = []
    for number, (text, style) in enumerate(zip(texts, styles, strict=True)):
        tag, opened = ("th", head) if number < heads else ("td", "td")
        cells.append(f'<{opened} style="{style}">{_escape(text)}</{tag}>')
    return f"<tr>{''.join(cells)}</tr>"


def html_table(
    rows: Iterable[str],
    *,
    caption: str = "",
    style: str = "border-collapse:collapse",
    caption_style: str = "text-align:left",
    scrolls: bool = False,
) -> str:
    """Return a table of rows that are HTML already.

    Parameters
    ----------
    rows : iterable of str
        What `html_row` returns.
    caption : str
        What the table shows; none by default.
    style, caption_style : str
        CSS.
    scrolls : bool
        A table that is wider than its place scrolls in it.

    Examples
    --------
    >>> from tlkit.markup import html_row, html_table
    >>> html_table([html_row(["daisy"], ["text-align:left"])], caption="Flowers")[:77]
    '<table style="border-collapse:collapse"><caption style="text-align:left">Flow'
    """
    title = f'<caption style="{caption_style}">{_escape(caption)}</caption>' if caption else ""
    html = f'<table style="{style}">{title}{"".join(rows)}</table>'
    return f'<div style="overflow-x:auto">{html}</div>' if scrolls else html


def _escape(text: object) -> str:
    return text if isinstance(text, Markup) else escape(str(text))
