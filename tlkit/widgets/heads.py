"""New heads on featurized data: described, built, trained and written down as code, without any widget."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import torch

from tlkit.activations import check_activation
from tlkit.builder import TransferLearning
from tlkit.errors import quoted
from tlkit.evaluation import evaluate
from tlkit.features import FeatureRows, Features
from tlkit.graph import Network
from tlkit.layers import Dense, Description, Flatten, GlobalPool, Output
from tlkit.memory import available_memory, counted, readable_size
from tlkit.training import fit
from tlkit.tuning import FineTuneConfiguration
from tlkit.updaters import Nesterovs

__all__ = ["Head", "HeadBench", "Run", "hold_out"]

BATCH_SIZE = 64
TRAINING_COPIES = 4  # weights, gradients, momentum, and one in passing
FLOAT32 = 4  # bytes


@dataclass(frozen=True)
class Head:
    """A head that is yet to be made, and how it is trained.

    Parameters
    ----------
    hidden : tuple of int
        Widths of the hidden layers; empty for an output layer alone.
    activation : str
        Behind each hidden layer.
    dropout : float
        Share of each layer's input that is dropped in training.
    learning_rate : float
        Of Nesterov's momentum.
    epochs : int
        Passes over the training data.
    pooling : bool
        Whether features with height and width are averaged over both, or read number by number.
    """

    hidden: tuple[int, ...] = ()
    activation: str = "relu"
    dropout: float = 0.0
    learning_rate: float = 1e-2
    epochs: int = 5
    pooling: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        for width in self.hidden:
            if not isinstance(width, int) or isinstance(width, bool) or width < 1:
                msg = f"A hidden layer has a whole number of units, at least 1, such as 256; got {width!r}."
                raise ValueError(msg)
        check_activation(self.activation)
        if not 0 <= self.dropout < 1:
            msg = f"dropout is the share that is dropped, from 0 up to but not including 1; got {self.dropout!r}."
            raise ValueError(msg)
        if not self.learning_rate > 0:
            msg = f"The learning rate is a number above 0, such as 0.01; got {self.learning_rate!r}."
            raise ValueError(msg)
        if not isinstance(self.epochs, int) or self.epochs < 1:
            msg = f"epochs is a whole number of passes over the data, at least 1; got {self.epochs!r}."
            raise ValueError(msg)

    @property
    def words(self) -> str:
        """The widths as they are spoken of: "1024-256", or "no hidden layer"."""
        return "-".join(map(str, self.hidden)) or "no hidden layer"

    def vertices(self, shape: tuple[int, ...], n_classes: int) -> list[tuple[str, Description]]:
        """Return the vertices of the chain behind features of a shape: names and descriptions."""
        dropout = {"dropout": self.dropout} if self.dropout else {}
        chain: list[tuple[str, Description]] = []
        if len(shape) == 3 and self.pooling:
            chain.append(("pool", GlobalPool()))
        elif len(shape) > 1:
            chain.append(("flat", Flatten()))
        for number, width in enumerate(self.hidden, start=1):
            chain.append((f"hidden{number}", Dense(width, activation=self.activation, **dropout)))
        return [*chain, ("predictions", Output(n_classes, **dropout))]

    def count(self, shape: tuple[int, ...], n_classes: int) -> int:
        """Return the number of parameters, without making any."""
        first = shape[0] if len(shape) == 3 and self.pooling else prod(shape)
        widths = [first, *self.hidden, n_classes]
        return sum((before + 1) * after for before, after in pairwise(widths))


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
        On the test rows.
    seconds : float
        What training took.
    """

    head: Head
    layers: tuple[Description, ...]
    parameters: int
    accuracy: float
    seconds: float


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
        _check_features(train)
        _check_features(test)
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
        for name, what in head.vertices(self.shape, len(self.classes)):
            name = f"new_{name}" if name == self.boundary else name
            chain.append((name, what, before))
            before = name
        return chain

    def build(self, head: Head) -> Network:
        """Return the head as a network that reads the features."""
        start = Network({}, inputs={self.boundary: self.shape}, outputs=[self.boundary])
        builder = TransferLearning(start).fine_tune_configuration(self._tuning(head))
        for name, what, before in self.vertices(head):
            builder.add_layer(name, what, before)
        return builder.set_outputs(name).build()

    def run(self, head: Head) -> tuple[Network, Run]:
        """Build, train and test a head.

        Raises
        ------
        ValueError
            When training would not fit into memory, or diverged.
        """
        parameters = self._checked_size(head)
        net = self.build(head)
        history = fit(net, self.train, head.epochs, BATCH_SIZE, progress=False)
        if history.stopped:
            msg = f"Training {head.words} stopped: {history.stopped}."
            raise ValueError(msg)
        accuracy = evaluate(net, self.test).accuracy
        layers = tuple(what for _, what, _ in self.vertices(head))
        return net, Run(head, layers, parameters, accuracy, history.seconds)

    def code(self, head: Head, train: str = "train", test: str = "test") -> str:
        """Return Python that builds, trains and tests the head; it uses `tl` and the two data sets by these names."""
        *_, last = chain = self.vertices(head)
        layers = "\n".join(
            f'    .add_layer("{name}", tl.{what!r}, "{before}")'.replace("'", '"') for name, what, before in chain
        )
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

    def _tuning(self, head: Head) -> FineTuneConfiguration:
        return FineTuneConfiguration(updater=_tuned(head), seed=self.seed)

    def _checked_size(self, head: Head) -> int:
        parameters = head.count(self.shape, len(self.classes))
        needed, free = FLOAT32 * TRAINING_COPIES * parameters, available_memory()
        if needed > free / 2:
            remedy = " or average over height and width" if len(self.shape) == 3 and not head.pooling else ""
            msg = (
                f"A head with {parameters:,} parameters needs about {readable_size(needed)} to train, and "
                f"{readable_size(free)} are free. Choose fewer units{remedy}."
            )
            raise ValueError(msg)
        return parameters


