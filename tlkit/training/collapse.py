"""Saying so when a training went wrong: its loss exploded, or fell back to what guessing gives."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

from tlkit.graph.network import Network
from tlkit.layers.losses import ACTIVATION_OF
from tlkit.training.labels import list_trained_outputs

__all__ = ["find_collapse", "warn_of_collapse"]

ROWS = 64  # that a mean is taken over at least, so that noise of small batches averages out
BATCHES = 5  # the same in batches
PARTS = 10  # of a training; a mean is taken over each


def warn_of_collapse(net: Network, losses: Sequence[float], batch_size: int) -> None:
    """Warn once, with what to do, when a training ended no better than guessing after it had been better, or exploded.

    Parameters
    ----------
    net : Network
        That was trained.
    losses : sequence of float
        Of each batch.
    batch_size : int
    """
    found = find_collapse(losses, batch_size, _guessing(net))
    if found:
        msg = (
            f"Training made the network worse: its loss went from {found[0]:.3g} to {found[1]:.3g}. Start again from "
            "the weights before, with a smaller learning rate, a tenth for example. Where vertices with batch "
            "normalization train, keep their statistics too: fixed_statistics=True."
        )
        warnings.warn(msg, stacklevel=3)


def find_collapse(losses: Sequence[float], batch_size: int, guessing: float | None) -> tuple[float, float] | None:
    """Return the loss before and after a collapse, or None when there was none.

    A training has collapsed when its last part is no better than guessing, or than its start where guessing has no
    known loss, and an earlier part was at most half as high, or the start was passed three times over on the way.
    """
    width = max(BATCHES, -(-ROWS // batch_size), len(losses) // PARTS)
    if len(losses) < 2 * width:
        return None
    means = [math.fsum(losses[place : place + width]) / width for place in range(0, len(losses) - width + 1, width)]
    start, best, last = means[0], min(means), math.fsum(losses[-width:]) / width
    first = math.fsum(losses[:BATCHES]) / BATCHES
    level = start if guessing is None else guessing
    if last >= 0.9 * level and last >= 2 * best and best > 0:
        return best, last
    if last >= 0.9 * max(level, losses[0]) and max(means) >= 3 * max(losses[0], min(first, level)):
        return losses[0], last
    return None


def _guessing(net: Network) -> float | None:
    """Return the loss of equal probabilities for all classes, of a network with one output that tells classes apart."""
    outputs = list_trained_outputs(net)
    module = net.vertices[outputs[0]].module
    units = getattr(module, "out_features", 0)
    weight = getattr(module, "loss_weight", 1)
    if len(outputs) > 1 or units < 1 or ACTIVATION_OF.get(getattr(module, "loss", "")) not in ("softmax", "sigmoid"):
        return None
    return weight * (math.log(units) if module.loss == "negative_log_likelihood" else math.log(2))
