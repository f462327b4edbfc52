"""The table of a TrainingMonitor: each trainable layer, its learning rate, and its steps against its weights."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import isfinite

from tlkit.widgets.face import CAPTION, CELL, LINE, TABLE
from tlkit.widgets.steps import USUAL, size_in_words
from tlkit.widgets.training_log import LayerSteps

__all__ = ["layer_table"]

LOWEST, HIGHEST = -6.0, 0.0  # of the scale, in the middle of which the usual size lies
WIDTH = 180  # pixels
MOST_ROWS = 20
TITLE = (
    "Size of each layer's steps: log10 of update : parameter, mean of the last 10 steps. The line at −3, where a step "
    "is a thousandth of the weights, marks the usual size."
)


def layer_table(layers: Sequence[LayerSteps]) -> str:
    """Return the table as HTML; of more than 20 layers, the 20 nearest to the output."""
    if not layers:
        return ""
    shown = layers[-MOST_ROWS:]
    low, middle, high = (f"{size:.0f}".replace("-", "−") for size in (LOWEST, USUAL, HIGHEST))
    scale = f'<span style="float:left">{low}</span><span style="float:right">{high}</span>{middle}'
    titles = [("layer", "left"), ("learning rate", "right"), ("log10", "right")]
    head = "".join(
        f'<th scope="col" style="{CELL};text-align:{side};font-weight:bold">{name}</th>' for name, side in titles
    )
    wide = f"{CELL};text-align:center;font-weight:normal;width:{WIDTH}px"
    head += f'<th scope="col" style="{wide}">{scale}</th><th scope="col" style="{CELL};text-align:left">in words</th>'
    left_out = len(layers) - len(shown)
    more = f" The first {left_out} of {len(layers)} layers are left out." if left_out else ""
    return (
        f'<div style="overflow-x:auto"><table style="{TABLE}"><caption style="{CAPTION};max-width:720px">'
        f"{TITLE}{more}</caption><tr>{head}</tr>{''.join(map(_row, shown))}</table></div>"
    )


def _row(layer: LayerSteps) -> str:
    size, words = size_in_words(layer.ratio)
    rate = "–" if layer.rate is None else f"{layer.rate:.3g}"
    number = f"{size:.1f}".replace("-", "−") if isfinite(size) else "–"
    cells = [(escape(layer.name), "left"), (rate, "right"), (number, "right"), (_mark(size), "left"), (words, "left")]
    return "<tr>" + "".join(f'<td style="{CELL};text-align:{side}">{text}</td>' for text, side in cells) + "</tr>"


def _mark(size: float) -> str:
    """Draw a size as a block on a scale with a line at the usual one."""
    place = (min(max(size, LOWEST), HIGHEST) - LOWEST) / (HIGHEST - LOWEST)
    line = "linear-gradient(to right,transparent 89px,#808080 89px,#808080 91px,transparent 91px)"
    track = f"width:{WIDTH}px;height:12px;margin-top:3px;border:{LINE};background-image:{line}"
    block = f"width:8px;height:12px;margin-left:{place * (WIDTH - 8):.0f}px;background-color:#56B4E9"
    return f'<div style="{track}"><div style="{block}"></div></div>'
