"""The graph while the edits of a builder are applied to it."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import nn

from tlkit.errors import UnknownVertexError, near_misses, quoted
from tlkit.files.copying import copied
from tlkit.graph.network import Landmarks, Network, Vertex
from tlkit.graph.shapes import on_meta, without_values
from tlkit.layers.activations import activation_module
from tlkit.layers.descriptions import Description, LayerDescription, Loss, Merge
from tlkit.layers.initializers import generator_for
from tlkit.layers.modules import (
    NORMS,
    WEIGHT_LAYERS,
    Layer,
    OutputLayer,
    as_layer,
    draw_weights,
    is_depthwise,
    is_transparent,
    resized,
    resized_norm,
)
from tlkit.layers.options import UNSET, Options, Settings
from tlkit.tuning import FineTuneConfiguration, matches

__all__ = ["Draft"]

Name = str | int


@dataclass
class _Redraw:
    """A layer whose weights are drawn anew."""

    n_out: int | None = None
    n_in: int | None = None
    weight_init: Any = None


class Draft:
    """Applies recorded edits to a copy of a network, in an order of its own.

    Parameters
    ----------
    source : Network
        Left alone.
    edits : sequence of dict
        What `TransferLearning` recorded: ``{"edit": name of the call, ...its arguments}``.
    """

    def __init__(self, source: Network, edits: Sequence[dict[str, Any]]) -> None:
        self.source = source
        self.edits = edits
        self.vertices: dict[str, Vertex | tuple[Description | nn.Module, tuple[str, ...]]] = dict(source.vertices)
        self.inputs = dict(source.input_shapes)
        self.outputs = list(source.outputs)
        self.redraw: dict[str, _Redraw] = {}
        self.uses = Counter(id(weight) for vertex in source.vertices.values() for weight in vertex.module.parameters())
        self.configuration = self._last("fine_tune_configuration", "configuration") or FineTuneConfiguration()
        marks = self._last("frozen_before", "marks")  # in edits from a file: what was frozen when they were applied
        self.frozen_before: dict[str, bool] = source._frozen if marks is None else marks

    def _all(self, *kinds: str) -> list[dict[str, Any]]:
        return [edit for edit in self.edits if edit["edit"] in kinds]

    def _last(self, kind: str, key: str) -> Any:
        found = self._all(kind)
        return found[-1][key] if found else None

    def build(self) -> Network:
        self._remove()
        if (inputs := self._last("set_inputs", "inputs")) is not None:
            self.inputs = {name: tuple(shape) for name, shape in inputs.items()}
        self._add()
        self._set_outputs()
        self._check_kept_connections()
        self._mark_redraws()
        seed = self._base_seed()
        with torch.random.fork_rng(devices=()):  # torch's layers draw weights of their own first
            modules = self._make_modules(seed)
        net = Network(
            {name: Vertex(modules[name], self._reads(name), self._settings(name)) for name in self.vertices},
            self.inputs,
            self.outputs,
            preprocessing=self.source.preprocessing,
            classes=self.source.classes if self._keeps_outputs() else (),
            landmarks=self._landmarks(),
            recipe=self._recipe(),
        )
        self._freeze(net)
        self._tune(net)
        net.seed = self.source.seed if self.configuration.seed is None else self.configuration.seed
        return net.train(self.source.training)

    # -- structure ----------------------------------------------------------------------------------------------

    def _remove(self) -> None:
        for edit in self._all("remove_vertex_keep_connections", "remove_vertex_and_connections"):
            name = self.source.resolve(edit["name"])
            self._drop(name)
            if edit["edit"] == "remove_vertex_and_connections":
                self._disconnect(name)
        for edit in self._all("remove_layers_from_output"):
            n, length = edit["n"], len(self.source.vertices)
            if not 0 < n < length:
                msg = f"A chain of {length} layers cannot lose {n}. Give 1 to {length - 1}."
                raise ValueError(msg)
            for index in range(-n, 0):
                self._drop(self.source.resolve(index))

    def _drop(self, name: str) -> None:
        if name not in self.vertices:
            msg = f"Vertex '{name}' is removed twice. Remove it once, with or without its connections."
            raise ValueError(msg)
        del self.vertices[name]

    def _disconnect(self, name: str) -> None:
        self.outputs = [other for other in self.outputs if other != name]
        for reader in self.source.consumers(name):
            if reader in self.vertices:
                vertex = self.vertices[reader]
                self.vertices[reader] = replace(vertex, inputs=tuple(other for other in vertex.inputs if other != name))

    def _add(self) -> None:
        for edit in self._all("add_layer", "add_vertex"):
            name, what = edit["name"], edit.get("layer", edit.get("vertex"))
            inputs = [self._spelled(other) for other in edit["inputs"]] or [self._end_of_chain(name)]
            if len(inputs) > 1 and isinstance(what, LayerDescription):
                self._insert(f"{name}_merge", Merge(), inputs)
                inputs = [f"{name}_merge"]
            self._insert(name, what, inputs)
        new = {name: vertex for name, vertex in self.vertices.items() if not isinstance(vertex, Vertex)}
        for _, inputs in new.values():
            for other in inputs:
                self._check_exists(other)
        kept = {name: vertex for name, vertex in self.vertices.items() if name not in new}
        self.vertices = {**kept, **dict(sorted(new.items()))}

    def _insert(self, name: str, what: Description | nn.Module, inputs: Sequence[str]) -> None:
        if "." in name:
            msg = f"Vertex names are keys of state_dict and hold no dots: write '{self._spelled(name)}' for '{name}'."
            raise ValueError(msg)
        if name in self.vertices:
            msg = f"There is already a vertex '{name}'. Remove it first, or choose another name."
            raise ValueError(msg)
        self.vertices[name] = (what, tuple(inputs))

    def _set_outputs(self) -> None:
        chosen = self._last("set_outputs", "names")
        grown = any(not edit["inputs"] for edit in self._all("add_layer", "add_vertex"))
        if chosen is not None:
            self.outputs = [self._spelled(name) for name in chosen]
            for name in self.outputs:
                self._check_exists(name)
        elif grown or self._all("remove_layers_from_output"):
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

    def _check_kept_connections(self) -> None:
        for edit in self._all("remove_vertex_keep_connections"):
            name = self.source.resolve(edit["name"])
            readers = [other for other in self.vertices if name in self._reads(other)]
            if name not in self.vertices and (readers or name in self.outputs):
                who = f"{quoted(readers)} still read it" if readers else "it is still an output"
                msg = (
                    f"'{name}' was removed with its connections kept, and {who}. Add a vertex of that name: "
                    f"add_layer('{name}', ...). Or cut the connections too: remove_vertex_and_connections('{name}')."
                )
                raise ValueError(msg)

    def _ends(self) -> list[str]:
        read = {other for name in self.vertices for other in self._reads(name)}
        return [name for name in self.vertices if name not in read]

    def _end_of_chain(self, name: str) -> str:
        ends = self._ends()
        if len(ends) != 1:
            msg = f"'{name}' has no inputs, which needs a chain with one end; found {quoted(ends)}. Name its inputs."
            raise ValueError(msg)
        return ends[0]

    def _spelled(self, name: Name) -> str:
        """Return a name as the graph spells it; an index counts the layers of the original."""
        return self.source.resolve(name) if isinstance(name, int) else name.replace(".", "_")

    def _check_exists(self, name: str) -> None:
        names = [*self.vertices, *self.inputs]
        if name not in names:
            why = " It was removed." if name in self.source.vertices else near_misses(name, names)
            msg = (
                f"The edited network has no vertex '{name}'.{why} See list(net.vertices) for the names it starts from."
            )
            raise UnknownVertexError(msg)

    def _reads(self, name: str) -> tuple[str, ...]:
        return _inputs(self.vertices[name])

    def _keeps_outputs(self) -> bool:
        """Say whether the answers mean what they meant: the same outputs, from weights that were not replaced."""
        todo = [self._before_loss(name) for name in self.outputs]
        if tuple(todo) != self.source.outputs:
            return False
        while todo:
            name = todo.pop()
            vertex = self.vertices.get(name)
            if name in self.redraw or not isinstance(vertex, Vertex):
                return False
            if is_transparent(vertex.module):
                todo.extend(other for other in vertex.inputs if other not in self.inputs)
        return True

    def _before_loss(self, name: str) -> str:
        """Return the name of what an added loss reads, which means the same; any other name as it is."""
        vertex = self.vertices.get(name)
        return vertex[1][0] if isinstance(vertex, tuple) and isinstance(vertex[0], Loss) else name

    # -- widths -------------------------------------------------------------------------------------------------

    def _mark_redraws(self) -> None:
        for edit in self._all("n_out_replace", "n_in_replace"):
            kind, scheme = edit["edit"], edit["weight_init"]
            name = self._existing_layer(edit["name"], kind)
            mark = self.redraw.setdefault(name, _Redraw())
            key = kind.removesuffix("_replace")
            if getattr(mark, key) is not None:
                msg = f"{kind} was called twice for '{name}'. Call it once."
                raise ValueError(msg)
            if None not in (scheme, mark.weight_init) and scheme != mark.weight_init:
                msg = f"'{name}' would be drawn by {mark.weight_init!r} and by {scheme!r}. Give one weight_init."
                raise ValueError(msg)
            setattr(mark, key, edit[key])
            mark.weight_init = mark.weight_init or scheme
        for edit in self._all("n_out_replace"):
            self._mark_readers(self.source.resolve(edit["name"]), edit["next_weight_init"])

    def _existing_layer(self, name: Name, edit: str) -> str:
        name = self.source.resolve(name)
        vertex = self.vertices.get(name)
        if not isinstance(vertex, Vertex):
            what = "is removed in the same build" if vertex is None else "is new: give its width in its description"
            msg = f"{edit}('{name}', ...) changes a layer of the original, and '{name}' {what}."
            raise ValueError(msg)
        if not self._is_single_layer(vertex.module):
            layers = [other for other, v in self.source.vertices.items() if self._is_single_layer(v.module)]
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

    def _is_single_layer(self, module: nn.Module) -> bool:
        """Say whether a module is one linear or convolutional layer that no other vertex shares."""
        return isinstance(module, WEIGHT_LAYERS) and all(self.uses[id(weight)] == 1 for weight in module.parameters())

    def _mark_readers(self, name: str, weight_init: Any) -> None:
        """Mark every layer that the new width of a vertex reaches."""
        for reader, vertex in self.vertices.items():
            if name not in _inputs(vertex):
                continue
            if not isinstance(vertex, Vertex):  # takes its size from what it reads
                if len(vertex[1]) == 1 and not isinstance(vertex[0], (LayerDescription, nn.Module)):
                    self._mark_readers(reader, weight_init)
                continue
            single = self._is_single_layer(vertex.module)
            passes = is_transparent(vertex.module) or (single and is_depthwise(vertex.module))
            if len(vertex.inputs) > 1 or not (single or passes):
                msg = (
                    f"The new width reaches '{reader}' ({type(vertex.module).__name__}), which also depends on other "
                    "widths. Remove it and what it feeds with remove_vertex_and_connections, and add new vertices."
                )
                raise ValueError(msg)
            if single or isinstance(vertex.module, NORMS):
                mark = self.redraw.setdefault(reader, _Redraw())
                mark.weight_init = mark.weight_init or weight_init
            if passes:
                self._mark_readers(reader, weight_init)

    # -- modules ------------------------------------------------------------------------------------------------

    def _make_modules(self, seed: int) -> dict[str, nn.Module]:
        """Make or copy every module, in running order, inferring sizes from shapes alone."""
        order = Network(
            {name: Vertex(nn.Identity(), _inputs(vertex)) for name, vertex in self.vertices.items()},
            self.inputs,
            self.outputs,
        ).vertices
        memo: dict[int, Any] = {}
        values = without_values(self.inputs, self.source)
        modules = {}
        for name in order:
            arguments = [values[other] for other in self._reads(name)]
            try:
                module = self._module(name, [tuple(value.shape[1:]) for value in arguments], memo, seed)
                modules[name] = self._placed(name, module)
                values[name] = on_meta(modules[name], *arguments)
            except (RuntimeError, TypeError, ValueError) as error:
                shapes = " and ".join(str(tuple(value.shape[1:])) for value in arguments)
                msg = f"Vertex '{name}' cannot read {quoted(self._reads(name))} of shape {shapes}: {error}"
                raise ValueError(msg) from error
        return modules

    def _module(self, name: str, shapes: list[tuple[int, ...]], memo: dict[int, Any], seed: int) -> nn.Module:
        vertex = self.vertices[name]
        if name in self.redraw:
            return self._redrawn(name, vertex.module, shapes[0], generator_for(seed, name))
        if isinstance(vertex, Vertex):
            module = copied(vertex.module, memo)
            return as_layer(module) if self._is_single_layer(vertex.module) else module
        what = vertex[0]
        if not isinstance(what, Description):
            module = copy.deepcopy(what)
            return as_layer(module) if isinstance(what, WEIGHT_LAYERS) else module
        if isinstance(what, LayerDescription):
            what = self._with_defaults(name, what)
            module = what.make(*shapes)
            given = what.given()
            draw_weights(module, given.get("weight_init"), given.get("bias_init"), generator_for(seed, name))
            return module
        return what.make(*shapes)

    def _placed(self, name: str, module: nn.Module) -> nn.Module:
        """Bring a new vertex to the network's device and number type."""
        like = next((weight for weight in self.source.parameters() if weight.is_floating_point()), None)
        return module if isinstance(self.vertices[name], Vertex) or like is None else module.to(like.device, like.dtype)

    def _redrawn(self, name: str, module: nn.Module, shape: tuple[int, ...], generator: torch.Generator) -> nn.Module:
        mark = self.redraw[name]
        if isinstance(module, NORMS):
            return resized_norm(module, shape[0])
        found = shape[-1] if isinstance(module, nn.Linear) else shape[0]
        if mark.n_in not in (None, found):
            msg = f"n_in_replace gives it {mark.n_in} inputs, but what it reads has {found}."
            raise ValueError(msg)
        layer = resized(as_layer(copied(module, {})), found, found if is_depthwise(module) else mark.n_out)
        given = self.configuration.given()
        draw_weights(layer, mark.weight_init or given.get("weight_init"), given.get("bias_init"), generator)
        return layer

    def _with_defaults(self, name: str, description: LayerDescription) -> LayerDescription:
        """Fill what a new layer leaves open from the configuration, but no activation on an output."""
        settled = description.given().keys() | ({"activation"} if name in self.outputs else set())
        defaults = {option: value for option, value in self.configuration.given().items() if option not in settled}
        return replace(description, **defaults)

    def _base_seed(self) -> int:
        if self.configuration.seed is not None:
            return self.configuration.seed
        return int(torch.randint(2**31, (1,), device="cpu")) if self.source.seed is None else self.source.seed

    # -- training -----------------------------------------------------------------------------------------------

    def _settings(self, name: str) -> Settings:
        vertex = self.vertices[name]
        if isinstance(vertex, Vertex):
            return vertex.settings
        tuned = self.configuration.for_vertex(name).settings(Settings())
        return vertex[0].settings(tuned) if isinstance(vertex[0], Options) else tuned

    def _freeze(self, net: Network) -> None:
        boundary = self._last("set_feature_extractor", "names")
        if boundary is not None:
            net.freeze(*map(self._spelled, boundary))
            self._warn_of_frozen_draws(net)
            return
        marks = {}
        for name in net.vertices:
            old = self.frozen_before.get(name) if isinstance(self.vertices[name], Vertex) else None
            if old is not None and name not in self.redraw:
                marks[name] = old
        closed = {
            name: passes for name, passes in marks.items() if passes or net.ancestors(name) - {name} <= marks.keys()
        }
        net._set_frozen(closed)

    def _warn_of_frozen_draws(self, net: Network) -> None:
        """Say so when weights that were just drawn would never be trained."""
        drawn = self.redraw.keys() | {
            name
            for name, vertex in self.vertices.items()
            if not isinstance(vertex, Vertex) and isinstance(vertex[0], LayerDescription)
        }
        if frozen := [name for name in net.vertices if name in drawn and name in net.frozen]:
            msg = (
                f"The weights of {quoted(frozen)} are drawn anew and frozen at once, so they stay random. Freeze "
                "before them: set_feature_extractor(...) with an earlier vertex."
            )
            warnings.warn(msg, stacklevel=5)

    def _tune(self, net: Network) -> None:
        """Apply the configuration to the vertices of the original: how they train, and if not frozen what they compute.

        A frozen vertex notes its updater and penalties for the day when it is unfrozen; they do nothing until then.
        """
        for pattern in self.configuration.updaters or ():
            if not any(matches(pattern, name) for name in net.vertices):
                msg = (
                    f"The updaters name '{pattern}', and no vertex is called so.{near_misses(pattern, net.vertices)} "
                    "See list(net.vertices) for all names."
                )
                raise UnknownVertexError(msg)
        blocks = []
        for name, vertex in net.vertices.items():
            if not isinstance(self.vertices[name], Vertex):
                continue
            net._settings[name] = self.configuration.for_vertex(name).settings(vertex.settings)
            if name in net.frozen:
                continue
            if isinstance(vertex.module, Layer):
                self._tune_layer(vertex.module, is_output=name in net.outputs)
            elif any(p.ndim > 1 for p in vertex.module.parameters()):
                blocks.append(name)
        options = ("activation", "dropout", "weight_noise")
        forward = [option for option in options if getattr(self.configuration, option) is not UNSET]
        if blocks and forward:
            msg = (
                f"{quoted(forward)} of the configuration reaches single layers only, not the blocks {quoted(blocks)}. "
                "Import with granularity='layer' to open blocks."
            )
            warnings.warn(msg, stacklevel=4)

    def _tune_layer(self, layer: nn.Module, *, is_output: bool) -> None:
        activation, dropout = self.configuration.activation, self.configuration.dropout
        if activation is not UNSET and not is_output and not isinstance(layer, OutputLayer):
            layer.activation = activation_module(activation)
        if dropout is not UNSET:
            layer.dropout = nn.Dropout(dropout) if dropout else None
        if self.configuration.weight_noise is not UNSET:
            layer.weight_noise = self.configuration.weight_noise

    # -- descriptions of the result -----------------------------------------------------------------------------

    def _landmarks(self) -> Landmarks | None:
        old = self.source._landmarks
        if old is None:
            return None
        kept = {f.name: name for f in fields(Landmarks) if (name := getattr(old, f.name)) in self.vertices}
        head = kept.get("head", self.outputs[0])
        if "penultimate" not in kept or head != old.head:
            kept["penultimate"] = self._reads(head)[0]
        return Landmarks(**{**dict.fromkeys(f.name for f in fields(Landmarks)), **kept, "head": head})

    def _recipe(self) -> dict[str, Any]:
        recipe = self.source.recipe or {"source": {"module": "a network built by hand"}, "edits": []}
        before = {"edit": "frozen_before", "marks": dict(self.frozen_before)}
        edits = [_plain(edit) for edit in self.edits if edit["edit"] != "frozen_before"]
        return {**recipe, "edits": [*recipe["edits"], [before, *edits]]}


def _inputs(vertex: Vertex | tuple[Any, tuple[str, ...]]) -> tuple[str, ...]:
    return vertex.inputs if isinstance(vertex, Vertex) else vertex[1]


def _plain(edit: dict[str, Any]) -> dict[str, Any]:
    """Return an edit as plain data; a module given as an object becomes a note that it cannot be stored."""
    plain = {}
    for key, value in edit.items():
        if isinstance(value, nn.Module):
            plain["unsaved"] = f"{type(value).__module__}.{type(value).__qualname__}"
        plain[key] = value.to_dict() if hasattr(value, "to_dict") else value
    if "unsaved" in plain:
        plain = {key: value for key, value in plain.items() if not isinstance(value, nn.Module)}
    return plain
