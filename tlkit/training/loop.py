"""Training: one loop for whole networks and for the part behind featurized data."""

from __future__ import annotations

import functools
import math
import operator
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from tlkit.features.moving import find_device, move
from tlkit.graph.network import Network
from tlkit.layers.initializers import make_generator
from tlkit.training.collapse import warn_of_collapse
from tlkit.training.data import count_rows, wrap_data
from tlkit.training.draws import Draws
from tlkit.training.labels import check_labels, list_trained_outputs
from tlkit.training.listeners import Listener
from tlkit.training.lone_rows import count_batches, join_lone_row
from tlkit.training.optimizers import Optimizers

__all__ = [
    "History",
    "Training",
    "check_training",
    "compute_loss",
    "device",
    "fit",
    "begin_epoch",
    "take_classes",
]


@dataclass
class History:
    """What happened during one call of `fit`.

    Parameters
    ----------
    losses : list of float
        Loss of each iteration's batch, penalties included.
    evaluations : list of (int, float)
        Iterations seen and test accuracy, where a listener evaluated.
    examples : int
        Examples shown, repetitions counted.
    seconds : float
        Wall time.
    stopped : str
        Why training ended before its time, or an empty string.
    """

    losses: list[float] = field(default_factory=list)
    evaluations: list[tuple[int, float]] = field(default_factory=list)
    examples: int = 0
    seconds: float = 0.0
    stopped: str = ""

    def __repr__(self) -> str:
        why = f", stopped: {self.stopped}" if self.stopped else ""
        return f"History({len(self.losses)} iterations, {self.examples} examples{why})"


class Training:
    """The state of a running `fit`, as listeners see it.

    Parameters
    ----------
    network : Network
        The network that is trained.
    history : History
        Losses and evaluations so far.
    epoch, iteration : int
        Epochs finished and batches seen in this call.
    """

    def __init__(self, network: Network, optimizers: Optimizers, total: int) -> None:
        self.network = network
        self.optimizers = optimizers
        self.total = total
        self.history = History()
        self.epoch = 0
        self.iteration = 0
        self.loss = float("nan")
        self.finite: Tensor | None = None  # whether all losses were, where that is not asked for each time

    @property
    def ended(self) -> bool:
        """Whether no batch follows."""
        return bool(self.history.stopped) or self.iteration >= self.total

    def stop(self, reason: str) -> None:
        """End training after this batch."""
        self.history.stopped = reason

    def keep(self, finite: Tensor) -> None:
        """Remember on its device whether a loss is finite, until somebody looks."""
        self.finite = finite if self.finite is None else self.finite & finite

    def note_lost(self, loss: Tensor) -> None:
        """Stop where no step leads anywhere."""
        self.stop(f"the loss is {float(loss)}; try a smaller learning rate, and look for such values in the data")


