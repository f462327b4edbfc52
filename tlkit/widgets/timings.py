"""What each vertex of a network costs in seconds on this machine: measured once, added up for any cut."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tlkit.graph.network import Network
from tlkit.layers.descriptions import Output
from tlkit.layers.updaters import Nesterovs
from tlkit.training.loop import fit
from tlkit.widgets.background import GivenUp
from tlkit.widgets.cuts import Cut, Cuts

__all__ = ["Epoch", "Timings", "measure"]

BATCH_SIZE = 32  # of training, as `tl.fit` has it
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
    step, update : float
        What every training step costs whatever the network, and what each trainable parameter adds to it.
    """

    forward: dict[str, float]
    backward: dict[str, float]
    reading: float
    step: float
    update: float

    def epoch(self, net: Network, cut: Cut, images: int) -> Epoch:
        """Add up what a cut costs for a number of images."""
        frozen = sum(self.forward[name] for name in cut.vertices)
        trained = 0.0
        for name, vertex in net.vertices.items():
            if name not in cut.vertices:
                first = all(
                    other in cut.shapes for other in vertex.inputs
                )  # nothing before it is trained: half the way back
                trained += self.forward[name] + self.backward[name] / (2 if first else 1)
        steps = -(-images // BATCH_SIZE)
        featurized = images * trained + steps * (self.step + cut.trainable * self.update)
        featurizing = images * (self.reading + frozen)
        return Epoch(featurizing + featurized, featurized, featurizing)


def measure(
    cuts: Cuts,
    images: Any = None,
    given_up: GivenUp = lambda: False,
    told: Callable[[str], None] = lambda text: None,
) -> Timings | None:
    """Measure a network vertex by vertex, where its weights are; one without values is measured on the CPU.

    Parameters
    ----------
    cuts : Cuts
        The network and its shapes.
    images : ImageSet or other data set, optional
        What reading an image costs is measured, too.
    given_up : callable
        Asked between two vertices; when it says True the answer is None.
    told : callable
        Told what is measured now.
    """
    watched = _Watched(cuts, given_up, told)
    alone = watched.run(1, backward=False)
    size = max(1, min(int(PASS / max(sum(ahead for ahead, _ in alone.values()), 1e-6)), BATCH_SIZE))
    # from here on as in training, where large tensors take longer than many small ones, and find their memory warm
    first, second = watched.run(size, backward=False), watched.run(size)
    if not second:
        return None
    told("a training step")
    step = _of_step(8)
    update = max(_of_step(UPDATED // 4) - step, 0) / UPDATED
    forward = {name: min(first[name][0], ahead) for name, (ahead, _) in second.items()}
    backward = {name: back for name, (_, back) in second.items()}
    return Timings(forward, backward, _of_reading(images), step, update)


class _Watched:
    """A network that runs vertex by vertex against a clock."""

    def __init__(self, cuts: Cuts, given_up: GivenUp, told: Callable[[str], None]) -> None:
        self.cuts, self.given_up, self.told = cuts, given_up, told

    def run(self, size: int, *, backward: bool = True) -> dict[str, tuple[float, float]]:
        """Return each vertex's seconds an image, forward and backward; nothing when it was given up."""
        net = self.cuts.net
        like = next((value for value in net.parameters() if value.is_floating_point()), torch.empty(0))
        place = {"dtype": like.dtype, "device": "cpu" if like.is_meta else like.device}
        draws = torch.Generator(place["device"]).manual_seed(0)  # nobody else's random numbers
        values = {name: torch.randn(size, *shape, generator=draws, **place) for name, shape in net.input_shapes.items()}
        seconds = {}
        for number, (name, vertex) in enumerate(net.vertices.items(), start=1):
            if self.given_up():
                return {}
            self.told(f"{name} ({number} of {len(net.vertices)})")
            clock = _Clock(_with_values(vertex.module), _enough_rows([values[other] for other in vertex.inputs]))
            answer, ahead = clock.forward()
            values[name] = answer[:size]
            seconds[name] = ahead / len(answer), clock.backward(ahead) if backward else 0.0
            values = {
                other: value for other, value in values.items() if not seconds.keys() >= set(net.consumers(other))
            }
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
        inputs = [value[:size].detach().requires_grad_() for value in self.inputs]
        towards = [*inputs, *(weight.requires_grad_() for weight in self.weights)]

        def there() -> Tensor:
            return functional_call(self.module, self.state, tuple(inputs))

        def there_and_back() -> None:
            torch.autograd.grad(there().sum(), towards, allow_unused=True)

        with torch.enable_grad():
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


def _enough_rows(inputs: list[Tensor]) -> list[Tensor]:
    """Repeat the rows of a small batch: reading the weights of a dense layer takes as long for one row as for many."""
    times = -(-BATCH_SIZE // len(inputs[0]))
    if times * sum(value.numel() for value in inputs) > SMALL:
        return inputs
    return [value.repeat(times, *[1] * (value.ndim - 1)) for value in inputs]


def _with_values(module: nn.Module) -> nn.Module:
    """Return the module itself, or a copy with some values where it has none."""
    if not any(value.is_meta for value in [*module.parameters(), *module.buffers()]):
        return module
    module = copy.deepcopy(module).to_empty(device="cpu")
    with torch.no_grad():
        for value in [*module.parameters(), *module.buffers()]:
            value.fill_(0.01 if value.is_floating_point() else 1)
    return module


def _of_step(width: int) -> float:
    """Return seconds for a training step of one output layer: next to nothing but the step itself when it is narrow."""
    from tlkit.builder import TransferLearning

    start = Network({}, inputs={"x": (width,)}, outputs=["x"])
    builder = TransferLearning(start).add_layer("y", Output(4, updater=Nesterovs(0.01)), "x").set_outputs("y")
    steps = 20
    data = torch.zeros(steps, width), torch.zeros(steps, dtype=torch.long)
    with torch.random.fork_rng([]):
        net = builder.build()
        fit(net, data, batch_size=1, progress=False)
        return fit(net, data, batch_size=1, progress=False).seconds / steps


def _of_reading(images: Any) -> float:
    if not hasattr(images, "batches"):
        return 0.0
    for _ in range(2):  # pixels that stay in memory are read quickly from the second time on
        start = time.perf_counter()
        x, _ = next(iter(images.batches(min(16, len(images)))))
    return (time.perf_counter() - start) / len(x)
