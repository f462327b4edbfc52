"""Heads: small networks that read what a boundary says."""

from __future__ import annotations

from collections.abc import Iterable

from tlkit.builder import TransferLearning
from tlkit.graph.network import Network
from tlkit.layers.descriptions import Description
from tlkit.tuning import FineTuneConfiguration

__all__ = ["build_head"]


def build_head(
    boundary: str,
    shape: tuple[int, ...],
    layers: Iterable[tuple[str, Description]],
    tuning: FineTuneConfiguration | None = None,
) -> Network:
    """Build a chain of layers that reads a boundary's features.

    Parameters
    ----------
    boundary : str
        Name of what it reads.
    shape : tuple of int
        Shape of one row of it.
    layers : iterable of (str, Description)
        Names and layers, the output last; one of the boundary's own name gets ``new_`` before it.
    tuning : FineTuneConfiguration, optional

    Examples
    --------
    >>> import tlkit as tl
    >>> from tlkit.training.heads import build_head
    >>> build_head("fc2", (4096,), [("hidden", tl.Dense(16, activation="relu")), ("answer", tl.Output(5))]).outputs
    ('answer',)
    """
    builder = TransferLearning(Network({}, inputs={boundary: shape}, outputs=[boundary]))
    if tuning is not None:
        builder.fine_tune_configuration(tuning)
    before = boundary
    for name, layer in layers:
        name = f"new_{name}" if name == boundary else name
        builder.add_layer(name, layer, before)
        before = name
    return builder.set_outputs(before).build()
