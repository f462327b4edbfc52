"""What freezing up to some vertices means, in numbers: computed once for a network, asked for in microseconds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import prod
from typing import Any

from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tlkit.errors import quoted
from tlkit.graph.network import Network
from tlkit.graph.shapes import make_meta_examples, run_on_meta
from tlkit.graph.stages import group_stages, label_stage
from tlkit.graph.summary import collect_weights

__all__ = ["Cut", "Cuts", "Piece"]

FLOAT32 = 4  # bytes


@dataclass(frozen=True)
class Cut:
    """A network frozen up to some vertices.

    Parameters
    ----------
    boundary : tuple of str
        The vertices that were named, none of which feeds another; empty where nothing is frozen.
    vertices : frozenset of str
        All frozen vertices.
    frozen, trainable : int
        Numbers of parameters; batch-norm statistics are counted, as in `net.summary()`.
    shapes : dict of str to tuple of int
        What the trainable part reads of one image, by the name of the vertex or input that says it.
    work, trainable_work : int
        Multiplications for one image, forward, of the whole network and of its trainable part.
    """

    boundary: tuple[str, ...]
    vertices: frozenset[str]
    frozen: int
    trainable: int
    shapes: dict[str, tuple[int, ...]]
    work: int
    trainable_work: int

    @property
    def numbers(self) -> int:
        """How many numbers stand for one image."""
        return sum(map(prod, self.shapes.values()))

    @property
    def nbytes(self) -> int:
        """Their size in bytes as float32."""
        return FLOAT32 * self.numbers


@dataclass(frozen=True)
class Piece:
    """A piece of the network as the picture shows it: a stage, or what lies of it on one side of a boundary."""

    label: str
    parameters: int
    work: int
    frozen: bool


class Cuts:
    """Where a network can be cut into a frozen and a trainable part, and what each cut means.

    Parameters
    ----------
    net : Network
        It is not changed, and need not have values.

    Attributes
    ----------
    points : tuple of str
        The vertices through which everything flows: each of them alone is a boundary of one tensor.
    order : tuple of str
        All vertices, from input to output.
    sizes, work : dict of str to int
        Each vertex's parameters, and its multiplications for one image.
    """

    def __init__(self, net: Network) -> None:
        self.net = net
        self.points = net.cut_points
        self.order = tuple(net.vertices)
        self.sizes = {name: sum(map(Tensor.numel, own.values())) for name, own in collect_weights(net).items()}
        self.shapes, self.work = _measure_shapes(net)
        self._stages = group_stages({name: self.shapes[name] for name in self.order})

    def resolve(self, boundary: Any) -> tuple[str, ...]:
        """Return the boundary of a name, a dotted path, an index, or several of them; None is no boundary.

        Vertices that feed another one of them are left out: they are frozen with it.

        Raises
        ------
        UnknownVertexError (a KeyError)
            When there is no such vertex.
        ValueError
            When nothing would be left to train, or weights would be frozen and trained at once.
        """
        given = () if boundary is None else boundary if isinstance(boundary, (list, tuple)) else (boundary,)
        names = {self.net.resolve(name) for name in given}
        frozen = self.net.ancestors(*names)
        if len(frozen) == len(self.order):
            such = f", such as '{self.points[-1]}'" if self.points else ""
            msg = (
                f"Frozen up to {quoted(name for name in self.order if name in names)}, the whole network is frozen: "
                f"nothing would be left to train. Choose a vertex further from the output{such}."
            )
            raise ValueError(msg)
        self.net.check_shared_weights(frozen)
        feeding = {before for name in names for before in self.net.ancestors(name) - {name}}
        return tuple(name for name in self.order if name in names - feeding)

    def default(self) -> tuple[str, ...]:
        """Where the network is frozen now, otherwise what its head reads."""
        now = tuple(name for name in self.net.boundary() if name in self.net.frozen)
        if now and self.net.ancestors(*now) == self.net.frozen and len(self.net.frozen) < len(self.order):
            return self.resolve(now)
        known = [self.net.landmarks.penultimate] if self.net.has_landmarks else []
        wished = [*known, *self.points[-1:]]
        return next(((name,) for name in wished if name in self.points), ())

    def at(self, boundary: Sequence[str]) -> Cut:
        """Return what freezing up to a resolved boundary means."""
        frozen, vertices = self.net.ancestors(*boundary), self.net.vertices
        read = {other for name in self.order if name not in frozen for other in vertices[name].inputs}
        read |= set(self.net.outputs)
        sources = [*self.net.inputs, *(name for name in self.order if name in frozen)]
        size, work = (sum(amounts[name] for name in frozen) for amounts in (self.sizes, self.work))
        return Cut(
            tuple(boundary),
            frozen,
            frozen=size,
            trainable=sum(self.sizes.values()) - size,
            shapes={name: self.shapes[name] for name in sources if name in read},
            work=sum(self.work.values()),
            trainable_work=sum(self.work.values()) - work,
        )

    def parts(self, frozen: Collection[str]) -> list[Piece]:
        """Return the stages from input to output, one that a boundary runs through in several parts."""
        parts = []
        for stage in self._stages:
            for is_frozen, group in groupby(stage, key=frozen.__contains__):
                names = tuple(group)
                sizes, work = (sum(amounts[name] for name in names) for amounts in (self.sizes, self.work))
                parts.append(Piece(label_stage(names, whole=names == stage), sizes, work, is_frozen))
        return parts


def _measure_shapes(net: Network) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """Run one example without values; return all shapes, and the multiplications of each vertex."""
    values = make_meta_examples(net.input_shapes, net)
    work = {}
    for name, vertex in net.vertices.items():
        with FlopCounterMode(display=False) as counter:
            values[name] = run_on_meta(vertex.module, *(values[other] for other in vertex.inputs))
        work[name] = counter.get_total_flops() // 2  # it counts the additions, too
    return {name: tuple(value.shape[1:]) for name, value in values.items()}, work
