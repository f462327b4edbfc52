"""A network as a chain of segments, from one cut point to the next, and what a step of training takes in each."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Mapping, Sequence
from math import prod

import torch
from torch import Tensor

from tlkit.builder import TransferLearning
from tlkit.graph.network import Network
from tlkit.memory import give_back
from tlkit.training.optimizers import Optimizers

__all__ = ["cuts", "segments", "step_seconds"]

REPETITIONS = 3  # of each step; the first one also warms up
ROOM = 3_000_000  # bytes that a timed step reads or answers; it keeps many times as much for its way back


def cuts(net: Network) -> list[str]:
    """Return the cut points up to which a network can be frozen.

    A cut point is none where vertices before and behind it share weights.
    """
    found = []
    for name in net.cut_points:
        try:
            net.check_shared_weights(net.ancestors(name))
        except ValueError:
            continue
        found.append(name)
    return found


def segments(net: Network, points: Sequence[str]) -> list[Network]:
    """Divide a copy of a network at cut points: each segment reads what the one before it answers.

    Parameters
    ----------
    net : Network
        It stays as it is; the copy shares the memory of its weights.
    points : sequence of str
        Cut points, in the network's order.

    Returns
    -------
    list of Network
        One segment for each cut point, which ends there, and one that goes on to the outputs.
    """
    whole = TransferLearning(net).build(validate_output_layer=False)
    shapes, vertices = whole.output_shapes(), whole.vertices
    parts, done, before = [], frozenset(), dict(whole.input_shapes)
    for point in [*points, None]:
        within = whole.ancestors(point) if point else frozenset(vertices)
        chosen = {name: vertices[name] for name in vertices if name in within - done}
        preprocessing = None if done else whole.preprocessing
        parts.append(Network(chosen, before, [point] if point else whole.outputs, preprocessing=preprocessing))
        if point:
            done, before = within, {point: shapes[point]}
    return parts


def step_seconds(parts: Iterable[Network], x: Tensor | Mapping[str, Tensor]) -> list[float]:
    """Measure a step of training in each segment of a chain: its run forwards and backwards, and its update.

    What a step takes behind a cut point is the sum over the segments behind it. Copies are trained, with the updater
    of each vertex; only one of them is in memory at a time. Where images are still large, a step takes fewer of them.

    Parameters
    ----------
    parts : iterable of Network
        What `segments` returned.
    x : Tensor of shape (n, ...) or mapping of str to Tensor
        A batch that the first segment reads: the rows of the largest step.

    Returns
    -------
    list of float
        Seconds a row, of the quickest of three steps.
    """
    seconds = []
    for part in parts:
        trained = copy.deepcopy(part).unfreeze().train()
        few, count = _first_rows(x, _rows_at_once(part))
        seconds.append(min(_seconds(trained, few) for _ in range(REPETITIONS)) / count)
        trained.optimizers = None  # the two refer to each other, and would stay in memory for a while
        del trained
        give_back()
        with torch.no_grad():
            x = part(x)
    return seconds


def _rows_at_once(part: Network) -> int:
    answers = part.output_shapes()
    largest = max(prod(shape) for shape in (*part.input_shapes.values(), *(answers[name] for name in part.outputs)))
    return max(1, ROOM // (4 * largest))


def _first_rows(x: Tensor | Mapping[str, Tensor], count: int) -> tuple[Tensor | dict[str, Tensor], int]:
    if isinstance(x, Mapping):
        few = {name: value[:count] for name, value in x.items()}
        return few, len(next(iter(few.values())))
    return x[:count], len(x[:count])


def _seconds(net: Network, x: Tensor | Mapping[str, Tensor]) -> float:
    if isinstance(x, Tensor) and x.is_floating_point():
        x = x.detach().requires_grad_()
    optimizers = Optimizers.of(net)
    optimizers.zero_grad()
    _wait(x)
    start = time.perf_counter()
    answers = net(x)
    answers = [y for y in (answers if isinstance(answers, tuple) else (answers,)) if y.requires_grad]
    if answers:
        torch.autograd.backward(answers, [torch.ones_like(y) for y in answers])
        optimizers.step()
    _wait(x)
    return time.perf_counter() - start


def _wait(x: Tensor | Mapping[str, Tensor]) -> None:
    """Wait until a GPU has done what it was told."""
    device = next(iter(x.values())).device if isinstance(x, Mapping) else x.device
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
