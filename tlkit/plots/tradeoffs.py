"""What the cut points of a network are worth, against what they cost, as a figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter

from tlkit.colors import CURVES, INK
from tlkit.errors import near_misses
from tlkit.memory import readable_size
from tlkit.plots.figure import Picture, panels, shorten
from tlkit.profiling import CutProfile, FreezeProfile

__all__ = ["freeze_profile"]

COSTS: dict[str, Callable[[CutProfile], float]] = {
    "trainable parameters": lambda row: row.trainable,
    "size of the store": lambda row: row.store_bytes,
    "seconds an epoch": lambda row: row.seconds,
}
MARKERS, DASHES = "osD^v", ("-", "--", ":", "-.", (0, (5, 1)))
LEGEND = 21  # pixels for each line above the panels


def freeze_profile(
    profiles: FreezeProfile | Mapping[str, FreezeProfile], *, choice: str | None = None, title: str | None = None
) -> Picture:
    """Draw the accuracy at each cut point against trainable parameters, size of the store and seconds an epoch.

    A line joins a network's cut points in their order. All three costs have logarithmic axes.

    Parameters
    ----------
    profiles : FreezeProfile or mapping of str to FreezeProfile
        What `tl.freeze_profile` returns. A mapping compares networks under their names.
    choice : str, optional
        Name of a cut point to mark.
    title : str, optional
        The figure's message; by default where the best linear head is.

    Raises
    ------
    KeyError
        When no profile has the cut point; the message lists near misses.

    Examples
    --------
    >>> import torch, tlkit as tl
    >>> from tlkit.profiling import CutProfile, FreezeProfile
    >>> rows = [CutProfile("conv", (8, 4, 4), 60, 45, 5120, 0.2, 0.5), CutProfile("fc", (8,), 90, 15, 320, 0.1, 0.9)]
    >>> features = tl.Features({"conv": torch.ones(4, 8)}, torch.tensor([0, 1, 0, 1]), ["daisy", "roses"])
    >>> tl.plots.freeze_profile(FreezeProfile(tuple(rows), features, features), choice="fc")
    Picture('Accuracy at 2 cut points against what they cost')
    """
    named = dict(profiles) if isinstance(profiles, Mapping) else {"": profiles}
    chosen = _find_choice(named, choice)
    message = title or _message(named, chosen)
    names = [name for name in named if name]
    top = LEGEND * (len(names) + bool(chosen))
    axes = panels(190, message, list(COSTS), ylabel="test images right", top=top)
    for panel, cost in zip(axes, COSTS.values(), strict=True):
        for number, profile in enumerate(named.values()):
            _draw(panel, profile.rows, cost, number)
        for row in chosen.values():
            panel.plot(_above_zero(cost(row)), row.accuracy, "o", ms=14, mfc="none", mec=INK, mew=2, clip_on=False)
    _scale(axes, [row for profile in named.values() for row in profile.rows])
    if top:
        _write_legend(axes[0], names, choice)
    count = sum(len(profile.rows) for profile in named.values())
    return Picture(
        axes[0].figure, f"Accuracy at {count} cut points against what they cost", _alt(named, chosen, message)
    )


def _find_choice(named: Mapping[str, FreezeProfile], choice: str | None) -> dict[str, CutProfile]:
    """Return the chosen row of each profile that has it."""
    found = {
        name: row
        for name, profile in named.items()
        for row in profile.rows
        if choice is not None and row.boundary == choice
    }
    if choice is not None and not found:
        known = list(chain.from_iterable((row.boundary for row in profile.rows) for profile in named.values()))
        msg = f"There is no cut point '{choice}' to mark.{near_misses(choice, known)} There are {', '.join(known)}."
        raise KeyError(msg)
    return found


def _draw(panel: Axes, rows: tuple[CutProfile, ...], cost: Callable[[CutProfile], float], number: int) -> None:
    style = {"color": CURVES[number % 5], "marker": MARKERS[number % 5], "linestyle": DASHES[number % 5]}
    x = [_above_zero(cost(row)) for row in rows]
    panel.plot(x, [row.accuracy for row in rows], markersize=5, linewidth=1.5, clip_on=False, **style)


def _above_zero(value: float) -> float:
    return max(value, 1e-6)  # a logarithmic axis has no zero


def _scale(axes: list[Axes], rows: list[CutProfile]) -> None:
    axes[0].set_ylim(0, 1)
    axes[0].yaxis.set_major_formatter(PercentFormatter(1))
    for panel, cost, words in zip(axes, COSTS.values(), (_short, _bytes, _seconds), strict=True):
        values = [_above_zero(cost(row)) for row in rows]
        panel.set_xscale("log")
        panel.set_xlim(min(values) / 1.8, max(values) * 1.8)
        panel.xaxis.set_major_locator(LogLocator(numticks=3 if words is _bytes else 4))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _, words=words: words(value)))


def _short(number: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.0f}{unit}"
    return f"{number:.0f}"


def _bytes(size: float) -> str:
    return readable_size(size).replace(".0 ", " ")


def _seconds(value: float) -> str:
    return f"{value:,.10g}"


def _write_legend(panel: Axes, names: list[str], choice: str | None) -> None:
    lines = [
        Line2D([], [], color=CURVES[number % 5], marker=MARKERS[number % 5], linestyle=DASHES[number % 5], markersize=5)
        for number in range(len(names))
    ]
    words = [*names, *([f"your choice: {choice}"] if choice is not None else [])]
    if choice is not None:
        lines.append(Line2D([], [], color=INK, marker="o", markersize=11, mfc="none", mew=2, linestyle="none"))
    box, height = panel.get_position(), panel.figure.bbox.height
    legend = panel.figure.legend(
        lines, [shorten(text, 480) for text in words], fontsize=10, frameon=False, loc="lower left", borderaxespad=0,
        handlelength=2.4, labelspacing=0.35, bbox_to_anchor=(box.x0, box.y1 + 6 / height),
    )  # fmt: skip
    for text in legend.get_texts():
        text.set(color=INK, parse_math=False)


def _message(named: Mapping[str, FreezeProfile], chosen: Mapping[str, CutProfile]) -> str:
    best = {name: profile.best for name, profile in named.items()}
    if len(named) > 1:
        return "; ".join(f"{name}: {row.accuracy:.0%} at {row.boundary}" for name, row in best.items())
    (row,) = best.values()
    message = f"Best linear head: {row.accuracy:.0%} at {row.boundary}"
    return "; ".join([message, *(f"{c.accuracy:.0%} at {c.boundary}" for c in chosen.values() if c is not row)])


def _alt(named: Mapping[str, FreezeProfile], chosen: Mapping[str, CutProfile], message: str) -> str:
    sentences = [f"{message}. Three charts of accuracy against trainable parameters, size of the store and seconds."]
    for name, profile in named.items():
        first, last = profile.rows[0], profile.rows[-1]
        sentences.append(
            f"{name or 'The network'}: {_words(first)}; {_words(profile.best)} (the best); {_words(last)}."
        )
    sentences += [f"The choice that is marked: {_words(row)}." for row in chosen.values()]
    return " ".join(sentences)


def _words(row: CutProfile) -> str:
    return (
        f"{row.boundary} {row.accuracy:.0%} with {row.trainable:,} trainable parameters, "
        f"{readable_size(row.store_bytes)} and {row.seconds:.2g} s"
    )
