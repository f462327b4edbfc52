"""A network drawn as a strip of blocks, from input to output, with its frozen and its trainable part."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate, groupby, pairwise

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from tlkit.colors import INK, MUTED
from tlkit.errors import near_misses
from tlkit.graph.network import Network
from tlkit.graph.summary import collect_weights
from tlkit.plots.figure import STATES, WIDTH, Picture, sheet, shorten, text_width, write

__all__ = ["draw_strip", "network_strip"]

HEIGHT = 64  # of the strip, in pixels

Block = tuple[str, str, int, bool]
Span = tuple[float, float]  # left and right edge in pixels


def network_strip(net: Network, *, title: str | None = None) -> Picture:
    """Draw a network from input to output as a strip, with its frozen and its trainable part and their boundary.

    Parameters
    ----------
    net : Network
        The width of a vertex grows with the square root of its number of parameters, counted as in its summary.
    title : str, optional
        The figure's message; by default the number of trainable parameters.
    """
    counts = {name: sum(map(Tensor.numel, own.values())) for name, own in collect_weights(net).items()}
    blocks = [
        (name, type(vertex.module).__name__, counts[name], name in net.frozen) for name, vertex in net.vertices.items()
    ]
    boundary = [name for name in net.boundary() if name in net.frozen]
    return draw_strip(blocks, boundary=boundary[0] if len(boundary) == 1 else None, title=title)


def draw_strip(blocks: Iterable[Block], *, boundary: str | None = None, title: str | None = None) -> Picture:
    """Draw rows of blocks as a strip; `network_strip` makes the rows from a network.

    Parameters
    ----------
    blocks : iterable of (name, kind, parameters, frozen)
        In order. The width of a block grows with the square root of its number of parameters; blocks without
        parameters are drawn half as high. Kinds are written where there is room for them.
    boundary : str, optional
        Name of the block after which the frozen part ends; a line marks it.
    title : str, optional
        The figure's message; by default the number of trainable parameters.

    Examples
    --------
    >>> from tlkit.plots.strip import draw_strip
    >>> draw_strip([("fc1", "Dense", 1000, True), ("predictions", "Output", 50, False)], boundary="fc1")
    Picture('Network of 2 blocks, 1 frozen')
    """
    blocks = list(blocks)
    if not blocks:
        msg = "There is no network to draw: the list of blocks is empty."
        raise ValueError(msg)
    names = [name for name, *_ in blocks]
    if boundary is not None and boundary not in names:
        msg = f"No block is called '{boundary}'.{near_misses(boundary, names)} Blocks: {', '.join(names)}."
        raise ValueError(msg)
    totals = {word: sum(count for *_, count, frozen in blocks if frozen == (word == "frozen")) for word in STATES}
    message = title or f"{totals['trainable']:,} of {sum(totals.values()):,} parameters are trainable"

    spans = _spans([parameters for _, _, parameters, _ in blocks])
    legend = _legend(blocks, spans, totals)
    top = 14 + 20 * max(level for *_, level in legend)
    names_at = top + HEIGHT + 6
    labels = _labels(blocks, spans, boundary)
    bottom = names_at + max(text_width(text) if upright else 16 for text, _, upright in labels) + 4
    axes = sheet(bottom + (24 if boundary is not None else 0) + 22, message)
    for text, x, level in legend:
        write(axes, x, top - 14 - 20 * (level - 1), text, va="bottom", fontweight="bold")
    for (_, _, parameters, frozen), (left, right) in zip(blocks, spans, strict=True):
        _draw_block(axes, left, right, top, parameters, "frozen" if frozen else "trainable")
    for text, x, upright in labels:
        write(axes, x, names_at, text, ha="center", va="top", rotation=90 * upright)
    if boundary is not None:
        _draw_boundary(axes, boundary, spans[names.index(boundary)][1] + 1, top, bottom)
    note = "Width: square root of the number of parameters. Half height: no parameters."
    write(axes, 8, axes.get_ylim()[0] - 2, note, va="bottom", color=MUTED)
    frozen_names = [name for name, *_, frozen in blocks if frozen]
    parts = [f"frozen: {len(frozen_names)} with {totals['frozen']:,} parameters"]
    parts.append(f"trainable: {len(blocks) - len(frozen_names)} with {totals['trainable']:,} parameters")
    where = f" The boundary is {boundary}." if boundary is not None else ""
    alt = f"{message}. A network of {len(blocks)} blocks from {names[0]} to {names[-1]}; {'; '.join(parts)}.{where}"
    return Picture(axes.figure, f"Network of {len(blocks)} blocks, {len(frozen_names)} frozen", alt)


def _spans(parameters: list[int]) -> list[Span]:
    """Share the width among the blocks, so that the smallest one still shows."""
    room, roots = WIDTH - 16, [count**0.5 for count in parameters]
    least = min(15.0, 0.8 * room / len(parameters))
    rest = room - least * len(parameters)
    widths = [least + rest * (root / sum(roots) if sum(roots) else 1 / len(roots)) for root in roots]
    edges = [8.0, *(8 + total for total in accumulate(widths))]
    return [(left, right - 2) for left, right in pairwise(edges)]


def _labels(blocks: list[Block], spans: list[Span], boundary: str | None) -> list[tuple[str, float, bool]]:
    """Return (text, middle, upright) of the names that fit: the boundary, both ends, then as many as possible."""
    numbers = range(len(blocks))
    chosen: dict[int, float] = {}
    edge = next((spans[number][1] for number in numbers if blocks[number][0] == boundary), None)
    for number in [*(number for number in numbers if blocks[number][0] == boundary), 0, len(blocks) - 1, *numbers]:
        left, right = spans[number]
        middle = (left + right) / 2
        if edge is not None and abs(middle - edge) < 8:  # the boundary's line needs room
            middle = edge + (8 if middle > edge else -8)
        if all(abs(middle - other) >= 14 for other in chosen.values()):
            chosen[number] = middle
    labels = []
    for number, middle in chosen.items():
        (name, kind, *_), (left, right) = blocks[number], spans[number]
        flat = [text for text in (f"{name} ({kind})", name) if text_width(text) < right - left]
        labels.append((flat[0] if flat else shorten(name, 150), middle, not flat))
    return labels


def _legend(blocks: list[Block], spans: list[Span], totals: dict[str, int]) -> list[tuple[str, float, int]]:
    """Return (text, left, level) for the frozen and the trainable part, one above the other where they collide."""
    legend: list[tuple[str, float, int]] = []
    for word in STATES:
        runs = _runs(blocks, spans, word)
        if not runs:
            continue
        left, right = max(runs, key=lambda run: run[1] - run[0])
        text = f"{word}: {totals[word]:,} parameters"
        width = text_width(text, bold=True)
        x = min(max((left + right - width) / 2, 8), WIDTH - 8 - width)
        beside = all(
            x > other + text_width(said, bold=True) + 12 or x + width < other - 12 for said, other, _ in legend
        )
        legend.append((text, x, 1 if beside else 2))
    return legend


def _runs(blocks: list[Block], spans: list[Span], word: str) -> list[Span]:
    runs = []
    for frozen, run in groupby(range(len(blocks)), key=lambda number: blocks[number][3]):
        numbers = list(run)
        if frozen == (word == "frozen"):
            runs.append((spans[numbers[0]][0], spans[numbers[-1]][1]))
    return runs


def _draw_block(axes: Axes, left: float, right: float, top: float, parameters: int, state: str) -> None:
    height, middle = HEIGHT if parameters else HEIGHT / 2, top + HEIGHT / 2
    axes.add_patch(Rectangle((left, top - 10), right - left + 2, 5, facecolor=STATES[state]["facecolor"]))
    axes.add_patch(Rectangle((left, middle - height / 2), right - left, height, linewidth=0, **STATES[state]))
    text = f"{parameters / 1e6:.0f} M" if parameters >= 1e6 else f"{parameters / 1e3:.0f} k"
    if parameters >= 1000 and right - left > text_width(text) + 10:
        box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none"}
        write(axes, (left + right) / 2, middle, text, ha="center", va="center", bbox=box)


def _draw_boundary(axes: Axes, boundary: str, edge: float, top: float, bottom: float) -> None:
    axes.plot([edge, edge], [top - 12, top + HEIGHT + 2], color=INK, linewidth=3, solid_capstyle="butt")
    axes.plot([edge, edge], [top + HEIGHT, bottom], color=INK, linewidth=1, solid_capstyle="butt")
    text = shorten(f"boundary: {boundary}", WIDTH - 16, bold=True)
    width = text_width(text, bold=True)
    write(axes, min(max(edge - width / 2, 8), WIDTH - 8 - width), bottom + 3, text, va="top", fontweight="bold")
