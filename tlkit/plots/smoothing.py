"""What curves of noisy losses show: means over a few iterations."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["smooth"]


def smooth(losses: Sequence[float]) -> tuple[list[float], int]:
    """Return the mean of each loss and those just before it, and of how many: a fifteenth of all.

    Examples
    --------
    >>> from tlkit.plots.smoothing import smooth
    >>> smooth([2.0, 1.0])
    ([2.0, 1.0], 1)
    >>> means, window = smooth([1.0, 0.0] * 15)
    >>> window, means[:3]
    (2, [1.0, 0.5, 0.5])
    """
    window = max(1, len(losses) // 15)
    recent = (losses[max(0, number - window) : number] for number in range(1, len(losses) + 1))
    return [sum(part) / len(part) for part in recent], window