def fit(
    net: Network,
    data: Any,
    epochs: int = 1,
    batch_size: int = 32,
    shuffle: bool = True,
    max_iterations: int | None = None,
    listeners: Sequence[Listener] = (),
    *,
    progress: bool = True,
) -> History:
    """Train what is not frozen.

    The network stays on its device (``net.to(tl.device("auto"))`` moves it) and is left in evaluation mode, also when
    training is interrupted: everything up to the last whole batch counts. Updaters keep their state between calls, and
    with a `net.seed` two calls of two epochs are one call of four, to the last bit, dropout included.

    Parameters
    ----------
    net : Network
        Its outputs must be `tl.Output` layers, which know their loss.
    data : ImageSet, Features, FeatureStore or (x, y)
        Images, features of the network's inputs, or a tuple of tensors or NumPy arrays with n rows each. A missing
        label is -100 among class numbers and NaN among numbers.
    epochs : int
        Passes over the data.
    batch_size : int
        Examples a step; the last step of an epoch has what is left. A single row that is left, and that batch
        normalization which trains cannot take alone, joins the step before.
    shuffle : bool
        Whether each epoch shows the examples in a new order; the order depends on `net.seed` and the epoch's number.
    max_iterations : int, optional
        Stop after this many batches.
    listeners : sequence of Listener
        Told about each iteration and whole epoch, for example `tl.EvaluateEvery(10, test)`.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    History

    Raises
    ------
    ValueError
        When everything is frozen, an output has no loss, or the data don't fit the network's inputs and outputs: no
        step is taken then.
    TypeError
        When `data` is none of the kinds above, or a number of epochs, rows or batches is no whole number.
    """
    data = wrap_data(data, net)
    total, per_epoch = check_training(net, data, epochs, batch_size, max_iterations)
    training = Training(net, Optimizers.of(net), total)
    _tell(listeners, "training_started", training)
    start = time.perf_counter()
    losses: list[Tensor] = []
    bar = tqdm(total=total, desc="fit", unit="batch", disable=not progress, leave=False)
    net.train()
    try:
        with bar:
            for _ in range(epochs):
                draws, step = Draws(net), _Step(training)
                batches = data.batches(batch_size, begin_epoch(net, data, shuffle))
                if per_epoch * batch_size < len(data):
                    batches = join_lone_row(batches, per_epoch)
                batches = iter(batches)
                while True:
                    with draws:
                        batch = next(batches, None)
                        if batch is None:
                            break
                        losses.append(step(*batch))
                    training.history.examples += count_rows(batch[1])
                    _report(training, losses, bar, listeners)
                    if training.ended:
                        break
                if training.iteration % per_epoch == 0 and not training.history.stopped:
                    training.epoch += 1
                    _tell(listeners, "epoch_done", training)
                if training.ended:
                    break
    except KeyboardInterrupt:
        training.stop("interrupted")
        raise
    finally:
        training.history.losses = [float(loss) for loss in losses]
        training.history.seconds = time.perf_counter() - start
        net.eval()
        _tell(listeners, "training_done", training)
    take_classes(net, data)
    if not training.history.stopped:
        warn_of_collapse(net, training.history.losses, batch_size)
    return training.history


def check_training(
    net: Network, data: Any, epochs: int, batch_size: int, max_iterations: int | None
) -> tuple[int, int]:
    """Refuse what cannot be trained, and return the number of batches that training takes, and those of an epoch."""
    _check_trainable(net)
    check_labels(net, data.labels)
    for name, value in (("epochs", epochs), ("batch_size", batch_size), ("max_iterations", max_iterations)):
        if value is None and name == "max_iterations":
            continue
        if isinstance(value, bool) or not isinstance(value, Integral):
            msg = f"{name} is a whole number from 1 on, got {value!r}."
            raise TypeError(msg)
        if value < 1:
            msg = f"{name} must be at least 1, got {value}."
            raise ValueError(msg)
    per_epoch = count_batches(net, len(data), batch_size)
    total = epochs * per_epoch
    return min(total, max_iterations or total), per_epoch


def take_classes(net: Network, data: Any) -> None:
    """Give a network without class names those of the data, if there are as many as it answers."""
    if data.classes and not net.classes and len(data.classes) == _n_answers(net):
        net.classes = tuple(data.classes)


def compute_loss(net: Network, x: Tensor | Mapping[str, Tensor], labels: Any) -> Tensor:
    """Return the loss of a batch: the trained outputs' losses times their weights, added; missing labels take no part.

    Parameters
    ----------
    x : Tensor of shape (n, ...) or mapping of input name to Tensor
    labels : Tensor of shape (n,), or mapping of output name to Tensor for several outputs
    """
    return _add_losses(net, _losses_of(net), x, labels)


def _losses_of(net: Network) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    vertices = net.vertices
    return {name: vertices[name].module.compute_loss for name in list_trained_outputs(net)}


def _add_losses(net: Network, losses: Mapping[str, Any], x: Any, labels: Any) -> Tensor:
    raw = net.preactivations(x)
    targets = labels if isinstance(labels, Mapping) else dict.fromkeys(losses, labels)
    return functools.reduce(operator.add, (loss(raw[name], targets[name]) for name, loss in losses.items()))


