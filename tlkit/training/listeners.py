"""Listeners: what is told about each iteration of `fit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tlkit.files.copying import copy_state

if TYPE_CHECKING:
    from tlkit.training.loop import Training

__all__ = ["EarlyStopping", "EvaluateEvery", "Listener", "Unfreeze"]


class Listener:
    """Base class; override what you need."""

    def training_started(self, training: Training) -> None:
        """Called once before the first batch."""

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
        self._trained: set[str] = set()  # vertices that may differ from the best weights

    def training_started(self, training: Training) -> None:
        if self._network is not training.network:
            self._forget(training.network)
        self._note_trained()

    def epoch_done(self, training: Training) -> None:
        self._note_trained()
        self._epoch += 1
        accuracy = _note_accuracy(training, self.data)
        if accuracy > self.best_accuracy:
            self.best_accuracy, self.best_epoch = accuracy, self._epoch
            self._best = copy_state(training.network)
        elif self._epoch - self.best_epoch >= self.patience:
            training.stop(f"no improvement for {self.patience} epochs; best was epoch {self.best_epoch}")

    def training_done(self, training: Training) -> None:
        self._note_trained()
        best = {name: value for name, value in self._best.items() if name.split(".", 1)[0] in self._trained}
        self._network.load_state_dict(best, strict=False)

    def _note_trained(self) -> None:
        self._trained |= self._network.vertices.keys() - self._network.frozen


class Unfreeze(Listener):
    """Move the boundary of what is frozen once some epochs are done: progressive unfreezing (ULMFiT, 2018).

    The updaters' state of weights that go on training stays; those that join start without one.

    Parameters
    ----------
    at_epoch : int
        Number of epochs of this `fit` after which it happens.
    up_to : str, int or None
        The new boundary: exactly what feeds it, and it itself, stays frozen. None unfreezes everything.

    Examples
    --------
    >>> import tlkit as tl
    >>> later = [tl.Unfreeze(2, up_to="block4_pool"), tl.Unfreeze(5, up_to="block3_pool")]
    >>> tl.fit(net, photos.train, epochs=8, listeners=later)  # doctest: +SKIP
    """

    def __init__(self, at_epoch: int, up_to: str | int | None = None) -> None:
        if at_epoch < 1:
            msg = f"at_epoch is the number of epochs after which to unfreeze, at least 1, got {at_epoch}."
            raise ValueError(msg)
        self.at_epoch = at_epoch
        self.up_to = up_to

    def training_started(self, training: Training) -> None:
        self._kept(training)  # a wrong name is an error now, not after two epochs

    def epoch_done(self, training: Training) -> None:
        if training.epoch == self.at_epoch:
            training.network.freeze_exactly(dict.fromkeys(self._kept(training), False))
            training.optimizers.refresh()

    def _kept(self, training: Training) -> frozenset[str]:
        return frozenset() if self.up_to is None else training.network.ancestors(self.up_to)


def _note_accuracy(training: Training, data: Any) -> float:
    from tlkit.training.evaluation import evaluate

    accuracy = evaluate(training.network, data).accuracy
    training.network.train()
    training.history.evaluations.append((training.iteration, accuracy))
    return accuracy
