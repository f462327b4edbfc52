"""What there is to see of a training: losses, accuracies, steps, learning rates; collected by a listener."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from tlkit.training.listeners import Listener
from tlkit.training.loop import Training
from tlkit.training.optimizers import DEFAULT_UPDATER
from tlkit.widgets.steps import UpdateRatios

__all__ = ["LayerSteps", "TrainingLog"]

AVERAGED = 10  # steps


class LayerSteps(NamedTuple):
    """How a layer learns: the learning rate, and its steps against its weights (mean of the last ten)."""

    name: str
    rate: float | None
    ratio: float


class TrainingLog(Listener):
    """Collects what a monitor shows, over one call of `fit` or several calls one after the other.

    Attributes
    ----------
    losses : list of float
        Of every iteration, of all calls.
    evaluations : list of (int, float)
        Iterations so far, of all calls, and test accuracy, whichever listener measured it.
    starts : list of int
        Iterations that came before each call.
    iteration : int
        Iterations so far of the call that runs or ran last.
    layers : list of LayerSteps
        The trainable layers, input to output.
    """

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.evaluations: list[tuple[int, float]] = []
        self.starts: list[int] = []
        self.iteration = 0
        self.layers: list[LayerSteps] = []
        self._earlier: list[tuple[int, float]] = []

    def training_started(self, training: Training) -> None:
        self.starts.append(len(self.losses))
        self._earlier = self.evaluations
        self.iteration = 0
        self._steps = UpdateRatios()
        self._steps.measure(training.network)
        self._recent: dict[str, deque[float]] = {}

    def iteration_done(self, training: Training) -> None:
        self.iteration = training.iteration
        self.losses.append(training.loss)
        self._note_evaluations(training)
        rates = _learning_rates(training)
        layers = []
        for name, ratio in self._steps.measure(training.network).items():
            recent = self._recent.setdefault(name, deque(maxlen=AVERAGED))
            recent.append(ratio)
            layers.append(LayerSteps(name, rates.get(name), sum(recent) / len(recent)))
        self.layers = layers  # replaced as a whole: another thread may be reading

    def epoch_done(self, training: Training) -> None:
        self._note_evaluations(training)

    def _note_evaluations(self, training: Training) -> None:
        here = [(self.starts[-1] + iteration, accuracy) for iteration, accuracy in training.history.evaluations]
        self.evaluations = [*self._earlier, *here]


def _learning_rates(training: Training) -> dict[str, float]:
    """Return the rate at which each vertex's weights are learning now."""
    rates = {}
    for name, vertex in training.network.vertices.items():
        optimizer = training.optimizers.by_updater.get(vertex.settings.updater or DEFAULT_UPDATER)
        if optimizer is not None:
            rates[name] = float(optimizer.param_groups[0]["lr"])
    return rates
