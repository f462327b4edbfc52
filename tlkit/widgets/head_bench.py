"""New heads built, trained on features, tested and written down as code, without any widget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tlkit.features.rows import FeatureRows
from tlkit.graph.network import Network
from tlkit.layers.descriptions import Dense, Description, Output
from tlkit.layers.initializers import Distribution
from tlkit.layers.updaters import Nesterovs
from tlkit.memory import available_memory, readable_size
from tlkit.training.heads import build_head
from tlkit.training.listeners import EvaluateEvery, Listener
from tlkit.training.loop import History, Training, fit
from tlkit.tuning import FineTuneConfiguration
from tlkit.widgets.background import GivenUp
from tlkit.widgets.heads import Head
from tlkit.widgets.holding_out import check_features

__all__ = ["HeadBench", "Run"]

BATCH_SIZE = 64
TRAINING_COPIES = 4  # weights, gradients, momentum, and one in passing
FLOAT32 = 4  # bytes


@dataclass(frozen=True)
class Run:
    """One head that was trained.

    Parameters
    ----------
    head : Head
        What was trained, and how.
    layers : tuple of Description
        Its layers, the output last.
    parameters : int
        Their number.
    accuracy : float
        On the test rows, at the end.
    history : History
        Loss of each iteration, accuracy on the test rows after each epoch, and seconds.
    """

    head: Head
    layers: tuple[Description, ...]
    parameters: int
    accuracy: float
    history: History


class HeadBench:
    """Features to train heads on and features to test them on.

    Parameters
    ----------
    train, test : Features or FeatureStore
        Of one boundary, with the same classes and shapes.
    seed : int
        Of the weights and of the order of examples: the same head always ends with the same weights.
    """

    def __init__(self, train: FeatureRows, test: FeatureRows, *, seed: int = 12345) -> None:
        check_features(train)
        check_features(test)
        for what in ("classes", "shapes"):
            if getattr(train, what) != getattr(test, what):
                msg = (
                    f"The training and the test features differ in their {what}: {getattr(train, what)} and "
                    f"{getattr(test, what)}. Featurize both with one helper."
                )
                raise ValueError(msg)
        self.train, self.test, self.seed = train, test, seed
        self.boundary, self.shape = next(iter(train.shapes.items()))
        self.classes = train.classes

    def vertices(self, head: Head) -> list[tuple[str, Description, str]]:
        """Return the head's vertices: name, description, and the name of what it reads."""
        chain, before = [], self.boundary
        for name, what in head.vertices(self.shape):
            name = f"new_{name}" if name == self.boundary else name
            chain.append((name, what, before))
            before = name
        return chain

    def build(self, head: Head) -> Network:
        """Return the head as a network that reads the features."""
        tuning = FineTuneConfiguration(updater=_tuned(head), seed=self.seed)
        return build_head(self.boundary, self.shape, head.vertices(self.shape), tuning)

    def run(
        self,
        head: Head,
        given_up: GivenUp = lambda: False,
        told: Callable[[str], None] = lambda text: None,
    ) -> tuple[Network, Run] | None:
        """Build, train and test a head.

        Parameters
        ----------
        head : Head
            Tested after each epoch.
        given_up : callable
            Asked after each batch; when it says True, training ends and the answer is None.
        told : callable
            Told how it goes, in words, after each epoch.

        Raises
        ------
        ValueError
            When training would not fit into memory, or diverged.
        """
        parameters = self._checked_size(head)
        net = self.build(head)
        steps = -(-len(self.train) // BATCH_SIZE)
        listeners = [_Watch(given_up), EvaluateEvery(steps, self.test), _Reporter(head, told)]
        history = fit(net, self.train, head.epochs, BATCH_SIZE, listeners=listeners, progress=False)
        if given_up():
            return None
        if history.stopped:
            msg = f"Training {head.words} stopped: {history.stopped}."
            raise ValueError(msg)
        layers = tuple(what for _, what, _ in self.vertices(head))
        return net, Run(head, layers, parameters, history.evaluations[-1][1], history)

    def code(self, head: Head, train: str = "train", test: str = "test") -> str:
        """Return Python that builds, trains and tests the head; it uses `tl` and the two data sets by these names."""
        *_, last = chain = self.vertices(head)
        layers = "\n".join(f'    .add_layer("{name}", {_source(what)}, "{before}")' for name, what, before in chain)
        return (
            f"tuning = tl.FineTuneConfiguration(updater=tl.{_tuned(head)!r}, seed={self.seed})\n"
            "head = (\n"
            f'    tl.TransferLearning(tl.Network({{}}, inputs={{"{self.boundary}": {self.shape}}}, '
            f'outputs=["{self.boundary}"]))\n'
            "    .fine_tune_configuration(tuning)\n"
            f"{layers}\n"
            f'    .set_outputs("{last[0]}")\n'
            "    .build()\n"
            ")\n"
            f"tl.fit(head, {train}, epochs={head.epochs}, batch_size={BATCH_SIZE})\n"
            f"print(tl.evaluate(head, {test}).accuracy)"
        )

    def _checked_size(self, head: Head) -> int:
        parameters = head.count(self.shape)
        needed, free = FLOAT32 * TRAINING_COPIES * parameters, available_memory()
        if needed > free / 2:
            remedy = " or average over height and width" if len(self.shape) == 3 and not head.pooling else ""
            msg = (
                f"A head with {parameters:,} parameters needs about {readable_size(needed)} to train, and "
                f"{readable_size(free)} are free. Choose fewer units{remedy}."
            )
            raise ValueError(msg)
        return parameters


def _tuned(head: Head) -> Nesterovs:
    return Nesterovs(lr=head.learning_rate, momentum=0.9)


class _Watch(Listener):
    """Ends training that nobody waits for any more."""

    def __init__(self, given_up: GivenUp) -> None:
        self.given_up = given_up

    def iteration_done(self, training: Training) -> None:
        if self.given_up():
            training.stop("given up")


class _Reporter(Listener):
    def __init__(self, head: Head, told: Callable[[str], None]) -> None:
        self.head, self.told = head, told

    def epoch_done(self, training: Training) -> None:
        accuracy = training.history.evaluations[-1][1]
        self.told(
            f"{self.head.words}: test accuracy {accuracy:.1%} after {training.epoch} of {self.head.epochs} epochs"
        )


def _source(layer: Description) -> str:
    """Return Python that makes a layer, from `tl`."""
    if not isinstance(layer, Dense):
        return f"tl.{layer!r}"
    implied = ("activation",) if isinstance(layer, Output) else ()
    shown = [f"{name}={_value(value)}" for name, value in layer.given().items() if name not in implied]
    return f"tl.{type(layer).__name__}({', '.join([str(layer.n_out), *shown])})"


def _value(value: Any) -> str:
    if isinstance(value, Distribution):
        return f"tl.{value!r}"
    return f'"{value}"' if isinstance(value, str) else repr(value)
