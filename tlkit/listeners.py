"""Listeners: what is told about each iteration of `fit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tlkit.training import Training

__all__ = ["EarlyStopping", "EvaluateEvery", "Listener"]


class Listener:
    """Base class; override what you need."""

    def iteration_done(self, training: Training) -> None:
        """Called after each batch."""

    def epoch_done(self, training: Training) -> None:
        """Called after each whole pass over the data."""

    def training_done(self, training: Training) -> None:
        """Called once at the end, also when training was interrupted."""


class EvaluateEvery(Listener):
    """Evaluate on a test set every few iterations and note the accuracy in the history.

    Parameters
    ----------
    iterations : int
        Distance between evaluations; the last iteration is always evaluated.
    data : ImageSet, Features or FeatureStore
        What to evaluate on, in the form that `fit` was given.
    """

    def __init__(self, iterations: int, data: Any) -> None:
        if iterations < 1:
            msg = f"iterations must be at least 1, got {iterations}."
            raise ValueError(msg)
        self.iterations = iterations
        self.data = data

    def iteration_done(self, training: Training) -> None:
        if training.iteration % self.iterations == 0 or training.iteration == training.total:
            _note_accuracy(training, self.data)


class EarlyStopping(Listener):
    """Stop when the accuracy on held-out data no longer improves, and go back to the best weights.

    Given to a later `fit` of the same network it goes on counting; another network starts anew.

    Parameters
    ----------
    data : ImageSet, Features or FeatureStore
        Held-out data, evaluated after each epoch.
    patience : int
        Epochs without improvement that are put up with.

    Attributes
    ----------
    best_accuracy : float
    best_epoch : int
        Epoch (from 1) whose weights the network ends with.
    """

    def __init__(self, data: Any, patience: int = 3) -> None:
        self.data = data
        self.patience = patience
        self._forget(None)

    def _forget(self, network: Any) -> None:
        self.best_accuracy = -1.0
        self.best_epoch = 0
        self._best: dict[str, Any] = {}
        self._epoch = 0
        self._network = network

    def epoch_done(self, training: Training) -> None:
        from tlkit.training import trainable_state

        if self._network is not training.network:
            self._forget(training.network)
        self._epoch += 1
        accuracy = _note_accuracy(training, self.data)
        if accuracy > self.best_accuracy:
            self.best_accuracy, self.best_epoch = accuracy, self._epoch
            self._best = trainable_state(training.network)
        elif self._epoch - self.best_epoch >= self.patience:
            training.stop(f"no improvement for {self.patience} epochs; best was epoch {self.best_epoch}")

    def training_done(self, training: Training) -> None:
        if self._network is training.network:
            training.network.load_state_dict(self._best, strict=False)


def _note_accuracy(training: Training, data: Any) -> float:
    from tlkit.evaluation import evaluate

    accuracy = evaluate(training.network, data).accuracy
    training.network.train()
    training.history.evaluations.append((training.iteration, accuracy))
    return accuracy
