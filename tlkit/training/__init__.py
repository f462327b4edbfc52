"""Training and judging: the loop and its listeners, optimizers, L-BFGS, many heads at once, evaluation."""

from __future__ import annotations

from tlkit.training.loop import History, device, fit

__all__ = ["History", "device", "fit"]
