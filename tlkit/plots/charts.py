"""Curves, confusion matrices and bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter
from torch import Tensor

from tlkit.colors import CURVES, INK, MUTED, NEUTRAL, RIGHT, RULE, WRONG
from tlkit.errors import near_misses
from tlkit.plots.figure import STATES, WIDTH, Picture, chart, sheet, shorten, text_width, write
from tlkit.plots.smoothing import smooth

__all__ = ["bars", "confusion_matrix", "learning_curves"]


def learning_curves(
    histories: Any, *, show: str | None = None, batch_size: int | None = None, title: str | None = None
) -> Picture:
    """Draw how accuracy rises or loss falls while one or several networks train.

    Parameters
    ----------
    histories : History or mapping of str to History
        What `fit` returns: `.losses`, one number per iteration, and `.evaluations`, pairs (iteration, accuracy on
        the test images). A mapping compares several runs under their names.
    show : {"accuracy", "loss"}, optional
        By default accuracy where it was measured, loss otherwise.
    batch_size : int, optional
        Images per iteration; when given, the axis counts images instead of iterations.
    title : str, optional
        The figure's message; by default where the curves end.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import tlkit as tl
    >>> history = SimpleNamespace(losses=[1.6, 1.1, 0.8], evaluations=[(1, 0.3), (3, 0.7)])
    >>> tl.plots.learning_curves({"transferred": history}, batch_size=15)
    Picture('Accuracy of transferred against images seen')
    """
    named = dict(histories) if isinstance(histories, Mapping) else {"": histories}
    show = show or ("accuracy" if any(history.evaluations for history in named.values()) else "loss")
    if show not in ("accuracy", "loss"):
        msg = f"show is 'accuracy' or 'loss'; got {show!r}.{near_misses(show, ('accuracy', 'loss'))}"
        raise ValueError(msg)
    curves = {name: _curve(history, show, batch_size or 1) for name, history in named.items()}
    empty = [name or "history" for name, curve in curves.items() if not curve.steps]
    if empty or not curves:
        what = (
            "has no finite loss: nothing was trained, or training diverged at once"
            if show == "loss"
            else "was never evaluated: pass test data to fit"
        )
        msg = f"There is no curve to draw: {empty[0] if empty else 'the mapping of histories'} {what}."
        raise ValueError(msg)

    unit = "images seen" if batch_size else "iterations"
    message = title or _curve_message(curves, show, unit)
    texts = {name: f"{shorten(name, 150, bold=True)} {curve.end}".strip() for name, curve in curves.items()}
    right = 26 + max(text_width(text, bold=True) for text in texts.values())
    what = "accuracy on test images" if show == "accuracy" else "loss on training images"
    smoothed = max(curve.window for curve in curves.values())
    note = f"\n(thick: mean of {smoothed} iterations)" if smoothed > 1 else ""
    axes = chart(280, message, left=90, right=right, xlabel=unit, ylabel=what + note)
    axes.set_xlim(left=0, right=max(1, *(curve.steps[-1] for curve in curves.values())))
    axes.set_ylim(bottom=0, top=1 if show == "accuracy" else 1.05 * max(max(curve.values) for curve in curves.values()))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if show == "accuracy":
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    for number, curve in enumerate(curves.values()):
        _draw_curve(axes, curve, show, number % len(CURVES))
    _label_ends(axes, [(curve.values[-1], texts[name]) for name, curve in curves.items()])
    names = ", ".join(name for name in named if name)
    course = [
        f"{name or 'the curve'} goes from {curve.values[0]:.2f} to {curve.values[-1]:.2f} at {curve.steps[-1]:,} {unit}"
        for name, curve in curves.items()
    ]
    subject = f"{show.capitalize()}{' of ' * bool(names)}{names} against {unit}"
    return Picture(axes.figure, subject, f"{message}. {what.capitalize()} against {unit}: {'; '.join(course)}.")


class _Curve(NamedTuple):
    steps: list[float]
    values: list[float]
    raw: list[float]  # what `values` are the means of
    window: int  # iterations per mean
    end: str


def _curve(history: Any, show: str, scale: int) -> _Curve:
    points = history.evaluations if show == "accuracy" else list(enumerate(history.losses, start=1))
    finite = [(step * scale, float(value)) for step, value in points if isfinite(value)]
    steps, values = [step for step, _ in finite], [value for _, value in finite]
    if show == "accuracy" or not values:
        return _Curve(steps, values, values, 1, f"{values[-1]:.0%}" if values else "")
    means, window = smooth(values)
    return _Curve(steps, means, values, window, f"{means[-1]:.2f}" if len(finite) == len(points) else "diverged")


def _curve_message(curves: Mapping[str, _Curve], show: str, unit: str) -> str:
    last = {name: curve.values[-1] for name, curve in curves.items()}
    best = max(last, key=last.get) if show == "accuracy" else min(last, key=last.get)
    falls = curves[best].values[0] > last[best]
    verb = {("accuracy", False): "reaches", ("loss", True): "falls to"}.get((show, falls), "ends at")
    verb = "has" if curves[best].end == "diverged" else verb
    what = f"{best}: {show}" if best else show.capitalize()
    message = f"{what} {verb} {curves[best].end} after {curves[best].steps[-1]:,} {unit}"
    others = [f"{name} {curves[name].end}" for name in last if name != best]
    return f"{message}; {' and '.join(others)}" if 0 < len(others) <= 2 else message


def _draw_curve(axes: Axes, curve: _Curve, show: str, number: int) -> None:
    if curve.window > 1:
        axes.plot(curve.steps, curve.raw, color=CURVES[number], linewidth=1, alpha=0.3)
    # Training is drawn solid; test dashed, with a marker per measurement.
    test = {"linestyle": "--", "marker": "osD^v"[number], "markersize": 6, "clip_on": False}
    axes.plot(curve.steps, curve.values, color=CURVES[number], linewidth=2.5, **(test if show == "accuracy" else {}))


def _label_ends(axes: Axes, labels: list[tuple[float, str]]) -> None:
    """Write each curve's name beside its end, moved apart where ends are close, joined by a thin line."""
    low, high = axes.get_ylim()
    box = axes.get_window_extent()
    labels = sorted(labels)
    ends = [(value - low) / (high - low) * box.height for value, _ in labels]
    places = [float("-inf")]
    for end in ends:
        places.append(max(end, places[-1] + 18))
    ceiling = box.height + 4
    for number in range(len(labels), 0, -1):
        places[number] = min(places[number], ceiling)
        ceiling = places[number] - 18
    for (_, text), end, place in zip(labels, ends, places[1:], strict=True):
        label = axes.annotate(
            text,
            xy=(1, end / box.height),
            xytext=(1 + 16 / box.width, place / box.height),
            xycoords="axes fraction",
            arrowprops={
                "arrowstyle": "-",
                "color": MUTED,
                "linewidth": 0.8,
                "shrinkA": 0,
                "shrinkB": 5,
                "relpos": (0, 0.5),
            },
        )
        label.set(va="center", color=INK, fontsize=10, fontweight="bold", parse_math=False)


