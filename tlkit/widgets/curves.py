"""Small charts of a running training: text that a browser draws, sharp at any zoom and in both themes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import floor, isfinite, log10

from tlkit.colors import CURVES
from tlkit.plots.smoothing import smooth
from tlkit.widgets.training_log import TrainingLog

__all__ = ["draw_line", "draw_training"]

WIDTH, HEIGHT = 400, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 8, 24  # margins
MOST_POINTS = 200  # more than that many cannot be told apart


def draw_line(
    title: str,
    points: Sequence[tuple[int, float]],
    *,
    raw: Sequence[tuple[int, float]] = (),
    last: int,
    starts: Sequence[int] = (),
    share: bool = False,
) -> str:
    """Return a chart as HTML: a title in words, and a curve against iterations that starts at zero.

    Parameters
    ----------
    title : str
        What the chart says.
    points : sequence of (int, float)
        The curve; none gives an empty chart.
    raw : sequence of (int, float)
        What the curve is the mean of, drawn thin.
    last : int
        Where the horizontal axis ends.
    starts : sequence of int
        Iterations at which training was started once more.
    share : bool
        The curve is a share between 0 and 100%, measured now and then: dashed, with a dot for each measurement.
    """
    points, raw = [_thin([p for p in line if isfinite(p[1])]) for line in (points, raw)]
    top = 1.0 if share else _round_up(max((value for _, value in points), default=1.0))
    scale = _Scale(max(last, 1), top)
    inside = [_axes(scale, share), *(_start(scale, start, low=share) for start in starts)]
    if raw:
        inside.append(f'<polyline points="{scale.path(raw)}" fill="none" stroke="{CURVES[0]}" opacity="0.35"/>')
    if points:
        dashes = ' stroke-dasharray="7 4"' if share else ""
        inside.append(
            f'<polyline points="{scale.path(points)}" fill="none" stroke="{CURVES[0]}" stroke-width="2.5"{dashes}/>'
        )
    if share or len(points) == 1:
        inside += [f'<circle cx="{scale.x(x):.1f}" cy="{scale.y(y):.1f}" r="4" fill="{CURVES[0]}"/>' for x, y in points]
    style = "flex:1 1 300px;max-width:460px;margin:4px 0;color:inherit"
    return (
        f'<figure style="{style}"><figcaption style="font-size:13px;line-height:1.5">{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" style="width:100%;display:block" role="img" aria-label="{escape(title)}" '
        f'fill="currentColor" font-size="12">{"".join(inside)}</svg></figure>'
    )


def draw_training(log: TrainingLog, last: int) -> str:
    """Return the loss, and the accuracy where it was measured, as charts side by side.

    Parameters
    ----------
    log : TrainingLog
    last : int
        Iteration at which the axes end.
    """
    if not log.losses:
        return ""
    values, window = smooth(log.losses)
    title = f"Loss on training data (solid) falls from {values[0]:.2f} to {values[-1]:.2f}"
    if not values[-1] < values[0]:
        title = f"Loss on training data (solid): {values[-1]:.2f}"
    thick = f"; thick: mean of {window} iterations" if window > 1 else ""
    means, raw = ([*enumerate(line, start=1)] for line in (values, log.losses if window > 1 else ()))
    again = log.starts[1:]
    charts = [draw_line(f"{title}{thick}.", means, raw=raw, last=last, starts=again)]
    if log.evaluations:
        title = f"Accuracy on test data (dashed): {log.evaluations[-1][1]:.1%}."
        charts.append(draw_line(title, log.evaluations, last=last, starts=again, share=True))
    return f'<div style="display:flex;flex-wrap:wrap;gap:4px 24px">{"".join(charts)}</div>'


class _Scale:
    """From iterations and values to places in the drawing."""

    def __init__(self, last: int, top: float) -> None:
        self.last, self.top = last, top

    def x(self, iteration: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * iteration / self.last

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(max(value / self.top, 0.0), 1.0)

    def path(self, points: Sequence[tuple[int, float]]) -> str:
        return " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)


def _axes(scale: _Scale, share: bool) -> str:
    parts = []
    for value in (0, scale.top / 2, scale.top):
        y = scale.y(value)
        text = f"{value:.0%}" if share else f"{value:.3g}"
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" opacity="0.3"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
        )
    low = HEIGHT - BOTTOM + 15
    for iteration, anchor in ((0, "start"), (scale.last, "end")):
        parts.append(f'<text x="{scale.x(iteration):.1f}" y="{low}" text-anchor="{anchor}">{iteration:,}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    return "".join(parts) + f'<text x="{middle}" y="{low}" text-anchor="middle">iterations</text>'


def _start(scale: _Scale, start: int, *, low: bool) -> str:
    """Mark where training was started once more; `low` writes the words where a rising curve leaves room."""
    x, y = scale.x(start), HEIGHT - BOTTOM - 8 if low else TOP + 12
    line = f'x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="currentColor" stroke-dasharray="2 3"'
    return f'<line {line} opacity="0.6"/><text x="{x + 3:.1f}" y="{y}" font-size="11">started again</text>'


def _thin(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Leave out points that a curve of this width cannot show, never the last one."""
    step = -(-len(points) // MOST_POINTS) or 1
    return list(points[::-1][::step][::-1])


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 5, 10, ... (times a power of ten), with a little room."""
    if not value > 0:
        return 1.0
    power = 10.0 ** floor(log10(value))
    return next(power * step for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15) if power * step >= 1.02 * value)
