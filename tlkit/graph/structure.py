"""The structure of an edited network: what stays of the original, what is new, who reads whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

from torch import nn

from tlkit.errors import UnknownVertexError, near_misses, quoted
from tlkit.graph.network import Network, Vertex
from tlkit.layers.descriptions import Description, LayerDescription, Loss, Merge
from tlkit.layers.modules import WEIGHT_LAYERS

__all__ = ["Edits", "New", "Structure"]

Name = str | int


@dataclass(frozen=True)
class New:
    """A vertex that is added: what it is to become, and the names of what it reads."""

    what: Description | nn.Module
    inputs: tuple[str, ...]


class Edits:
    """What `TransferLearning` recorded: ``{"edit": name of the call, ...its arguments}``, call by call."""

    def __init__(self, edits: Sequence[dict[str, Any]]) -> None:
        self.edits = edits

    def select(self, *kinds: str) -> list[dict[str, Any]]:
        """Return the edits of these kinds, in the order of the calls."""
        return [edit for edit in self.edits if edit["edit"] in kinds]

    def find_last(self, kind: str, key: str) -> Any:
        """Return an argument of the last call of a kind; None if there was none."""
        found = self.select(kind)
        return found[-1][key] if found else None


class Structure:
    """The graph that a network's edits leave: removals first, then additions, then outputs, whatever came first.

    Parameters
    ----------
    source : Network
        Left alone.
    edits : Edits

    Attributes
    ----------
    kept : dict of str to Vertex
        What stays of the original, perhaps with fewer inputs.
    new : dict of str to New
        What is added, by name, so that the order of the calls doesn't matter.
    inputs : dict of str to tuple of int
    outputs : list of str

    Raises
    ------
    UnknownVertexError (a KeyError), ValueError
        When the edits name what does not exist, or contradict each other.
    """

    def __init__(self, source: Network, edits: Edits) -> None:
        self.source = source
        self.edits = edits
        self.kept: dict[str, Vertex] = dict(source.vertices)
        self.new: dict[str, New] = {}
        self.inputs = dict(source.input_shapes)
        self.outputs = list(source.outputs)
        self._uses = Counter(id(weight) for vertex in self.kept.values() for weight in vertex.module.parameters())
        self._remove()
        if (inputs := edits.find_last("set_inputs", "inputs")) is not None:
            self.inputs = {name: tuple(shape) for name, shape in inputs.items()}
        self._add()
        self._set_outputs()
        self._check_kept_connections()

    @property
    def names(self) -> list[str]:
        """Names of all vertices."""
        return [*self.kept, *self.new]

    def reads(self, name: str) -> tuple[str, ...]:
        """Names of what a vertex reads."""
        return (self.kept[name] if name in self.kept else self.new[name]).inputs

    def spell(self, name: Name) -> str:
        """Return a name as the graph spells it; an index counts the layers of the original."""
        return self.source.resolve(name) if isinstance(name, int) else name.replace(".", "_")

    def follow_losses(self) -> tuple[str, ...]:
        """Names of the outputs; for an added loss, of what it reads, which means the same."""
        added = {name: new.inputs[0] for name, new in self.new.items() if isinstance(new.what, Loss)}
        return tuple(added.get(name, name) for name in self.outputs)

    def is_single_layer(self, module: nn.Module) -> bool:
        """Say whether a module is one linear or convolutional layer that no other vertex shares."""
        return isinstance(module, WEIGHT_LAYERS) and all(self._uses[id(weight)] == 1 for weight in module.parameters())

    # -- removing -----------------------------------------------------------------------------------------------

    def _remove(self) -> None:
        for edit in self.edits.select("remove_vertex_keep_connections", "remove_vertex_and_connections"):
            name = self.source.resolve(edit["name"])
            self._drop(name)
            if edit["edit"] == "remove_vertex_and_connections":
                self._disconnect(name)
        for edit in self.edits.select("remove_layers_from_output"):
            n, length = edit["n"], len(self.source.vertices)
            if not (isinstance(n, Integral) and 0 < n < length):
                msg = f"A chain of {length} layers cannot lose {n}. Give 1 to {length - 1}."
                raise ValueError(msg)
            for index in range(-n, 0):
                self._drop(self.source.resolve(index))

    def _drop(self, name: str) -> None:
        if name not in self.kept:
            msg = f"Vertex '{name}' is removed twice. Remove it once, with or without its connections."
            raise ValueError(msg)
        del self.kept[name]

    def _disconnect(self, name: str) -> None:
        self.outputs = [other for other in self.outputs if other != name]
        for reader in self.source.consumers(name):
            if reader in self.kept:
                inputs = tuple(other for other in self.reads(reader) if other != name)
                self.kept[reader] = replace(self.kept[reader], inputs=inputs)

    def _check_kept_connections(self) -> None:
        for edit in self.edits.select("remove_vertex_keep_connections"):
            name = self.source.resolve(edit["name"])
            readers = [other for other in self.names if name in self.reads(other)]
            if name not in self.names and (readers or name in self.outputs):
                who = f"{quoted(readers)} still read it" if readers else "it is still an output"
                msg = (
                    f"'{name}' was removed with its connections kept, and {who}. Add a vertex of that name: "
                    f"add_layer('{name}', ...). Or cut the connections too: remove_vertex_and_connections('{name}')."
                )
                raise ValueError(msg)

    # -- adding -------------------------------------------------------------------------------------------------

    def _add(self) -> None:
        for edit in self.edits.select("add_layer", "add_vertex"):
            name, what = edit["name"], edit.get("layer", edit.get("vertex"))
            inputs = [self.spell(other) for other in edit["inputs"]] or [self._end_of_chain(name)]
            if len(inputs) > 1 and isinstance(what, LayerDescription):
                self._insert(f"{name}_merge", Merge(), inputs)
                inputs = [f"{name}_merge"]
            self._insert(name, what, inputs)
        for new in self.new.values():
            for other in new.inputs:
                self._check_exists(other)
        self.new = dict(sorted(self.new.items()))

    def _insert(self, name: str, what: Description | nn.Module, inputs: Sequence[str]) -> None:
        if "." in name:
            msg = f"Vertex names are keys of state_dict and hold no dots: write '{self.spell(name)}' for '{name}'."
            raise ValueError(msg)
        if name in self.names:
            msg = f"There is already a vertex '{name}'. Remove it first, or choose another name."
            raise ValueError(msg)
        self.new[name] = New(what, tuple(inputs))

    def _check_exists(self, name: str) -> None:
        names = [*self.names, *self.inputs]
        if name not in names:
            why = " It was removed." if name in self.source.vertices else near_misses(name, names)
            msg = (
                f"The edited network has no vertex '{name}'.{why} See list(net.vertices) for the names it starts from."
            )
            raise UnknownVertexError(msg)

    # -- ends and outputs ---------------------------------------------------------------------------------------

    def _set_outputs(self) -> None:
        chosen = self.edits.find_last("set_outputs", "names")
        grown = any(not edit["inputs"] for edit in self.edits.select("add_layer", "add_vertex"))
        if chosen is not None:
            self.outputs = [self.spell(name) for name in chosen]
            for name in self.outputs:
                self._check_exists(name)
        elif grown or self.edits.select("remove_layers_from_output"):
            ends = self._ends()
            if len(ends) != 1:
                msg = f"The edited network has several ends, {quoted(ends)}. Name its outputs: set_outputs(...)."
                raise ValueError(msg)
            self.outputs = ends
        if not self.outputs:
            msg = (
                f"{quoted(self.source.outputs)} was removed with its connections, so the edited network has no output. "
                f"Name what it answers with: set_outputs(...). It ends in {quoted(self._ends())}."
            )
            raise ValueError(msg)

    def _ends(self) -> list[str]:
        read = {other for name in self.names for other in self.reads(name)}
        return [name for name in self.names if name not in read]

    def _end_of_chain(self, name: str) -> str:
        ends = self._ends()
        if len(ends) != 1:
            msg = f"'{name}' has no inputs, which needs a chain with one end; found {quoted(ends)}. Name its inputs."
            raise ValueError(msg)
        return ends[0]
