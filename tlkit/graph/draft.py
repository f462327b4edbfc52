"""An edited network while it is made: the modules of its structure, and how they train."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from tlkit.errors import UnknownVertexError, near_misses, quoted
from tlkit.files.copying import copy_module
from tlkit.graph.network import Landmarks, Network, Vertex, has_learned_statistics
from tlkit.graph.shapes import check_rows, make_meta_examples, run_on_meta
from tlkit.graph.structure import Edits, New, Structure
from tlkit.graph.widths import Redraw, mark_redraws
from tlkit.layers.activations import make_activation
from tlkit.layers.descriptions import Description, LayerDescription
from tlkit.layers.initializers import make_generator
from tlkit.layers.modules import (
    NORMS,
    WEIGHT_LAYERS,
    Layer,
    OutputLayer,
    as_layer,
    draw_weights,
    is_depthwise,
    is_transparent,
    resize,
    resize_norm,
)
from tlkit.layers.options import UNSET, Options, Settings
from tlkit.tuning import FineTuneConfiguration, matches

__all__ = ["Draft"]

ROWS = 3  # examples that a new network is run on: one would hide a vertex that mixes them


class Draft:
    """Applies recorded edits to a copy of a network, in an order of its own.

    Parameters
    ----------
    source : Network
        Left alone.
    edits : sequence of dict
        What `TransferLearning` recorded: ``{"edit": name of the call, ...its arguments}``.

    Raises
    ------
    UnknownVertexError (a KeyError), ValueError
        When the edits name what does not exist, or contradict each other.
    """

    def __init__(self, source: Network, edits: Sequence[dict[str, Any]]) -> None:
        self.source = source
        self.edits = Edits(edits)
        self.structure = Structure(source, self.edits)
        self.redraws = mark_redraws(self.structure)
        self.configuration = self.edits.find_last("fine_tune_configuration", "configuration") or FineTuneConfiguration()
        # in edits from a file: what was frozen when they were applied
        marks = self.edits.find_last("frozen_before", "marks")
        now = {name: name in source.passing for name in source.vertices if name in source.frozen}
        self.frozen_before: dict[str, bool] = now if marks is None else marks

    def build(self) -> Network:
        structure = self.structure
        seed = self._base_seed()
        with torch.random.fork_rng(devices=()):  # torch's layers draw weights of their own first
            modules = self._make_modules(seed)
        net = Network(
            {
                name: Vertex(modules[name], structure.reads(name), self._settings(name), self._is_learned(name))
                for name in structure.names
            },
            structure.inputs,
            structure.outputs,
            preprocessing=self.source.preprocessing,
            classes=self.source.classes if self._keeps_outputs() else (),
            landmarks=self._landmarks(),
            recipe=self._recipe(),
        )
        self._freeze(net)
        self._tune(net)
        net.seed = self.source.seed if self.configuration.seed is None else self.configuration.seed
        return net.train(self.source.training)

    # -- modules ------------------------------------------------------------------------------------------------

    def _make_modules(self, seed: int) -> dict[str, nn.Module]:
        """Make or copy every module, in running order, inferring sizes from shapes alone."""
        structure = self.structure
        order = Network(
            {name: Vertex(nn.Identity(), structure.reads(name)) for name in structure.names},
            structure.inputs,
            structure.outputs,
        ).vertices
        memo: dict[int, Any] = {}  # shared by all vertices: weights that two of them share stay shared
        values = make_meta_examples(structure.inputs, self.source, ROWS)
        modules = {}
        for name in order:
            reads = structure.reads(name)
            arguments = [values[other] for other in reads]
            try:
                modules[name] = self._make_or_copy(name, [tuple(value.shape[1:]) for value in arguments], memo, seed)
                values[name] = run_on_meta(modules[name], *arguments)
            except (RuntimeError, TypeError, ValueError) as error:
                shapes = " and ".join(str(tuple(value.shape[1:])) for value in arguments)
                msg = f"Vertex '{name}' cannot read {quoted(reads)} of shape {shapes}: {error}"
                raise ValueError(msg) from error
        check_rows(values, structure.outputs, ROWS)
        return modules

    def _make_or_copy(self, name: str, shapes: list[tuple[int, ...]], memo: dict[int, Any], seed: int) -> nn.Module:
        if name in self.structure.new:
            return self._place(self._make(name, self.structure.new[name], shapes, seed))
        module = self.structure.kept[name].module
        if name in self.redraws:
            return self._redraw(module, self.redraws[name], shapes[0], make_generator(seed, name))
        twin = copy_module(module, memo)
        return as_layer(twin) if self.structure.is_single_layer(module) else twin

    def _make(self, name: str, new: New, shapes: list[tuple[int, ...]], seed: int) -> nn.Module:
        what = new.what
        if not isinstance(what, Description):
            module = copy.deepcopy(what)
            return as_layer(module) if isinstance(what, WEIGHT_LAYERS) else module
        if not isinstance(what, LayerDescription):
            return what.make(*shapes)
        what = self._with_defaults(name, what)
        module, given = what.make(*shapes), what.given()
        draw_weights(module, given.get("weight_init"), given.get("bias_init"), make_generator(seed, name))
        return module

    def _place(self, module: nn.Module) -> nn.Module:
        """Bring a new vertex to the network's device and number type."""
        like = next((weight for weight in self.source.parameters() if weight.is_floating_point()), None)
        return module if like is None else module.to(like.device, like.dtype)

    def _redraw(self, module: nn.Module, mark: Redraw, shape: tuple[int, ...], generator: torch.Generator) -> nn.Module:
        if isinstance(module, NORMS):
            return resize_norm(module, shape[0])
        found = shape[-1] if isinstance(module, nn.Linear) else shape[0]
        if mark.n_in not in (None, found):
            msg = f"n_in_replace gives it {mark.n_in} inputs, but what it reads has {found}."
            raise ValueError(msg)
        layer = resize(as_layer(copy_module(module, {})), found, found if is_depthwise(module) else mark.n_out)
        given = self.configuration.given()
        draw_weights(layer, mark.weight_init or given.get("weight_init"), given.get("bias_init"), generator)
        return layer

    def _with_defaults(self, name: str, description: LayerDescription) -> LayerDescription:
        """Fill what a new layer leaves open from the configuration, but no activation on an output."""
        is_output = name in self.structure.outputs
        settled = description.given().keys() | ({"activation"} if is_output else set())
        defaults = {option: value for option, value in self.configuration.given().items() if option not in settled}
        return replace(description, **defaults)

    def _base_seed(self) -> int:
        if self.configuration.seed is not None:
            return self.configuration.seed
        return int(torch.randint(2**31, (1,), device="cpu")) if self.source.seed is None else self.source.seed

    # -- training -----------------------------------------------------------------------------------------------

    def _settings(self, name: str) -> Settings:
        """Return how a vertex trains; a frozen one notes it for the day when it is unfrozen."""
        tuning = self.configuration.for_vertex(name)
        if name in self.structure.kept:
            return tuning.settings(self.structure.kept[name].settings)
        what, tuned = self.structure.new[name].what, tuning.settings(Settings())
        return what.settings(tuned) if isinstance(what, Options) else tuned

    def _is_learned(self, name: str) -> bool | None:
        """Say whether a vertex brings weights from a training that is over, now that the network has new updaters."""
        if name in self.redraws:
            return False
        if name in self.structure.new:  # a module given as an object may bring statistics
            return None
        vertex = self.structure.kept[name]
        trained = bool(self.source.epochs_seen) and name not in self.source.frozen
        return vertex.learned or trained or bool(has_learned_statistics(vertex.module))

    def _freeze(self, net: Network) -> None:
        boundary = self.edits.find_last("set_feature_extractor", "names")
        if boundary is not None:
            net.freeze(*map(self.structure.spell, boundary))
            self._warn_of_frozen_draws(net)
            return
        unchanged = self.structure.kept.keys() - self.redraws.keys()
        marks = {name: passes for name, passes in self.frozen_before.items() if name in unchanged}
        net.freeze_exactly(
            {name: passes for name, passes in marks.items() if passes or net.ancestors(name) - {name} <= marks.keys()}
        )

    def _warn_of_frozen_draws(self, net: Network) -> None:
        """Say so when weights that were just drawn would never be trained."""
        layers = {name for name, new in self.structure.new.items() if isinstance(new.what, LayerDescription)}
        drawn = self.redraws.keys() | layers
        if frozen := [name for name in net.vertices if name in drawn and name in net.frozen]:
            msg = (
                f"The weights of {quoted(frozen)} are drawn anew and frozen at once, so they stay random. Freeze "
                "before them: set_feature_extractor(...) with an earlier vertex."
            )
            warnings.warn(msg, stacklevel=5)

    def _tune(self, net: Network) -> None:
        """Apply the configuration to what the kept vertices compute, unless they are frozen."""
        for pattern in self.configuration.updaters or ():
            if not any(matches(pattern, name) for name in net.vertices):
                msg = (
                    f"The updaters name '{pattern}', and no vertex is called so.{near_misses(pattern, net.vertices)} "
                    "See list(net.vertices) for all names."
                )
                raise UnknownVertexError(msg)
        blocks = []
        for name, vertex in net.vertices.items():
            if name in self.structure.new or name in net.frozen:
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
            layer.activation = make_activation(activation)
        if dropout is not UNSET:
            layer.dropout = nn.Dropout(dropout) if dropout else None
        if self.configuration.weight_noise is not UNSET:
            layer.weight_noise = self.configuration.weight_noise

    # -- descriptions of the result -----------------------------------------------------------------------------

    def _keeps_outputs(self) -> bool:
        """Say whether the answers mean what they meant: the same outputs, from weights that were not replaced."""
        todo = [*self.structure.follow_losses()]
        if tuple(todo) != self.source.outputs:
            return False
        while todo:
            name = todo.pop()
            if name in self.redraws or name not in self.structure.kept:
                return False
            vertex = self.structure.kept[name]
            if is_transparent(vertex.module):
                todo.extend(other for other in vertex.inputs if other not in self.structure.inputs)
        return True

    def _landmarks(self) -> Landmarks | None:
        if not self.source.has_landmarks:
            return None
        old, names = self.source.landmarks, self.structure.names
        places = ("bottleneck", "penultimate", "head", "fine_tune_from", "hidden")
        kept = {place: name for place in places if (name := getattr(old, place)) in names}
        heads = tuple(name for name in old.heads if name in names)
        if not heads and (old.heads or tuple(self.structure.outputs) != self.source.outputs):
            heads = (self.structure.outputs[0],)
        kept["head"] = heads[0] if len(heads) == 1 else None
        if heads and (kept["head"] != old.head or "penultimate" not in kept):
            kept["penultimate"] = self.structure.reads(heads[0])[0]
        return Landmarks(**{**dict.fromkeys(places), **kept, "heads": heads})

    def _recipe(self) -> dict[str, Any]:
        recipe = self.source.recipe or {"source": {"module": "a network built by hand"}, "edits": []}
        before = {"edit": "frozen_before", "marks": dict(self.frozen_before)}
        edits = [_as_plain(edit) for edit in self.edits.edits if edit["edit"] != "frozen_before"]
        return {**recipe, "edits": [*recipe["edits"], [before, *edits]]}


def _as_plain(edit: dict[str, Any]) -> dict[str, Any]:
    """Return an edit as plain data; a module given as an object becomes a note that it cannot be stored."""
    plain = {}
    for key, value in edit.items():
        if isinstance(value, nn.Module):
            plain["unsaved"] = f"{type(value).__module__}.{type(value).__qualname__}"
        else:
            plain[key] = value.to_dict() if hasattr(value, "to_dict") else value
    return plain