def device(name: str = "auto") -> torch.device:
    """Return a device: "auto" is a GPU where there is one; "cpu", "cuda", "cuda:1" and "mps" are themselves.

    Raises
    ------
    ValueError
        When there is no such kind of device.
    RuntimeError
        When the device asked for is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
    except RuntimeError as error:
        msg = f"'{name}' is no device. Use 'auto', 'cpu', 'cuda' ('cuda:1' is the second GPU) or 'mps'."
        raise ValueError(msg) from error
    count = {"cuda": torch.cuda.device_count, "mps": torch.backends.mps.is_available}.get(chosen.type, lambda: 1)()
    if (chosen.index or 0) >= count:
        msg = f"DEVICE='{name}' was asked for, but this machine has no such device. Use 'auto' or 'cpu'."
        raise RuntimeError(msg)
    return chosen


def _check_trainable(net: Network) -> None:
    if not any(parameter.requires_grad for parameter in net.parameters()):
        msg = "Everything is frozen, so there is nothing to train. Unfreeze some of it: net.unfreeze(name)."
        raise ValueError(msg)
    for name in list_trained_outputs(net):
        module = net.vertices[name].module
        if not hasattr(module, "compute_loss"):
            msg = (
                f"The output '{name}' ({type(module).__name__}) has no loss to train on. Replace it: "
                f"tl.TransferLearning(net).remove_vertex_keep_connections('{name}')"
                f".add_layer('{name}', tl.Output(n_classes), ...)."
            )
            raise ValueError(msg)


def _n_answers(net: Network) -> int:
    return net.output_shapes()[net.outputs[0]][0]


def begin_epoch(net: Network, data: Any, shuffle: bool) -> Tensor | None:
    """Begin an epoch of a network, and return the order of its rows; None is the order of the data."""
    order = None
    if shuffle:
        seed = int(torch.randint(2**31, (1,))) if net.seed is None else net.seed
        generator = make_generator(seed, f"epoch {net.epochs_seen}")
        # a store that is larger than memory knows an order that it can read quickly
        order = (
            data.shuffled(generator) if hasattr(data, "shuffled") else torch.randperm(len(data), generator=generator)
        )
    net.epochs_seen += 1
    return order


class _Step:
    """The steps of an epoch, with what stays the same looked up once.

    A batch whose loss is not finite moves no weight. Asking a GPU for the loss makes it wait, so there the gradients
    become zero from such a batch on, and training stops when the loss is next looked at.
    """

    def __init__(self, training: Training) -> None:
        self.training = training
        self.losses = _losses_of(training.network)
        self.where = find_device(training.network)
        self.asks = _answers_at_once(self.where)

    def __call__(self, x: Any, labels: Any) -> Tensor:
        training, optimizers = self.training, self.training.optimizers
        x, labels = move((x, labels), self.where)
        optimizers.zero_grad()
        loss = _add_losses(training.network, self.losses, x, labels)
        value = loss.detach()
        if self.asks and not math.isfinite(value.item()):
            training.note_lost(value)
            return value
        loss.backward()
        if not self.asks:
            training.keep(torch.isfinite(value))
            optimizers.zero_gradients_unless(training.finite)
        penalty = optimizers.step()
        return value if isinstance(penalty, float) else value + penalty


def _answers_at_once(device: torch.device) -> bool:
    """Say whether a number can be looked at without waiting for steps that are under way."""
    return device.type == "cpu"


def _report(training: Training, losses: list[Tensor], bar: tqdm, listeners: Sequence[Listener]) -> None:
    training.iteration += 1
    bar.update()
    if training.iteration % 10 == 1 or training.iteration == training.total:
        if not bar.disable:
            bar.set_postfix(loss=f"{float(losses[-1]):.3f}")
        if training.finite is not None and not training.finite:
            training.note_lost(next((loss for loss in losses if not torch.isfinite(loss)), losses[-1]))
    if listeners and not training.history.stopped:
        training.loss = float(losses[-1])
        training.history.losses.append(training.loss)
        _tell(listeners, "iteration_done", training)


def _tell(listeners: Sequence[Listener], event: str, training: Training) -> None:
    for listener in listeners:
        getattr(listener, event)(training)
