"""Exercises of notebook 13: beyond one machine."""

from __future__ import annotations

from typing import Any

from tlkit.course.checks import NotYet, as_number, exercise

__all__: list[str] = []

SHARDS = set(range(10))


@exercise("13.1", "eight GPUs run 3,000 pictures a second each, a core decodes 500: how many cores keep them busy?")
def cores(answer: Any) -> str:
    number = as_number(answer)
    if number == 48:
        return "8 × 3,000 = 24,000 pictures a second, as many as 48 cores decode. That is six cores for each GPU."
    if number == 6:
        missing = "6 cores keep one GPU busy. There are eight."
    elif number == 24_000:
        missing = "24,000 is how many pictures the GPUs take in a second. How many cores decode as many?"
    else:
        missing = f"{number:,} is not it. How many pictures do all the GPUs take in a second?"
    raise NotYet(missing)


@exercise("13.2", "ten shards from 0 on, a job array of four: the set of shards that --shards 2/4 makes.")
def part(answer: Any) -> str:
    given = set(answer) if isinstance(answer, (set, frozenset, list, tuple, range)) else {answer}
    if given == {1, 5, 9}:
        return "the second of four jobs makes every fourth shard, and begins with number 1, the second one."
    if unknown := sorted(map(repr, given - SHARDS)):
        missing = f"there is no shard {unknown[0]}: the ten are numbered from 0 to 9."
    elif given in ({2, 6}, {2, 4, 6, 8}):
        missing = (
            "jobs are counted from 1, shards from 0. The first job begins with shard 0, and takes every fourth one."
        )
    elif given in ({3, 4, 5}, {2, 3, 4}, {3, 4}, {5, 6, 7}):
        missing = "the shards are dealt out like cards, one after the other, so that no job gets the short end."
    elif given < {1, 5, 9}:
        missing = "so far it is right, and there are more. The fourth job got shard 3; who gets shard 4?"
    else:
        missing = "deal the shards 0, 1, 2, ... out to the jobs 1/4, 2/4, 3/4, 4/4, 1/4, ... Which go to 2/4?"
    raise NotYet(missing)
