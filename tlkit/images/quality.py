"""What to know about pictures before training on them: too few, too uneven, broken, or shown twice."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from html import escape
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tlkit.files.storage import RemotePath
from tlkit.memory import counted

__all__ = ["Advice", "advice", "interval", "find_near_copies"]

FEW = 10  # pictures of a class, below which much depends on which they are
SMALL_TEST = 50  # pictures, below which accuracy is known to some ten points only
UNEVEN = 1.5  # times as many pictures of the largest class as of the smallest
TRAINING_SHARE = 0.8
MOST_COMPARED = 5_000  # pictures
UNREAD = (".heic", ".heif", ".dng", ".cr2", ".cr3", ".nef", ".arw")  # photos that Pillow does not read
SIDE = 16  # of the pattern of a picture
SAME = 0.7  # agreement of two patterns: 1 is equal, 0 is chance; no two of 1,500 unlike photos came above 0.65
LISTED = 5


class Advice(list):
    """Sentences, each about something to mend; prints as a list and is empty where there is nothing."""

    def __repr__(self) -> str:
        return "\n".join(f"- {sentence}" for sentence in self) or "Nothing stands out in these pictures."

    def _repr_html_(self) -> str:
        if not self:
            return f"<p>{self!r}</p>"
        items = "".join(f'<li style="margin:4px 0">{escape(sentence)}</li>' for sentence in self)
        return f'<ul style="max-width:760px;line-height:1.5">{items}</ul>'


def advice(images: Any) -> Advice:
    """Say what to mend in pictures before they are split: broken, few, uneven, in two classes, or shown twice.

    Copies are found also where a picture was saved again, smaller, or brighter; not where it was cropped or turned, and
    not where something was photographed twice. Among more than 5,000 pictures they are not looked for.

    Parameters
    ----------
    images : ImageSet
        All pictures: ``tl.images.load(folder, split=None, on_bad="skip")``. Each is decoded once.

    Returns
    -------
    Advice
        A list of sentences.

    Raises
    ------
    TypeError
        When the pictures are split already, or are none.

    Examples
    --------
    >>> import tlkit as tl
    >>> tl.images.advice(tl.images.load("drawn", split=None, per_class=10))
    - A split at 80% leaves 10 pictures to test on. Each is 10 points of accuracy, and about 90% measured may be
    anything from 60% to 98%.
    """
    if not hasattr(images, "paths"):
        hint = (
            " Load them with split=None: what stands out is told before the split." if hasattr(images, "train") else ""
        )
        msg = f"advice takes the pictures that tl.images.load returns, got {type(images).__name__}.{hint}"
        raise TypeError(msg)
    counts = Counter(dict.fromkeys(images.classes, 0))
    counts.update(images.classes[label] for label in images.labels.tolist())
    copies = find_near_copies(images) if len(images) <= MOST_COMPARED else []
    found = [_unread(images), _broken(images.skipped), _few(counts), _uneven(counts), *_copied(images, copies)]
    return Advice(filter(None, found))


def interval(right: int, total: int) -> tuple[float, float]:
    """Return between which two shares an accuracy lies that was measured on some pictures, at 95% confidence.

    Wilson's interval: it tells what chance of the choice of test pictures leaves open, and nothing about pictures of
    another kind.

    Parameters
    ----------
    right, total : int
        Pictures that were right, and all pictures of the test.

    Examples
    --------
    >>> import tlkit as tl
    >>> "{:.0%} to {:.0%}".format(*tl.images.interval(36, 40))
    '77% to 96%'
    """
    if not 0 <= right <= total or total < 1:
        msg = f"Of {total} pictures, {right} cannot be right."
        raise ValueError(msg)
    z = 1.96
    share, tail = right / total, z * z / total
    middle = (share + tail / 2) / (1 + tail)
    half = sqrt(share * (1 - share) * tail + tail * tail / 4) / (1 + tail)
    return max(0.0, middle - half), min(1.0, middle + half)


def find_near_copies(images: Any) -> list[list[int]]:
    """Return groups of row numbers whose pictures show the same shot, whatever its size or brightness."""
    patterns = torch.cat([_pattern(pixels) for pixels, _ in images.batches(64)])
    group = list(range(len(patterns)))
    for start in range(0, len(patterns), 512):
        alike = patterns[start : start + 512] @ patterns.t() / patterns.shape[1] >= SAME
        for row, other in alike.nonzero().tolist():
            if other > row + start:
                _join(group, row + start, other)
    members: dict[int, list[int]] = {}
    for row in range(len(group)):
        members.setdefault(_head(group, row), []).append(row)
    return [rows for rows in members.values() if len(rows) > 1]


def _pattern(pixels: Tensor) -> Tensor:
    """Say for each place of a coarse grid whether it is brighter than the place left of it: 1 or -1.

    A picture that hardly has light and dark places gets zeros: it would be like every other of its kind.
    """
    gray = nn.functional.interpolate(pixels.float().mean(1, keepdim=True), (SIDE, SIDE + 1), mode="area")[:, 0]
    pattern = torch.where(gray[:, :, 1:] > gray[:, :, :-1], 1.0, -1.0).flatten(1)
    return pattern * (pattern.mean(1, keepdim=True).abs() < 0.8)


def _head(group: list[int], row: int) -> int:
    while group[row] != row:
        row = group[row]
    return row


def _join(group: list[int], row: int, other: int) -> None:
    first, second = sorted((_head(group, row), _head(group, other)))
    group[second] = first


def _unread(images: Any) -> str:
    if not images.paths or any(isinstance(path, RemotePath) for path in images.paths):
        return ""
    root = Path(os.path.commonpath([path.parent for path in images.paths]))
    files = [path for name in images.classes for path in sorted((root / name).rglob("*"))]
    kinds = Counter(path.suffix.lower() for path in files if not path.name.startswith("."))
    counts = [f"{kinds[kind]:,} of '{kind}'" for kind in UNREAD if kinds[kind]]
    return f"Photos of some kinds are left out: {_listed(counts)}. Save them as JPEG." if counts else ""


def _broken(skipped: Iterable[tuple[Path, str]]) -> str:
    broken = [f"{path.parent.name}/{path.name} ({reason})" for path, reason in skipped]
    return f"{_number(broken, 'file')} cannot be read and {_is(broken)} left out: {_listed(broken)}." if broken else ""


def _few(counts: Counter[str]) -> str:
    few = [f"'{name}' {count}" for name, count in counts.items() if count < FEW]
    least = min(counts.values())
    test = len(counts) * (least - min(max(round(TRAINING_SHARE * least), 1), least - 1)) if least > 1 else 0
    sentences = []
    if few:
        sentences.append(
            f"{_number(few, 'class', 'classes')} {'has' if len(few) == 1 else 'have'} fewer than {FEW} pictures: "
            f"{_listed(few)}. What is learned then depends on which pictures these are. Add some."
        )
    if 0 < test < SMALL_TEST:
        low, high = interval(round(0.9 * test), test)
        sentences.append(
            f"A split at {TRAINING_SHARE:.0%} leaves {test} pictures to test on. Each is {100 / test:.3g} points of "
            f"accuracy, and about 90% measured may be anything from {low:.0%} to {high:.0%}."
        )
    return " ".join(sentences)


def _uneven(counts: Counter[str]) -> str:
    (largest, most), (smallest, least) = counts.most_common()[0], counts.most_common()[-1]
    if most < UNEVEN * least:
        return ""
    unused = sum(counts.values()) - len(counts) * least
    return (
        f"Class '{largest}' has {counted(most, 'picture')}, '{smallest}' only {least}. A split cuts each class to the "
        f"smallest, so {unused:,} of {sum(counts.values()):,} pictures are not used. Add pictures of '{smallest}'."
    )


def _copied(images: Any, copies: list[list[int]]) -> Iterator[str]:
    labels = images.labels.tolist()
    crossing = [rows for rows in copies if len({labels[row] for row in rows}) > 1]
    for groups, where, harm in (
        (crossing, "in two classes", "One of the labels is wrong, and training cannot satisfy both."),
        (
            [rows for rows in copies if rows not in crossing],
            "there more than once",
            "With one copy in the training and one in the test set, the test asks what training has shown (leakage).",
        ),
    ):
        names = [" = ".join(f"{p.parent.name}/{p.name}" for p in (images.paths[row] for row in g)) for g in groups]
        if names:
            yield f"{_number(names, 'picture')} {_is(names)} {where}: {_listed(names, '; ')}. {harm} Keep one of each."


def _number(things: list[str], noun: str, plural: str = "") -> str:
    return counted(len(things), noun, plural)


def _is(things: list[str]) -> str:
    return "is" if len(things) == 1 else "are"


def _listed(things: list[str], comma: str = ", ") -> str:
    more = f"{comma}and {len(things) - LISTED} more" if len(things) > LISTED else ""
    return comma.join(things[:LISTED]) + more