def hold_out(features: FeatureRows, share: float = 0.2, *, seed: int = 13) -> tuple[Features, Features]:
    """Divide features into rows to train on and rows to test on, the same share of every class.

    Parameters
    ----------
    features : Features or FeatureStore
        Read into memory.
    share : float
        Of the test rows, between 0 and 1.
    seed : int
        Of the choice.

    Returns
    -------
    train, test : Features

    Raises
    ------
    ValueError
        When the share is no share, a class has a single row, or the features don't fit into memory.

    Examples
    --------
    >>> features = Features({"fc2": torch.rand(10, 4)}, torch.arange(10) % 2, ["daisy", "roses"])
    >>> [len(part) for part in hold_out(features)]
    [8, 2]
    """
    _check_features(features)
    if not 0 < share < 1:
        msg = f"share is the part of the rows to test on, between 0 and 1; got {share!r}."
        raise ValueError(msg)
    if 2 * features.nbytes > available_memory():
        msg = (
            f"The features take {readable_size(features.nbytes)}, too much to divide them in memory. Featurize "
            "the training and the test images separately and give both."
        )
        raise ValueError(msg)
    chosen = torch.zeros(len(features), dtype=torch.bool)
    generator = torch.Generator().manual_seed(seed)
    for number, name in enumerate(features.classes):
        rows = (features.labels.cpu() == number).nonzero()[:, 0]
        if len(rows) == 1:
            msg = f"The class '{name}' has a single row, which cannot be both trained and tested on. Add images."
            raise ValueError(msg)
        count = min(max(round(share * len(rows)), 1), len(rows) - 1)
        chosen[rows[torch.randperm(len(rows), generator=generator)[:count]]] = True
    return tuple(_taken(features, mask.nonzero()[:, 0]) for mask in (~chosen, chosen))


def _taken(features: FeatureRows, rows: torch.Tensor) -> Features:
    x, labels = next(features.batches(len(rows), rows))
    return Features({features.names[0]: x}, labels, features.classes)


def _check_features(features: Any) -> None:
    if not isinstance(features, FeatureRows):
        msg = (
            f"A head is designed on features, got {type(features).__name__}. Featurize the images first: "
            "tl.TransferLearningHelper(net).featurize(images)."
        )
        raise TypeError(msg)
    if len(features.names) > 1:
        msg = f"A head is designed on the features of one boundary; these have {quoted(features.names)}."
        raise ValueError(msg)
    if len(features.classes) < 2 or len(features) < 2:
        rows, classes = counted(len(features), "row"), counted(len(features.classes), "class", "classes")
        msg = f"A head needs two classes and rows of each to tell apart; these features have {rows} and {classes}."
        raise ValueError(msg)


def _tuned(head: Head) -> Nesterovs:
    return Nesterovs(lr=head.learning_rate, momentum=0.9)