def confusion_matrix(evaluation: Any, *, title: str | None = None) -> Picture:
    """Draw which classes are taken for which: rows are true classes, columns predicted ones.

    Correct answers, on the diagonal, are green; mistakes are orange-red, darker the larger their share of the
    true class. Counts and names are written for up to 20 classes.

    Parameters
    ----------
    evaluation : Evaluation
        What `tl.evaluate` returns.
    title : str, optional
        The figure's message; by default the most frequent mistake.

    Examples
    --------
    >>> import torch, tlkit as tl
    >>> tl.plots.confusion_matrix(tl.Evaluation(torch.eye(3), torch.tensor([0, 1, 2]), ("daisy", "roses", "tulips")))
    Picture('Confusion matrix of 3 classes')
    """
    classes, counts = evaluation.classes, evaluation.confusion
    message = title or _confusion_message(counts, classes)
    written = len(classes) <= 20
    names = [shorten(name, 120) if written else "" for name in classes]
    widest = max(text_width(name) for name in names)
    left = widest + 34
    wide = min(100, (WIDTH - left - 10) / len(classes))
    high = min(44, wide)
    upright = widest + 6 > wide
    top = 24 + (widest + 10 if upright else 22) * written
    axes = sheet(top + high * len(classes) + 8, message)
    write(axes, left + wide * len(classes) / 2, 2, "predicted class", ha="center", va="top", color=MUTED)
    write(axes, 8, top + high * len(classes) / 2, "true class", va="center", rotation=90, color=MUTED)
    for number, name in enumerate(names):
        write(axes, left - 6, top + (number + 0.5) * high, name, ha="right", va="center")
        write(axes, left + (number + 0.5) * wide, top - 6, name, ha="center", va="bottom", rotation=90 * upright)
    right, low = left + wide * len(classes), top + high * len(classes)
    axes.imshow(_shades(counts), extent=(left, right, low, top), aspect="auto", interpolation="nearest")
    axes.set(xlim=(0, WIDTH), ylim=(low + 8, 0))
    steps = range(0, len(classes) + 1, 1 if high > 6 else len(classes))  # lines would hide tiny cells
    axes.hlines([top + step * high for step in steps], left, right, color=RULE, linewidth=0.8)
    axes.vlines([left + step * wide for step in steps], top, low, color=RULE, linewidth=0.8)
    style = {"ha": "center", "va": "center", "fontweight": "bold", "fontsize": 12 if high > 30 else 10}
    for row, column in counts.nonzero().tolist() if written else []:
        x, y = left + (column + 0.5) * wide, top + (row + 0.5) * high
        write(axes, x, y, str(counts[row, column].item()), **style)
    correct = counts.trace().item()
    alt = f"{message}. Confusion matrix of {len(classes)} classes: {correct:,} of {counts.sum().item():,} correct."
    return Picture(axes.figure, f"Confusion matrix of {len(classes)} classes", alt)


