"""Writing to the terminal, to files and to pipes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, TextIO

from tqdm import tqdm

from tlkit.errors import printable

__all__ = ["complain", "few", "progress_bar", "say", "say_facts"]

SHOWN = 12
WIDTH = 8
SECONDS_BETWEEN_LINES = 30


def say(text: str = "") -> None:
    """Write a line of the answer to stdout, at once: a job's log is read while the job runs."""
    _write(sys.stdout, text)


def complain(text: str) -> None:
    """Write a line to stderr."""
    with suppress(BrokenPipeError):
        _write(sys.stderr, text)


def say_facts(facts: Mapping[str, str | Iterable[str]]) -> None:
    """Write names and what they are in two columns; several lines may stand beside one name."""
    width = max(WIDTH, *map(len, facts))
    for name, lines in facts.items():
        for number, line in enumerate([lines] if isinstance(lines, str) else lines):
            say(f"{'' if number else name:{width}}  {line}")


def few(parts: Iterable[Any]) -> str:
    """Join the first of many parts for a line.

    Examples
    --------
    >>> from tlkit.commands.output import few
    >>> few(range(14))
    '0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, and 2 more'
    """
    parts = [printable(part) for part in parts]
    more = [f"and {len(parts) - SHOWN:,} more"] if len(parts) > SHOWN else []
    return ", ".join([*parts[:SHOWN], *more])


def progress_bar(total: int, done: int = 0, *, text: str, unit: str) -> tqdm:
    """Return a progress bar on stderr; where that is a file, it writes a line every half minute."""
    watched = sys.stderr.isatty()
    return tqdm(
        desc=printable(text, None),
        total=total,
        initial=done,
        unit=f" {unit}",
        file=sys.stderr,
        dynamic_ncols=True,
        mininterval=0.1 if watched else SECONDS_BETWEEN_LINES,
        maxinterval=10 if watched else 2 * SECONDS_BETWEEN_LINES,
    )


def _write(stream: TextIO, text: str) -> None:
    text = "\n".join(printable(line, None) for line in text.split("\n"))
    encoding = stream.encoding or "utf-8"
    with tqdm.external_write_mode(stream):  # above a progress bar that may be there
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        stream.flush()
