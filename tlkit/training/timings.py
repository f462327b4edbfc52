"""What each vertex of a network costs in seconds on this machine: measured once, added up for any cut."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tlkit.graph.network import Network
from tlkit.graph.summary import collect_weights
from tlkit.layers.descriptions import Output
from tlkit.layers.updaters import Updater
from tlkit.training.heads import build_head
from tlkit.training.loop import fit
from tlkit.training.optimizers import DEFAULT_UPDATER

__all__ = ["Epoch", "Timings", "time_vertices"]

BATCH_SIZE = 32  # of training, as `tl.fit` has it
MOST_ROWS = 4  # images of a timed pass: on the way back, a vertex keeps many times what it reads
PASS = 1.0  # seconds that a timed pass through the network may take, as long as it has one image
ENOUGH = 0.1  # seconds; a batch that takes as long is timed well enough
LONG = 0.02  # seconds; what takes as long is timed once
SMALL = 1_000_000  # numbers; inputs that are no more are timed in a batch as large as those of training
UPDATED = 2_000_000  # parameters of the layer that says what an update costs


@dataclass(frozen=True)
class Epoch:
    """Seconds that a cut costs for some images.

    Parameters
    ----------
    whole : float
        One epoch of the whole network: every image is read, and runs through the frozen part every time.
    featurized : float
        One epoch of the trainable part on features.
    featurizing : float
        Making these features, once.
    """

    whole: float
    featurized: float
    featurizing: float

    @property
    def speed_up(self) -> float:
        """How many epochs on features take as long as one of the whole network."""
        return self.whole / self.featurized


@dataclass(frozen=True)
class Timings:
    """Seconds, measured on this machine.

    Parameters
    ----------
    forward, backward : dict of str to float
        Each vertex for one image.
    reading : float
        Reading one image.
    step : float
        What every training step costs whatever the network.
    update : dict of str to float
        What the update of each vertex adds to a step.
    """

    forward: dict[str, float]
    backward: dict[str, float]
    reading: float
    step: float
    update: dict[str, float]

    def epoch(self, net: Network, frozen: Collection[str], images: int) -> Epoch:
        """Add up what a network with some frozen vertices costs for a number of images."""
        trained, step = 0.0, self.step
        for name, vertex in net.vertices.items():
            if name not in frozen:
                first = all(other in frozen or other in net.inputs for other in vertex.inputs)
                # where nothing before it is trained, half the way back
                trained += self.forward[name] + self.backward[name] / (2 if first else 1)
                step += self.update[name]
        featurized = images * trained + -(-images // BATCH_SIZE) * step
        featurizing = images * (self.reading + sum(self.forward[name] for name in frozen))
        return Epoch(featurizing + featurized, featurized, featurizing)


def time_vertices(
    net: Network,
    images: Any = None,
    given_up: Callable[[], bool] = lambda: False,
    told: Callable[[str], None] = lambda text: None,
) -> Timings | None:
    """Measure a network vertex by vertex, where its weights are; one without values is measured on the CPU.

    Parameters
    ----------
    net : Network
        It stays as it is; for a step's update counts the updater of its last vertex that has one.
    images : ImageSet or other data set, optional
        What reading an image costs is measured, too.
    given_up : callable
        Asked between two vertices; when it says True the answer is None.
    told : callable
        Told what is measured now.
    """
    watched = _Watched(net, given_up, told)
    alone = watched.run(1, backward=False)
    size = max(1, min(int(PASS / max(sum(ahead for ahead, _ in alone.values()), 1e-6)), MOST_ROWS))
    # from here on as in training, where large tensors take longer than many small ones, and find their memory warm
    first, second = watched.run(size, backward=False), watched.run(size)
    if not second:
        return None
    told("a training step")
    updater = next((v.settings.updater for v in reversed(net.vertices.values()) if v.settings.updater), DEFAULT_UPDATER)
    step = _time_step(8, updater)
    each = max(_time_step(UPDATED // 4, updater) - step, 0) / UPDATED
    update = {name: each * sum(map(Tensor.numel, own.values())) for name, own in collect_weights(net).items()}
    forward = {name: min(first[name][0], ahead) for name, (ahead, _) in second.items()}
    backward = {name: back for name, (_, back) in second.items()}
    return Timings(forward, backward, _time_reading(images), step, update)


class _Watched:
    """A network that runs vertex by vertex against a clock."""

    def __init__(self, net: Network, given_up: Callable[[], bool], told: Callable[[str], None]) -> None:
        self.net, self.given_up, self.told = net, given_up, told
        self.last_reader = {other: name for name, vertex in net.vertices.items() for other in vertex.inputs}

    def run(self, size: int, *, backward: bool = True) -> dict[str, tuple[float, float]]:
        """Return each vertex's seconds an image, forward and backward; nothing when it was given up."""
        net = self.net
        like = next((value for value in net.parameters() if value.is_floating_point()), torch.empty(0))
        place = {"dtype": like.dtype, "device": "cpu" if like.is_meta else like.device}
        draws = torch.Generator(place["device"]).manual_seed(0)  # nobody else's random numbers
        values = {name: torch.randn(size, *shape, generator=draws, **place) for name, shape in net.input_shapes.items()}
        seconds = {}
        for number, (name, vertex) in enumerate(net.vertices.items(), start=1):
            if self.given_up():
                return {}
            self.told(f"{name} ({number} of {len(net.vertices)})")
            clock = _Clock(_fill_values(vertex.module), _repeat_rows([values[other] for other in vertex.inputs]))
            answer, ahead = clock.forward()
            values[name] = answer[:size]
            seconds[name] = ahead / len(answer), clock.backward(ahead) if backward else 0.0
            values = {other: value for other, value in values.items() if self.last_reader.get(other) not in seconds}
        return seconds