def _shades(counts: Tensor) -> np.ndarray:
    # The square root makes a few mistakes among many images visible.
    shares = (counts / counts.sum(1, keepdim=True).clamp_min(1)).sqrt()[..., None].numpy()
    diagonal = np.eye(len(counts), dtype=bool)[..., None]
    return 1 - shares * (1 - np.where(diagonal, to_rgb(RIGHT), to_rgb(WRONG)))


def _confusion_message(counts: Tensor, classes: Sequence[str]) -> str:
    mistakes = counts - counts.diag().diag()
    most = int(mistakes.max())
    if most == 0:
        return f"All {int(counts.sum()):,} images are classified correctly"
    true, predicted = divmod(int(mistakes.argmax()), len(classes))
    total = int(counts[true].sum())
    return f"The most frequent mistake: {classes[true]} taken for {classes[predicted]}, {most:,} of {total:,}"


def bars(values: Mapping[str, float], title: str, *, unit: str = "") -> Picture:
    """Compare a few numbers as horizontal bars that start at zero, with the number written beside each.

    Bars whose name starts with "frozen" or "trainable" carry the colors and hatching of these words.

    Parameters
    ----------
    values : mapping of str to float
        Not negative.
    title : str
        The figure's message.
    unit : str
        Written behind each number. With "%" the values are percentages and a full bar is 100.

    Examples
    --------
    >>> import tlkit as tl
    >>> tl.plots.bars({"from scratch": 31.0, "transferred": 92.7}, "Transfer triples the accuracy", unit="%")
    Picture('Bars: from scratch, transferred')
    """
    wrong = [name for name, value in values.items() if not 0 <= value < float("inf")]
    if wrong or not values:
        got = f"'{wrong[0]}' is {values[wrong[0]]}" if wrong else "there is no value"
        msg = f"bars compares numbers from zero upwards; {got}."
        raise ValueError(msg)
    names = {name: shorten(name, 200) for name in values}
    texts = {name: _number(value) + (unit if unit == "%" else f" {unit}".rstrip()) for name, value in values.items()}
    left = 20 + max(text_width(name) for name in names.values())
    room = WIDTH - left - 20 - max(text_width(text, bold=True) for text in texts.values())
    largest = max(*values.values(), 100 if unit == "%" else 0) or 1
    axes = sheet(40 * len(values) + 4, title)
    for row, (name, value) in enumerate(values.items()):
        middle, length = 40 * row + 20, room * value / largest
        style = next((STATES[word] for word in STATES if name.startswith(word)), {"facecolor": NEUTRAL})
        axes.add_patch(Rectangle((left, middle - 13), length, 26, linewidth=0, **style))
        write(axes, left - 8, middle, names[name], ha="right", va="center")
        write(axes, left + length + 8, middle, texts[name], va="center", fontweight="bold")
    axes.plot([left, left], [0, 40 * len(values)], color=MUTED, linewidth=1)
    listed = ", ".join(f"{name} {text}" for name, text in texts.items())
    return Picture(axes.figure, f"Bars: {', '.join(values)}", f"{title}. Bars: {listed}.")


def _number(value: float) -> str:
    return f"{value:,.0f}" if isinstance(value, int) or value >= 100 else f"{value:.3g}"
