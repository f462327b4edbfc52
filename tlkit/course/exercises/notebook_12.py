"""Exercises of notebook 12: where to freeze?"""

from __future__ import annotations

from math import prod
from typing import Any

from tlkit.course.checks import NotYet, as_network, as_number, boundary_of, exercise, kind_of
from tlkit.graph.network import Network
from tlkit.memory import readable_size
from tlkit.profiling import CutProfile, FreezeProfile

__all__: list[str] = []

POINTS = 0.02  # below the best accuracy
IMAGES, ROOM = 100_000, 5_000_000_000


@exercise("12.1", "the bytes of a store of 10,000 photos at places.fine_tune_from, as float32.")
def store_size(answer: Any, net: Network) -> str:
    number = as_number(answer)
    name = as_network(net).landmarks.fine_tune_from
    shape = net.output_shapes()[name]
    numbers, right = prod(shape), 10_000 * 4 * prod(shape)
    product = " × ".join(map(str, shape))
    if number == right:
        return f"{product} numbers of 4 bytes are {4 * numbers:,} bytes a photo, {readable_size(right)} in all."
    if number == 10_000 * numbers:
        missing = f"{number:,} is how many numbers there are. As float32, each takes four bytes."
    elif number == 4 * numbers:
        missing = f"{number:,} bytes are one photo's. There are 10,000."
    elif number == 10_000 * 4 * shape[0]:
        missing = f"that is the size of averaged features. A store keeps the whole answer of '{name}', {product}."
    else:
        missing = f"{number:,} is not it. '{name}' answers {product} numbers for one photo."
    raise NotYet(missing)


@exercise("12.2", "the earliest cut point whose linear head is at most 2 points below the best one.")
def earliest(answer: Any, profile: FreezeProfile) -> str:
    row = _row(answer, profile)
    best = profile.best
    first = next(row for row in profile.rows if row.accuracy >= best.accuracy - POINTS - 1e-9)
    if row == first:
        return (
            f"'{first.boundary}' is at {first.accuracy:.0%}, the best, '{best.boundary}', at {best.accuracy:.0%}. "
            f"Behind it, {first.trainable:,} parameters are left to train or to throw away."
        )
    if row.accuracy < first.accuracy and profile.rows.index(row) < profile.rows.index(first):
        missing = (
            f"'{row.boundary}' is at {row.accuracy:.1%}, more than 2 points below the best with {best.accuracy:.1%}."
        )
    elif row.accuracy < best.accuracy - POINTS - 1e-9:
        missing = f"'{row.boundary}' is at {row.accuracy:.1%}: that is too low, and there are others before it."
    else:
        missing = f"'{row.boundary}' is good enough at {row.accuracy:.1%}, but it is not the first. Look further up."
    raise NotYet(missing)


@exercise("12.3", "for 100,000 photos and 5 GB of disk: a network frozen where the best linear head that fits reads.")
def affordable(answer: Any, profile: FreezeProfile) -> str:
    found = boundary_of(as_network(answer))
    row = _row(found, profile)
    fitting = [row for row in profile.rows if _bytes(row) <= ROOM]
    if not fitting:
        return f"no store of this network fits into {readable_size(ROOM)}: any answer is as good as another."
    if _bytes(row) > ROOM:
        missing = (
            f"a store of 100,000 photos at '{found}' takes {readable_size(_bytes(row))}; there are "
            f"{readable_size(ROOM)}. One photo may take 50,000 bytes."
        )
        raise NotYet(missing)
    best = max(fitting, key=lambda row: row.accuracy)
    if row.accuracy < best.accuracy:
        missing = (
            f"'{found}' fits, with {readable_size(_bytes(row))}, and its linear head is at {row.accuracy:.1%}. Another "
            "cut point that fits has a better one."
        )
        raise NotYet(missing)
    return f"at '{found}' the store takes {readable_size(_bytes(row))}, and its linear head is at {row.accuracy:.1%}."


def _row(answer: Any, profile: FreezeProfile) -> CutProfile:
    if not isinstance(answer, str):
        missing = f"the answer is the name of a cut point, and this is {kind_of(answer)}."
        raise NotYet(missing)
    try:
        return profile.at(answer)
    except KeyError as error:
        raise NotYet(error.args[0]) from error


def _bytes(row: CutProfile) -> int:
    return IMAGES * 4 * prod(row.shape)
