"""What a notebook costs: seconds, memory, and the line in its first cell that says so."""

from __future__ import annotations

import datetime
import os
import re
import threading
from dataclasses import dataclass

import psutil

__all__ = ["CARD", "MEMORY_LIMIT", "SECONDS_LIMIT", "Cost", "PeakMemory", "card_cost", "cores", "updated_card"]

SECONDS_LIMIT = 45
MEMORY_LIMIT = 1_500_000_000
CARD = re.compile(
    r"run (?P<seconds>\d+) s, (?P<gigabytes>\d+\.\d) GB on (?P<cores>\d+) cores? \(measured (?P<date>\d{4}-\d\d-\d\d)\)"
)


@dataclass(frozen=True)
class Cost:
    """Wall time in seconds and peak resident memory in bytes of one run."""

    seconds: float
    peak_bytes: int

    @property
    def gigabytes(self) -> float:
        return self.peak_bytes / 1e9

    def over_limits(self) -> str:
        """Say which limit a default run on two cores passed, or return an empty string."""
        parts = []
        if self.seconds > SECONDS_LIMIT:
            parts.append(f"{self.seconds:.0f} s is over the limit of {SECONDS_LIMIT} s")
        if self.peak_bytes > MEMORY_LIMIT:
            parts.append(f"{self.gigabytes:.1f} GB is over the limit of {MEMORY_LIMIT / 1e9:.1f} GB")
        return " and ".join(parts)

    def differs_from(self, other: Cost) -> bool:
        """Whether a reader should be told: more than 30 % away, and by more than the clock's jitter."""
        return _far(self.seconds, other.seconds, 2) or _far(self.gigabytes, other.gigabytes, 0.15)


def _far(new: float, old: float, jitter: float) -> bool:
    return abs(new - old) > max(0.3 * min(new, old), jitter)


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def card_cost(text: str) -> Cost | None:
    """Read the measured part of a notebook's cost line.

    Examples
    --------
    >>> from tlkit.course.lessons.costs import card_cost
    >>> card_cost("Reading 8 min · run 12 s, 0.9 GB on 2 cores (measured 2026-11-24)")
    Cost(seconds=12.0, peak_bytes=900000000)
    """
    found = CARD.search(text)
    return Cost(float(found["seconds"]), round(float(found["gigabytes"]) * 1e9)) if found else None


def updated_card(text: str, cost: Cost) -> str:
    """Return the first cell's text with the measured part rewritten, if the cost moved: renders must not churn."""
    written = card_cost(text)
    if written is None or not cost.differs_from(written):
        return text
    count = cores()
    measured = (
        f"run {max(1, round(cost.seconds))} s, {max(0.1, cost.gigabytes):.1f} GB on {count} core{'s' * (count > 1)} "
        f"(measured {datetime.date.today().isoformat()})"
    )
    return CARD.sub(measured, text, count=1)


class PeakMemory:
    """Watch the processes that this one starts inside the ``with`` block, and keep their largest resident memory.

    Pages that several of these processes share count once for each. A peak shorter than 0.1 s can be missed.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak memory", daemon=True)

    def __enter__(self) -> PeakMemory:
        self._earlier = {child.pid for child in psutil.Process().children()}
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        tree: list[psutil.Process] = []
        poll = 0
        while not self._over.wait(0.1):
            if poll % 5 == 0:  # looking for new processes costs far more than reading their memory
                tree = self._tree()
            poll += 1
            self.bytes = max(self.bytes, sum(_resident(process) for process in tree))

    def _tree(self) -> list[psutil.Process]:
        started = [child for child in psutil.Process().children() if child.pid not in self._earlier]
        below = []
        for process in started:
            try:
                below += process.children(recursive=True)
            except psutil.Error:  # it ended in between
                continue
        return started + below


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0
