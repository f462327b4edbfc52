"""New widths of layers, and how far into the graph they reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from tlkit.errors import quoted
from tlkit.graph.structure import Structure
from tlkit.layers.descriptions import LayerDescription
from tlkit.layers.modules import NORMS, is_depthwise, is_transparent

__all__ = ["Redraw", "mark_redraws"]

Name = str | int


@dataclass
class Redraw:
    """A layer whose weights are drawn anew: its width and scheme where an edit gives them, and the inputs it expects.

    A layer that only reads a changed one is here, too, with nothing but a scheme.
    """

    n_out: int | None = None
    n_in: int | None = None
    weight_init: Any = None


def mark_redraws(structure: Structure) -> dict[str, Redraw]:
    """Return every kept vertex whose size or weights the edits of widths change.

    Raises
    ------
    UnknownVertexError (a KeyError), ValueError
        When a width cannot be changed, or reaches a vertex that it cannot pass.
    """
    marks: dict[str, Redraw] = {}
    for edit in structure.edits.select("n_out_replace", "n_in_replace"):
        kind, scheme = edit["edit"], edit["weight_init"]
        name = _find_layer(structure, edit["name"], kind)
        mark = marks.setdefault(name, Redraw())
        key = kind.removesuffix("_replace")
        if getattr(mark, key) is not None:
            msg = f"{kind} was called twice for '{name}'. Call it once."
            raise ValueError(msg)
        if None not in (scheme, mark.weight_init) and scheme != mark.weight_init:
            msg = f"'{name}' would be drawn by {mark.weight_init!r} and by {scheme!r}. Give one weight_init."
            raise ValueError(msg)
        setattr(mark, key, edit[key])
        mark.weight_init = mark.weight_init or scheme
    # only now the readers: what is said of a layer itself wins over what is said of the layer before
    for edit in structure.edits.select("n_out_replace"):
        _mark_readers(structure, marks, structure.source.resolve(edit["name"]), edit["next_weight_init"])
    return marks


def _find_layer(structure: Structure, name: Name, edit: str) -> str:
    """Return the name of a layer whose width can be changed, and refuse others."""
    name = structure.source.resolve(name)
    if name not in structure.kept:
        what = "is new: give its width in its description" if name in structure.new else "is removed in the same build"
        msg = f"{edit}('{name}', ...) changes a layer of the original, and '{name}' {what}."
        raise ValueError(msg)
    vertex = structure.kept[name]
    if not structure.is_single_layer(vertex.module):
        layers = [other for other, v in structure.source.vertices.items() if structure.is_single_layer(v.module)]
        msg = (
            f"'{name}' is a {type(vertex.module).__name__}, not a single layer with a width of its own. Layers "
            f"that have one: {quoted(layers[-6:])}{' (the last six)' if len(layers) > 6 else ''}. A block can be "
            "opened by importing with granularity='layer'."
        )
        raise ValueError(msg)
    if edit == "n_out_replace" and is_depthwise(vertex.module):
        msg = (
            f"'{name}' is a depthwise convolution: it has as many channels as it reads. Change what it reads, "
            f"{quoted(vertex.inputs)}."
        )
        raise ValueError(msg)
    return name


def _mark_readers(structure: Structure, marks: dict[str, Redraw], name: str, weight_init: Any) -> None:
    """Mark every layer that the new width of a vertex reaches."""
    for reader, vertex in structure.kept.items():
        if name not in vertex.inputs:
            continue
        single = structure.is_single_layer(vertex.module)
        passes = is_transparent(vertex.module) or (single and is_depthwise(vertex.module))
        if len(vertex.inputs) > 1 or not (single or passes):
            msg = (
                f"The new width reaches '{reader}' ({type(vertex.module).__name__}), which also depends on other "
                "widths. Remove it and what it feeds with remove_vertex_and_connections, and add new vertices."
            )
            raise ValueError(msg)
        if single or isinstance(vertex.module, NORMS):
            mark = marks.setdefault(reader, Redraw())
            mark.weight_init = mark.weight_init or weight_init
        if passes:
            _mark_readers(structure, marks, reader, weight_init)
    for reader, new in structure.new.items():  # a new vertex takes its size from what it reads
        if new.inputs == (name,) and not isinstance(new.what, (LayerDescription, nn.Module)):
            _mark_readers(structure, marks, reader, weight_init)