class _Clock:
    """Times one vertex, without a trace in its module."""

    def __init__(self, module: nn.Module, inputs: list[Tensor]) -> None:
        self.module, self.inputs = module, inputs
        self.state = {key: value.detach() for key, value in module.named_parameters()}
        self.state |= {key: value.clone() for key, value in module.named_buffers()}  # running means would move
        self.weights = [self.state[key] for key, _ in module.named_parameters()]
        self.wait = torch.cuda.synchronize if inputs[0].is_cuda else lambda: None

    def forward(self) -> tuple[Tensor, float]:
        """Return what the vertex says, and the seconds that it took."""
        with torch.no_grad():
            self.wait()
            start = time.perf_counter()
            answer = functional_call(self.module, self.state, tuple(self.inputs))
            self.wait()
        return answer, time.perf_counter() - start

    def backward(self, ahead: float) -> float:
        """Return the seconds of an image on the way back; `ahead` are those of the whole batch on the way there."""
        whole = len(self.inputs[0])
        size = max(1, min(int(whole * ENOUGH / ahead), whole))
        inputs = [value[:size].detach() for value in self.inputs]
        towards = [value.requires_grad_() for value in (*inputs, *self.weights) if value.is_floating_point()]

        def there() -> Tensor:
            return functional_call(self.module, self.state, tuple(inputs))

        def there_and_back() -> None:
            torch.autograd.grad(there().sum(), towards, allow_unused=True)

        with torch.enable_grad():
            if not there().requires_grad:
                return 0.0
            there_and_back()
            return max(self._least(there_and_back) - self._least(there), 0) / size

    def _least(self, call: Callable[[], Any]) -> float:
        best, spent = float("inf"), 0.0
        while spent < LONG:
            self.wait()
            start = time.perf_counter()
            call()
            self.wait()
            last = time.perf_counter() - start
            best, spent = min(best, last), spent + last
        return best


def _repeat_rows(inputs: list[Tensor]) -> list[Tensor]:
    """Repeat the rows of a small batch: reading the weights of a dense layer takes as long for one row as for many."""
    times = -(-BATCH_SIZE // len(inputs[0]))
    if times * sum(value.numel() for value in inputs) > SMALL:
        return inputs
    return [value.repeat(times, *[1] * (value.ndim - 1)) for value in inputs]


def _fill_values(module: nn.Module) -> nn.Module:
    """Return the module itself, or a copy with some values where it has none."""
    if not any(value.is_meta for value in [*module.parameters(), *module.buffers()]):
        return module
    module = copy.deepcopy(module).to_empty(device="cpu")
    with torch.no_grad():
        for value in [*module.parameters(), *module.buffers()]:
            value.fill_(0.01 if value.is_floating_point() else 1)
    return module


def _time_step(width: int, updater: Updater) -> float:
    """Return seconds for a training step of one output layer: next to nothing but the step itself when it is narrow."""
    steps = 20
    data = torch.zeros(steps, width), torch.zeros(steps, dtype=torch.long)
    with torch.random.fork_rng([]):
        net = build_head("x", (width,), [("y", Output(4, updater=updater))])
        fit(net, data, batch_size=1, progress=False)
        return fit(net, data, batch_size=1, progress=False).seconds / steps


def _time_reading(images: Any) -> float:
    if not hasattr(images, "batches"):
        return 0.0
    for _ in range(2):  # pixels that stay in memory are read quickly from the second time on
        start = time.perf_counter()
        x, _ = next(iter(images.batches(min(16, len(images)))))
    return (time.perf_counter() - start) / len(x)
