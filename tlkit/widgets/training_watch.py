"""Between a widget and a training that runs in another thread: what happens is shown, and a wish to stop handed on."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from tlkit.training.listeners import EvaluateEvery, Listener
from tlkit.training.loop import History, Training

__all__ = ["Watch"]

SHOWN_EVERY = 0.25  # seconds; more often than that nobody reads, and each time costs a few milliseconds


class Watch(Listener):
    """Lets a training be shown, and ends it once that is wished; the last of the listeners, and new for each training.

    Parameters
    ----------
    show : callable
        Called with what is being done apart from training, or with nothing.

    Attributes
    ----------
    history : History or None
        Of the training, once it has started.
    """

    def __init__(self, show: Callable[..., None]) -> None:
        self.history: History | None = None
        self._show = show
        self._stopping = threading.Event()
        self._reason = ""
        self._shown_at = 0.0

    @property
    def stopping(self) -> bool:
        """Whether training is to end."""
        return self._stopping.is_set()

    def stop(self, reason: str) -> None:
        """Ask training to end after the present batch."""
        self._reason = reason
        self._stopping.set()

    def testing(self, data: Any, every: int) -> list[Listener]:
        """Return what measures accuracy, and gives up where training is to end; nothing without data."""
        return [] if data is None else [_Test(self, data, every)]

    def show(self, *doing: str) -> None:
        """Have it shown how training stands."""
        self._shown_at = time.monotonic()
        self._show(*doing)

    def training_started(self, training: Training) -> None:
        self.history = training.history
        self.show()

    def iteration_done(self, training: Training) -> None:
        if self.stopping and not training.ended:
            training.stop(self._reason)
        if time.monotonic() - self._shown_at >= SHOWN_EVERY:
            self.show()

    def epoch_done(self, training: Training) -> None:
        self.iteration_done(training)


class _Test(EvaluateEvery):
    def __init__(self, watch: Watch, data: Any, every: int) -> None:
        super().__init__(every, _UntilStopped(data, watch))
        self.watch = watch

    def iteration_done(self, training: Training) -> None:
        if training.iteration % self.iterations == 0 or training.iteration == training.total:
            self.watch.show("Testing …")
        with contextlib.suppress(_StoppedError):  # the watch ends training
            super().iteration_done(training)


class _UntilStopped:
    """A data set whose batches end in an error once training is to stop."""

    def __init__(self, data: Any, watch: Watch) -> None:
        self.data, self.watch = data, watch
        self.classes = data.classes

    def batches(self, batch_size: int) -> Iterator[Any]:
        for batch in self.data.batches(batch_size):
            if self.watch.stopping:
                raise _StoppedError
            yield batch


class _StoppedError(Exception):
    """A measurement was cut short."""
