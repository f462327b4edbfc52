"""A cut of a network in words, in a table of figures, and in pictures that stand still."""

from __future__ import annotations

from html import escape
from math import prod

from tlkit.colors import INK, WHITE
from tlkit.markup import Markup
from tlkit.memory import counted, readable_size
from tlkit.training.timings import Epoch
from tlkit.widgets.cuts import Cut, Cuts, Piece
from tlkit.widgets.face import FROZEN_STYLE, TRAINABLE_STYLE, drawn_row, facts, note

__all__ = ["cut_facts", "describe_cut", "cut_pictures", "readable_count", "seconds_facts"]

EDGE = f"1px solid {WHITE}"  # between the parts of a picture


def describe_cut(cut: Cut) -> str:
    """Return a sentence that says what is frozen and what is trained."""
    where = f"Frozen up to {' and '.join(cut.boundary)}" if cut.boundary else "Nothing frozen"
    return f"{where}: {cut.frozen:,} parameters frozen, {cut.trainable:,} trainable."


def cut_facts(cut: Cut, images: int | None) -> str:
    """Return a table of what the cut means, the same on every machine."""
    total = max(cut.frozen + cut.trainable, 1)
    rows = [
        ("Parameters frozen", f"{cut.frozen:,} ({cut.frozen / total:.1%})"),
        ("Parameters trainable", f"{cut.trainable:,} ({cut.trainable / total:.1%})"),
    ]
    for number, (name, shape) in enumerate(cut.shapes.items()):
        label = "The trainable part reads" if number == 0 else "and"
        rows.append((label, f"{name if cut.boundary else 'the image itself'}: {_shape(shape)}"))
    rows.append(("Multiplications for one image, whole network", readable_count(cut.work)))
    if not cut.boundary:
        return facts([*rows, ("Featurized images", "none: all of the network runs for every image, every time")])
    share = cut.trainable_work / max(cut.work, 1)
    behind = f"{readable_count(cut.trainable_work)} ({share:.1%})" if share >= 0.0005 else f"{cut.trainable_work:,}"
    rows.append(("Multiplications for one image, behind the boundary", behind))
    rows.append(("One featurized image (float32)", readable_size(cut.nbytes)))
    if images is not None:
        rows.append((f"All {counted(images, 'image')}, featurized, on disk", readable_size(cut.nbytes * images)))
    return facts(rows)


def seconds_facts(cut: Cut, epoch: Epoch, images: int) -> str:
    """Return a table of what an epoch costs on this machine."""
    rows = [("One epoch, whole network", _readable_time(epoch.whole))]
    if cut.boundary:
        rows += [
            ("One epoch on features", _readable_time(epoch.featurized)),
            ('Making the features, once, by engine="torch"', _readable_time(epoch.featurizing)),
            ("Speed-up of an epoch by features", f"{epoch.speed_up:,.{0 if epoch.speed_up >= 10 else 1}f} times"),
        ]
    return note(f"For {counted(images, 'image')}, as measured on this machine:") + facts(rows)


def cut_pictures(cuts: Cuts, cut: Cut) -> str:
    """Return the stages from input to output, and what they hold and cost to scale: pictures made of tables."""
    parts = cuts.parts(cut.vertices)
    stages = drawn_row("The network from input to output; the numbers count parameters.", *_stages(parts))
    sizes, work = [part.parameters for part in parts], [part.work for part in parts]
    return stages + _to_scale("Its parameters, to scale.", parts, sizes) + _to_scale(
        "Its multiplications for one image, to scale.", parts, work
    )  # fmt: skip


def readable_count(number: float) -> str:
    """Write a large number shortly: ``138.4 M``.

    Examples
    --------
    >>> from tlkit.widgets.cut_facts import readable_count
    >>> readable_count(15_470_264_320), readable_count(4_097_000), readable_count(12)
    ('15.5 G', '4.1 M', '12')
    """
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return f"{number:.0f}"


def _stages(parts: list[Piece]) -> tuple[list[str], list[str]]:
    """Return the text and the style of each part."""
    texts, styles = [], []
    for before, part in zip([None, *parts], parts, strict=False):
        style, word = _state(part)
        edge = f"6px solid {INK}" if before is not None and before.frozen and not part.frozen else EDGE
        box = f"border:none;border-left:{edge};padding:8px 2px;min-width:56px;text-align:center;vertical-align:middle"
        label = escape(part.label).replace("_", "_<wbr>")
        amount = readable_count(part.parameters) if part.parameters else "–"
        texts.append(Markup(f"{label}<br><b>{word}</b><br>{amount}"))
        styles.append(f"{style};{box};font-size:11px;line-height:1.4;white-space:normal")
    return texts, styles


def _to_scale(caption: str, parts: list[Piece], amounts: list[int]) -> str:
    """Draw each part as wide as its amount; its name and its share are written where there is room."""
    total = max(sum(amounts), 1)
    box = "padding:0;height:20px;text-align:center;font-size:11px;line-height:20px;overflow:hidden;white-space:nowrap"
    texts, styles = [], []
    for part, amount in zip(parts, amounts, strict=True):
        share = amount / total
        if share < 0.001:
            continue
        style, word = _state(part)
        texts.append(Markup(f"{escape(part.label)} <b>{word}</b> {share:.0%}" if share > 0.25 else ""))
        styles.append(f"{style};border:none;border-left:{EDGE};{box};width:{share:.1%}")
    return drawn_row(caption, texts, styles)


def _state(part: Piece) -> tuple[str, str]:
    return (FROZEN_STYLE, "frozen") if part.frozen else (TRAINABLE_STYLE, "trainable")


def _shape(shape: tuple[int, ...]) -> str:
    if len(shape) < 2:
        return f"{prod(shape):,} numbers"
    return f"{' × '.join(map(str, shape))} = {prod(shape):,} numbers"


def _readable_time(seconds: float) -> str:
    if seconds < 0.095:
        return f"{seconds:.2g} s"
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
