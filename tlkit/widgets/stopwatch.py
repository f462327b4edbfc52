"""How long the rest of a training takes, in words."""

from __future__ import annotations

__all__ = ["describe_seconds", "seconds_left"]


def seconds_left(done: int, total: int, seconds: float) -> float | None:
    """Return how long the steps take that are left, if they go on like those before; None where that is a guess.

    Parameters
    ----------
    done, total : int
        Steps so far, and steps in all.
    seconds : float
        What the steps so far took.

    Examples
    --------
    >>> from tlkit.widgets.stopwatch import seconds_left
    >>> seconds_left(10, 30, 5.0)
    10.0
    """
    if done < 2:  # the first step also warms up
        return None
    return seconds / done * max(total - done, 0)


def describe_seconds(seconds: float) -> str:
    """Write a duration as coarsely as one that is foretold deserves.

    Examples
    --------
    >>> from tlkit.widgets.stopwatch import describe_seconds
    >>> describe_seconds(7.4), describe_seconds(48), describe_seconds(200), describe_seconds(9000)
    ('8 s', '50 s', '4 min', '2.5 h')
    """
    if seconds <= 10:
        return f"{max(1, -int(-seconds // 1))} s"
    if seconds <= 90:
        return f"{10 * -int(-seconds // 10)} s"
    if seconds <= 90 * 60:
        return f"{-int(-seconds // 60)} min"
    return f"{seconds / 3600:.1f} h"
