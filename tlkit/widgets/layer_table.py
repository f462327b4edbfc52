"""The table of a TrainingMonitor: each trainable layer, its learning rate, and its steps against its weights."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from tlkit.colors import GRAY, NEUTRAL
from tlkit.markup import Markup, html_row, html_table
from tlkit.widgets.face import CAPTION, CELL, LINE, TABLE
from tlkit.widgets.steps import USUAL, describe_ratio
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
    styles = [f"{CELL};text-align:{side};font-weight:bold" for side in ("left", "right", "right")]
    styles += [f"{CELL};text-align:center;font-weight:normal;width:{WIDTH}px", f"{CELL};text-align:left"]
    head = ["layer", "learning rate", "log10", Markup(scale), "in words"]
    rows = [html_row(head, styles, heads=len(head), scope="col"), *map(_row, shown)]
    left_out = len(layers) - len(shown)
    more = f" The first {left_out} of {len(layers)} layers are left out." if left_out else ""
    below = f"{CAPTION};max-width:720px"
    return html_table(rows, caption=Markup(TITLE + more), style=TABLE, caption_style=below, scrolls=True)


def _row(layer: LayerSteps) -> str:
    size, words = describe_ratio(layer.ratio)
    rate = "–" if layer.rate is None else f"{layer.rate:.3g}"
    number = f"{size:.1f}".replace("-", "−") if isfinite(size) else "–"
    styles = [f"{CELL};text-align:{side}" for side in ("left", "right", "right", "left", "left")]
    return html_row([layer.name, rate, number, _mark(size), words], styles)


def _mark(size: float) -> Markup:
    """Draw a size as a block on a scale with a line at the usual one."""
    place = (min(max(size, LOWEST), HIGHEST) - LOWEST) / (HIGHEST - LOWEST)
    line = f"linear-gradient(to right,transparent 89px,{GRAY} 89px,{GRAY} 91px,transparent 91px)"
    track = f"width:{WIDTH}px;height:12px;margin-top:3px;border:{LINE};background-image:{line}"
    block = f"width:8px;height:12px;margin-left:{place * (WIDTH - 8):.0f}px;background-color:{NEUTRAL}"
    return Markup(f'<div style="{track}"><div style="{block}"></div></div>')
