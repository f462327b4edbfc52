"""What freezing up to a cut point means, in numbers: computed once for a network, asked for in microseconds."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from math import prod

from torch import nn

from tlkit.errors import near_misses
from tlkit.graph import Network
from tlkit.stages import stage_label, stages

__all__ = ["Cut", "CutPoints", "Part"]

FLOAT32 = 4  # bytes


@dataclass(frozen=True)
class Cut:
    """A network frozen up to a boundary.

    Parameters
    ----------
    boundary : str or None
        Last frozen vertex; None where nothing is frozen.
    frozen, trainable : int
        Numbers of parameters; batch-norm statistics are counted, as in `net.summary()`.
    shape : tuple of int
        What the trainable part reads of one image.
    """

    boundary: str | None
    frozen: int
    trainable: int
    shape: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """How many numbers stand for one image."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Their size in bytes as float32."""
        return FLOAT32 * self.numbers


@dataclass(frozen=True)
class Part:
    """A piece of the network as the picture shows it: a stage, or what lies of it on one side of the boundary."""

    label: str
    parameters: int
    frozen: bool


class CutPoints:
    """The cut points of a network, and what each of them means.

    Parameters
    ----------
    net : Network
        With one input.

    Raises
    ------
    ValueError
        When the network has several inputs or no cut point.
    """

    def __init__(self, net: Network) -> None:
        if len(net.inputs) > 1 or not net.cut_points:
            what = f"{len(net.inputs)} inputs" if len(net.inputs) > 1 else "no vertex through which everything flows"
            msg = (
                f"A slider over cut points needs a network with one input and a vertex through which everything flows. "
                f"This one has {what}. Freeze several boundaries in code: tl.TransferLearning(net)"
                ".set_feature_extractor('a', 'b').build()."
            )
            raise ValueError(msg)
        self.net = net
        self.names = net.cut_points
        self.sizes = _sizes(net)
        self.order = tuple(self.sizes)
        self.shapes = net.output_shapes()
        self._before = dict(zip(self.order, accumulate(self.sizes.values()), strict=True))
        self._stages = stages({name: self.shapes[name] for name in self.order})

    def resolve(self, name: str | int | None) -> str | None:
        """Return the cut point of a name, a dotted path or an index; None stays None.

        Raises
        ------
        KeyError
            When there is no such vertex.
        ValueError
            When the network cannot be cut there.
        """
        if name is None:
            return None
        name = self.net.resolve(name)
        if name not in self.names:
            why = "is an output: nothing would be left to train" if name in self.net.outputs else "lies in a branch"
            msg = (
                f"'{name}' is no cut point: it {why}.{near_misses(name, self.names)} "
                f"See net.cut_points for all {len(self.names)}."
            )
            raise ValueError(msg)
        self.net._check_shared(dict.fromkeys(self.net.ancestors(name), False))
        return name

    def default(self) -> str:
        """Where the network is frozen now, otherwise what its head reads."""
        now = self.net.boundary() if self.net.frozen else ()
        landmarks = self.net._landmarks
        wished = [*(now if len(now) == 1 else ()), landmarks.penultimate if landmarks else None, self.names[-1]]
        return next(name for name in wished if name in self.names)

    def at(self, boundary: str | None) -> Cut:
        """Return what freezing up to a cut point means."""
        frozen = self._before[boundary] if boundary else 0
        shape = self.shapes[boundary or self.net.inputs[0]]
        return Cut(boundary, frozen, sum(self.sizes.values()) - frozen, shape)

    def parts(self, boundary: str | None) -> list[Part]:
        """Return the stages from input to output, the one that the boundary runs through in two parts."""
        edge = self.order.index(boundary) + 1 if boundary else 0
        frozen = set(self.order[:edge])
        parts = []
        for stage in self._stages:
            sides = [
                tuple(name for name in stage if name in frozen),
                tuple(name for name in stage if name not in frozen),
            ]
            for names in filter(None, sides):
                label = stage_label(names, whole=names == stage)
                parts.append(Part(label, sum(self.sizes[name] for name in names), names is sides[0]))
        return parts


def _sizes(net: Network) -> dict[str, int]:
    """Count each vertex's numbers, shared weights once, as the summary does."""
    seen: set[int] = set()
    sizes = {}
    for name, vertex in net.vertices.items():
        values = {id(value): value.numel() for value in _values(vertex.module) if id(value) not in seen}
        seen.update(values)
        sizes[name] = sum(values.values())
    return sizes


def _values(module: nn.Module) -> list:
    return [*module.parameters(), *(value for value in module.buffers() if value.is_floating_point())]
