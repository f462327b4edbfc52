"""What each vertex of a network costs in seconds on this machine: measured once, added up for any cut."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tlkit.graph import Network
from tlkit.layers import Output
from tlkit.training import fit
from tlkit.updaters import Nesterovs
from tlkit.widgets.background import GivenUp
from tlkit.widgets.cuts import Cut, Cuts

__all__ = ["Epoch", "Timings", "measure"]

BATCH_SIZE = 32  # of training, as `tl.fit` has it
ENOUGH_WORK = 200_000_000  # multiplications; a batch with more is timed well enough
MOST_NUMBERS = 16_000_000  # that a timed vertex may read and answer, 64 MB
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
    forward, backward, backward_to_weights : dict of str to float
        Each vertex for one image. The way back to a vertex's input is saved where nothing before it is trained.
    reading : float
        Reading one image.
    step, update : float
        What every training step costs whatever the network, and what each trainable parameter adds to it.
    """

    forward: dict[str, float]
    backward: dict[str, float]
    backward_to_weights: dict[str, float]
    reading: float
    step: float
    update: float

    def epoch(self, net: Network, cut: Cut, images: int) -> Epoch:
        """Add up what a cut costs for a number of images."""
        frozen = sum(self.forward[name] for name in cut.vertices)
        trained = 0.0
        for name, inputs in net._inputs.items():
            if name not in cut.vertices:
                first = all(other in cut.shapes for other in inputs)
                trained += self.forward[name] + (self.backward_to_weights if first else self.backward)[name]
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
    seconds = {}
    for number, name in enumerate(cuts.order, start=1):
        if given_up():
            return None
        told(f"{name} ({number} of {len(cuts.order)})")
        seconds[name] = _of_vertex(cuts, name)
    told("a training step")
    step = _of_step(8)
    forward, backward, to_weights = zip(*seconds.values(), strict=True)
    return Timings(
        *(dict(zip(seconds, values, strict=True)) for values in (forward, backward, to_weights)),
        reading=_of_reading(images),
        step=step,
        update=max(_of_step(UPDATED // 4) - step, 0) / UPDATED,
    )


def _of_vertex(cuts: Cuts, name: str) -> tuple[float, float, float]:
    """Return seconds an image: forward, backward to weights and inputs, backward to the weights alone."""
    vertex = cuts.net.vertices[name]
    shapes = [cuts.shapes[other] for other in vertex.inputs]
    size = _batch_size(cuts.work[name], cuts.sizes[name], sum(map(prod, [*shapes, cuts.shapes[name]])))
    module = _with_values(vertex.module)
    values = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    values = {key: value.detach() for key, value in values.items()}
    like = next((value for value in values.values() if value.is_floating_point()), torch.empty(0))
    inputs = [torch.randn(size, *shape, dtype=like.dtype, device=like.device) for shape in shapes]
    weights = {key: values[key].requires_grad_() for key, _ in module.named_parameters()}

    def forward() -> Tensor:
        return functional_call(module, values, tuple(inputs))

    def trained(towards: list[Tensor]) -> Callable[[], Any]:
        return lambda: torch.autograd.grad(forward().sum(), towards, allow_unused=True)

    with torch.no_grad():
        ahead = _seconds(forward, like.device)
    to_weights = max(_seconds(trained(list(weights.values())), like.device) - ahead, 0) if weights else 0.0
    for value in inputs:
        value.requires_grad_()
    with torch.enable_grad():
        back = max(_seconds(trained([*inputs, *weights.values()]), like.device) - ahead, to_weights)
    return ahead / size, back / size, to_weights / size


def _batch_size(work: int, parameters: int, numbers: int) -> int:
    """Return how many images to time at once: many where each is little work or the weights take longest to read."""
    wanted = BATCH_SIZE if work <= 4 * parameters else ENOUGH_WORK // max(work, 1)
    return max(1, min(wanted, MOST_NUMBERS // max(numbers, 1), BATCH_SIZE))


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
    net, steps = builder.build(), 20
    data = torch.zeros(steps, width), torch.zeros(steps, dtype=torch.long)
    fit(net, data, batch_size=1, progress=False)
    return fit(net, data, batch_size=1, progress=False).seconds / steps


def _of_reading(images: Any) -> float:
    if not hasattr(images, "batches"):
        return 0.0
    for _ in range(2):  # pixels that stay in memory are read quickly from the second time on
        start = time.perf_counter()
        x, _ = next(iter(images.batches(min(16, len(images)))))
    return (time.perf_counter() - start) / len(x)


def _seconds(call: Callable[[], Any], device: torch.device) -> float:
    """Return the least of a few timings, after one that is not counted."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    call()
    best, spent = float("inf"), 0.0
    while spent < 0.02:
        wait()
        start = time.perf_counter()
        call()
        wait()
        best = min(best, time.perf_counter() - start)
        spent += time.perf_counter() - start
    return best
