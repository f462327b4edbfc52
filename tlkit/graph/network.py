"""A neural network as a graph of named vertices, some of them frozen."""

from __future__ import annotations

import contextlib
import keyword
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tlkit.errors import UnknownVertexError, near_misses, quoted
from tlkit.graph.shapes import check_rows, make_meta_examples, run_on_meta
from tlkit.layers.options import Settings

if TYPE_CHECKING:
    from tlkit.graph.summary import Summary
    from tlkit.images.preprocessing import Preprocessing

__all__ = ["Landmarks", "Network", "Vertex", "has_learned_statistics"]


@dataclass(frozen=True)
class Vertex:
    """One named step of a network.

    Parameters
    ----------
    module : nn.Module
        What the vertex computes.
    inputs : tuple of str
        Names of the vertices or network inputs that it reads, in the order of the module's arguments.
    settings : Settings
        How its weights are trained: updater, penalties, gradient normalization.
    learned : bool, optional
        Whether its weights were learned in an earlier training, see `Network.fresh`. When left out, that is told by its
        batch normalization: statistics that are no longer 0 and 1 were learned.
    """

    module: nn.Module
    inputs: tuple[str, ...]
    settings: Settings = field(default_factory=Settings)
    learned: bool | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", _names(self.inputs))


@dataclass(frozen=True)
class Landmarks:
    """The places that transfer learning asks for, by name (in VGG16's words beside each).

    Parameters
    ----------
    bottleneck : str or None
        Last vertex with spatial output before `hidden` ("block5_pool").
    penultimate : str
        Vertex whose output the head classifies ("fc2"); of a network without a head, what it answers with.
    head : str or None
        Last weight layer ("predictions"). None where the network ends in no classifier, and where it has several.
    fine_tune_from : str or None
        Boundary that leaves the last convolutional block trainable ("block4_pool").
    hidden : str or None
        Last single weight layer before the head ("fc2"); its width can be changed. None where that is a block.
    heads : tuple of str
        All classifiers, one for most networks; `tlkit.zoo.explain_head` says how to replace none, one or several.

    Where a network has no such place the landmark is None: for example no single tensor may lie behind the last block
    but one. Freeze several vertices then, or one of `net.cut_points`.
    """

    bottleneck: str | None
    penultimate: str
    head: str | None
    fine_tune_from: str | None
    hidden: str | None = None
    heads: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.head is not None and not self.heads:
            object.__setattr__(self, "heads", (self.head,))


class Network(nn.Module):
    """A graph of named vertices that runs, freezes, splits and can be edited.

    Parameters
    ----------
    vertices : mapping of str to Vertex
        The graph; any order, it is sorted so that every vertex follows its inputs.
    inputs : mapping of str to sequence of int
        Name of each network input and the shape of one example, e.g. ``{"image": (3, 224, 224)}``.
    outputs : sequence of str
        Names of the vertices (or inputs) that the network answers with.
    preprocessing : Preprocessing, optional
        Applied to uint8 inputs; float inputs are taken as they are.
    classes : sequence of str
        Names of the output classes, if known.
    landmarks : Landmarks, optional
        Where this architecture keeps its bottleneck and head.
    recipe : dict, optional
        Where the structure came from, as plain data; lets `tl.save` store the network without pickle.

    Raises
    ------
    ValueError
        For a name with a dot, an unknown input, a cycle, a vertex that nothing reads, or no outputs.

    Examples
    --------
    >>> import tlkit as tl
    >>> from torch import nn
    >>> net = tl.Network(
    ...     {"hidden": tl.Vertex(nn.Linear(4, 8), ("x",)), "out": tl.Vertex(nn.Linear(8, 2), ("hidden",))},
    ...     inputs={"x": (4,)},
    ...     outputs=["out"],
    ... )
    >>> net.freeze("hidden").frozen
    frozenset({'hidden'})
    """

    def __init__(
        self,
        vertices: Mapping[str, Vertex],
        inputs: Mapping[str, Sequence[int]],
        outputs: Sequence[str],
        *,
        preprocessing: Preprocessing | None = None,
        classes: Sequence[str] = (),
        landmarks: Landmarks | None = None,
        recipe: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.input_shapes = {name: tuple(shape) for name, shape in inputs.items()}
        self.outputs = _names(outputs)
        self.preprocessing = preprocessing
        self.classes = tuple(classes)
        self.recipe = recipe
        self._landmarks = landmarks
        _check_references(vertices, self.input_shapes, self.outputs)
        order = _sorted_names(vertices, self.input_shapes)
        for name in order:
            # straight into _modules: a vertex may carry a name that an attribute has, such as "features" or "inputs"
            self._modules[name] = vertices[name].module
        self._inputs = {name: vertices[name].inputs for name in order}
        self._settings = {name: vertices[name].settings for name in order}
        self._fresh = {name for name in order if not _is_learned(vertices[name])}
        self._frozen: dict[str, bool] = {}  # name -> whether gradients pass through
        self.eval()  # a network answers; `fit` switches to training mode and back
        self.seed: int | None = None  # of new weights and of the order of examples
        self.epochs_seen = 0
        self.optimizers: Any = None  # made by the first `fit`; their state lives on between calls

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, also one whose name a vertex carries ("classes", "seed", ...)."""
        if isinstance(value, nn.Module):
            super().__setattr__(name, value)
        else:
            object.__setattr__(self, name, value)

    # -- looking ------------------------------------------------------------------------------------------------

    @property
    def vertices(self) -> dict[str, Vertex]:
        """The vertices by name, each after its inputs."""
        return {
            name: Vertex(module, self._inputs[name], self._settings[name], name not in self._fresh)
            for name, module in self._modules.items()
        }

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the network's inputs."""
        return tuple(self.input_shapes)

    @property
    def frozen(self) -> frozenset[str]:
        """Names of the vertices that training leaves alone."""
        return frozenset(self._frozen)

    @property
    def passing(self) -> frozenset[str]:
        """Names of the frozen vertices that let gradients through to the vertices before them."""
        return frozenset(name for name, passes in self._frozen.items() if passes)

    @property
    def fresh(self) -> frozenset[str]:
        """Names of the vertices whose weights were learned in no earlier training: this one is their first.

        New and redrawn layers are fresh, and so are random weights. Weights of the zoo or of a file are not, and what
        `build()` takes over from a network that was trained isn't either. The batch normalization of fresh vertices
        learns its statistics; that of the others keeps them, unless the option `fixed_statistics` says otherwise: few
        images give poor statistics, and those ruin a fine-tune.
        """
        return frozenset(self._fresh)

    def mark_learned(self, *names: str | int) -> Network:
        """Say that the training of vertices is over, in place; without names, of all: `fresh` holds them no longer."""
        self._fresh -= {self.resolve(name) for name in names} or set(self._modules)
        return self.train() if self.training else self

    @property
    def landmarks(self) -> Landmarks:
        """Bottleneck, penultimate vertex, head and fine-tuning boundary of a network of the zoo."""
        if not self.has_landmarks:
            msg = "Only networks of tl.zoo know their landmarks. See net.cut_points for the boundaries of this one."
            raise ValueError(msg)  # an AttributeError would be swallowed by nn.Module
        return self._landmarks

    @landmarks.setter
    def landmarks(self, landmarks: Landmarks | None) -> None:
        self._landmarks = landmarks

    @property
    def has_landmarks(self) -> bool:
        """Whether `landmarks` can be asked for."""
        return self._landmarks is not None

    @property
    def cut_points(self) -> tuple[str, ...]:
        """Vertices through which everything flows, input to output: freezing up to one leaves ONE boundary tensor."""
        last_use = self._last_use()
        live = {name for name in self.input_shapes if name in self.outputs or last_use[name]}
        points = []
        for name in self._modules:
            live = {other for other in live if last_use[other] != name} | {name}
            if live == {name} and name not in self.outputs:
                points.append(name)
        return tuple(points)

    def resolve(self, name: str | int) -> str:
        """Return the vertex name for a name, a dotted module path ("layer4.1") or, in a chain, an index.

        Raises
        ------
        UnknownVertexError (a KeyError)
            When there is no such vertex; the message lists near misses.
        TypeError
            For an index into a network that is not a chain, and for anything but names and indices.
        """
        if isinstance(name, Integral):
            return self._name_at(int(name))
        if not isinstance(name, str):
            msg = f"A vertex is named by a text, or by its index in a chain of layers, got {name!r}."
            raise TypeError(msg)
        for candidate in (name, name.replace(".", "_")):
            if candidate in self._modules:
                return candidate
        msg = (
            f"This network has no vertex '{name}'.{near_misses(name, self._modules)} "
            "See list(net.vertices) or net.summary() for all names."
        )
        raise UnknownVertexError(msg)

    def _name_at(self, index: int) -> str:
        names = list(self._modules)
        if len(self.inputs) > 1 or any(
            inputs != (before,) for inputs, before in zip(self._inputs.values(), [*self.inputs, *names], strict=False)
        ):
            msg = f"Index {index} needs a chain of layers, and this network branches. Use a vertex name."
            raise TypeError(msg)
        if not -len(names) <= index < len(names):
            msg = f"Index {index} is outside this network of {len(names)} layers."
            raise UnknownVertexError(msg)
        return names[index]

    def consumers(self, name: str) -> tuple[str, ...]:
        """Names of the vertices that read `name`."""
        return tuple(reader for reader, inputs in self._inputs.items() if name in inputs)

    def ancestors(self, *names: str) -> frozenset[str]:
        """Return the named vertices and everything that feeds them."""
        found: set[str] = set()
        todo = [self.resolve(name) for name in names]
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo.extend(other for other in self._inputs[name] if other in self._modules)
        return frozenset(found)

    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of one example at every input and vertex, without computing any value."""
        return {name: tuple(value.shape[1:]) for name, value in self._run_on_meta(rows=1).items()}

    def check_rows(self) -> None:
        """Refuse a network whose answers are not one row for each example, without computing any value.

        Raises
        ------
        ValueError
            When the number of rows changes on the way; the message names the vertex.
        """
        check_rows(self._run_on_meta(rows=3), self.outputs, 3)

    def _run_on_meta(self, rows: int) -> dict[str, Tensor]:
        values = make_meta_examples(self.input_shapes, self, rows)
        for name, vertex in self.vertices.items():
            values[name] = self._call(name, vertex.module, [values[other] for other in vertex.inputs], run_on_meta)
        return values

    def summary(self) -> Summary:
        """Return DL4J's table of vertices, sizes, parameters and frozen marks."""
        from tlkit.graph.summary import Summary

        return Summary(self)

    # -- running ------------------------------------------------------------------------------------------------

    def forward(self, *inputs: Tensor | Mapping[str, Tensor]) -> Tensor | tuple[Tensor, ...]:
        """Return the outputs for a batch.

        Parameters
        ----------
        *inputs : Tensor of shape (n, ...), one for each network input, or one mapping of input name to Tensor
            uint8 images are normalized by `preprocessing` first.
        """
        values = self._run(self.named_inputs(*inputs))
        answers = tuple(values[name] for name in self.outputs)
        return answers[0] if len(answers) == 1 else answers

    def preactivations(self, *inputs: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return each output before its last activation, by name: what the fused losses are computed from."""
        return self._run(self.named_inputs(*inputs), fused=True)

    def named_inputs(self, *inputs: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a batch by the names of the inputs, images normalized: what the first vertices read."""
        if len(inputs) == 1 and isinstance(inputs[0], Mapping):
            named = dict(inputs[0])
        elif len(inputs) == len(self.inputs):
            named = dict(zip(self.inputs, inputs, strict=True))
        else:
            msg = f"The network takes {len(self.inputs)} inputs ({quoted(self.inputs)}), got {len(inputs)}."
            raise ValueError(msg)
        if set(named) != set(self.inputs):
            msg = f"The network takes the inputs {quoted(self.inputs)}, got {quoted(named) or 'none'}."
            raise ValueError(msg)
        return {name: self._normalized(named[name]) for name in self.inputs}

    def _normalized(self, value: Tensor) -> Tensor:
        if value.dtype in (torch.float16, torch.bfloat16):  # features kept at half their size
            return value.to(next(self.parameters(), value).dtype)
        if value.dtype != torch.uint8:
            return value
        if self.preprocessing is None:
            msg = (
                "The network got uint8 images but has no preprocessing to normalize them. Give float tensors, "
                "or set net.preprocessing = tl.Preprocessing(...)."
            )
            raise TypeError(msg)
        return self.preprocessing(value)

    def _run(self, values: dict[str, Tensor], *, fused: bool = False) -> dict[str, Tensor]:
        """Run the vertices in order, dropping each activation after its last reader."""
        last_use = self._last_use()
        raw: dict[str, Tensor] = {}
        read = {other for inputs in self._inputs.values() for other in inputs}
        for name, module in self._modules.items():
            arguments = [values[other] for other in self._inputs[name]]
            stop_gradient = name in self._frozen and not self._frozen[name]
            with torch.no_grad() if stop_gradient else contextlib.nullcontext():
                if fused and name in self.outputs and getattr(module, "activation", None) is not None:
                    raw[name] = self._call(name, module.preactivation, arguments)
                    if name in read:
                        values[name] = module.activation(raw[name])
                else:
                    values[name] = self._call(name, module, arguments)
            for other in self._inputs[name]:
                if last_use[other] == name:
                    values.pop(other, None)
        return {name: raw[name] if name in raw else values[name] for name in self.outputs}

    def _call(self, name: str, function: Any, arguments: list[Tensor], how: Any = None) -> Tensor:
        try:
            return how(function, *arguments) if how else function(*arguments)
        except torch.OutOfMemoryError:
            raise  # a smaller batch helps, and callers look for this class
        except (RuntimeError, TypeError, ValueError) as error:
            kind = type(self._modules[name]).__name__
            shapes = " and ".join(str(tuple(value.shape)) for value in arguments)
            msg = f"Vertex '{name}' ({kind}) cannot take an input of shape {shapes}: {error}"
            raise RuntimeError(msg) from error

    def _last_use(self) -> dict[str, str | None]:
        last: dict[str, str | None] = dict.fromkeys([*self.input_shapes, *self._modules])
        for name, inputs in self._inputs.items():
            for other in inputs:
                last[other] = name
        return last | dict.fromkeys(self.outputs)

    # -- freezing -----------------------------------------------------------------------------------------------

    def freeze(self, *names: str | int, backprop: bool = False) -> Network:
        """Hold vertices and everything that feeds them constant, in place.

        A frozen vertex runs in evaluation mode whatever `train()` says (no dropout, batch-norm statistics fixed),
        gets no gradient, keeps no activations, and takes part in no penalty (DL4J's FrozenLayer).

        Parameters
        ----------
        *names : str or int
            Boundary vertices.
        backprop : bool
            Freeze only the named vertices themselves and let gradients pass through them to trainable vertices
            before (DL4J's FrozenLayerWithBackprop). Vertices that are frozen already stay as they are.
        """
        names = tuple(self.resolve(name) for name in names)
        if backprop:
            return self.freeze_exactly({**dict.fromkeys(names, True), **self._frozen})
        return self.freeze_exactly({**self._frozen, **dict.fromkeys(self.ancestors(*names), False)})

    def unfreeze(self, *names: str | int) -> Network:
        """Make vertices trainable again, in place, with every frozen vertex behind them; without names, all."""
        chosen = {self.resolve(name) for name in names} or set(self._modules)
        kept = {
            name: passes
            for name, passes in self._frozen.items()
            if name not in chosen and (passes or not chosen & self.ancestors(name))
        }
        return self.freeze_exactly(kept)

    def freeze_exactly(self, marks: Mapping[str, bool]) -> Network:
        """Freeze these vertices and no others, in place.

        Parameters
        ----------
        marks : mapping of str to bool
            For each frozen vertex, whether it lets gradients through to the vertices before it. Those that do not
            are frozen with everything that feeds them.

        Raises
        ------
        ValueError
            When a frozen and a trainable vertex share weights; nothing is changed then.
        """
        self.check_shared_weights(marks)
        self._frozen = {name: marks[name] for name in self._modules if name in marks}
        for name, module in self._modules.items():
            module.requires_grad_(name not in marks)
        self.train(self.training)
        return self

    def check_shared_weights(self, frozen: Collection[str]) -> None:
        """Refuse to freeze vertices that share weights with others which would go on training.

        Raises
        ------
        ValueError
            When they do; the message names the two vertices.
        """
        owner: dict[int, str] = {}
        for name, module in self._modules.items():
            for value in [*module.parameters(), *module.buffers()]:
                other = owner.setdefault(id(value), name)
                if (other in frozen) != (name in frozen):
                    msg = (
                        f"'{other}' and '{name}' share their weights, so both must be frozen or neither. "
                        f"Freeze '{name}' as well, or a boundary before '{other}'."
                    )
                    raise ValueError(msg)

    def train(self, mode: bool = True) -> Network:
        """Set training mode; frozen vertices and fixed statistics stay in evaluation mode.

        Statistics are fixed by the option `fixed_statistics`; where it says nothing, in vertices that are not `fresh`.
        """
        super().train(mode)
        for name in self._frozen:
            self._modules[name].eval()
        for name, settings in self._settings.items():
            if name not in self._fresh if settings.fixed_statistics is None else settings.fixed_statistics:
                for part in self._modules[name].modules():
                    if isinstance(part, _BatchNorm):
                        part.eval()
        return self

    # -- cutting and exporting ----------------------------------------------------------------------------------

    def boundary(self) -> tuple[str, ...]:
        """Names of the tensors that cross from the frozen to the trainable part, in the network's order."""
        blocked = self.frozen - self.passing
        needed = {other for name, inputs in self._inputs.items() if name not in blocked for other in inputs}
        sources = [*self.input_shapes, *(name for name in self._modules if name in blocked)]
        return tuple(name for name in sources if name in needed or name in self.outputs)

    def split(self) -> tuple[Network, Network]:
        """Return the frozen and the trainable part as two networks over the SAME weights.

        The first answers with the boundary tensors, the second takes them, both in the order of `boundary()`.
        Training the second on the outputs of the first is training the whole: the idea of transfer learning
        on featurized data.

        Raises
        ------
        ValueError
            When nothing or everything is frozen.
        """
        blocked = self.frozen - self.passing
        if not blocked or not set(self._modules) - blocked:
            which, remedy = ("Nothing", "Freeze some") if not blocked else ("Everything", "Unfreeze some")
            msg = f"{which} is frozen, so there are no two parts to split. {remedy} of the network: net.freeze(name)."
            raise ValueError(msg)
        boundary = self.boundary()
        shapes = self.output_shapes()
        vertices = self.vertices
        front = Network(
            {name: vertices[name] for name in self._modules if name in blocked},
            self.input_shapes,
            boundary,
            preprocessing=self.preprocessing,
        )
        back = Network(
            {name: vertices[name] for name in self._modules if name not in blocked},
            {name: shapes[name] for name in boundary},
            self.outputs,
            classes=self.classes,
        )
        front.freeze_exactly(dict.fromkeys(front.vertices, False))
        back.freeze_exactly(dict.fromkeys(self.passing, True))
        back.seed = self.seed
        return front, back.train(self.training)

    @staticmethod
    def from_module(
        module: nn.Module,
        example_inputs: Sequence[Tensor] | Tensor | None = None,
        granularity: str = "block",
        leaves: Sequence[type[nn.Module]] | type[nn.Module] = (),
    ) -> Network:
        """Import a copy of any traceable module; parts of the classes `leaves` become single vertices.

        See `tlkit.graph.importing.from_module`.
        """
        from tlkit.graph.importing import from_module

        return from_module(module, example_inputs, granularity, leaves)

    def to_module(self) -> torch.fx.GraphModule:
        """Return the network as a plain torch module over the same weights, without frozen marks or preprocessing.

        A name that Python or `torch.fx.GraphModule` keeps for itself, such as "class" or "graph", gets an underscore.
        """
        graph = torch.fx.Graph()
        targets = _attributes([*self.inputs, *self._modules])
        nodes = {name: graph.placeholder(targets[name]) for name in self.inputs}
        for name in self._modules:
            nodes[name] = graph.call_module(targets[name], tuple(nodes[other] for other in self._inputs[name]))
        answers = tuple(nodes[name] for name in self.outputs)
        graph.output(answers[0] if len(answers) == 1 else answers)
        module = torch.fx.GraphModule({targets[name]: module for name, module in self._modules.items()}, graph)
        module.training = self.training
        return module

    def __repr__(self) -> str:
        frozen = f", {len(self._frozen)} frozen" if self._frozen else ""
        return f"Network({len(self._modules)} vertices{frozen}: {', '.join(self.inputs)} -> {', '.join(self.outputs)})"


def _attributes(names: Sequence[str]) -> dict[str, str]:
    """Return for each name one that an attribute of a traced module can have; most keep theirs."""
    reserved = dir(torch.fx.GraphModule(nn.Module(), torch.fx.Graph()))
    found: dict[str, str] = {}
    for name in names:
        new = name
        while keyword.iskeyword(new) or new in reserved or (new != name and new in names):
            new += "_"
        found[name] = new
    return found


def _is_learned(vertex: Vertex) -> bool:
    return bool(has_learned_statistics(vertex.module)) if vertex.learned is None else vertex.learned


def has_learned_statistics(module: nn.Module) -> bool | None:
    """Say whether batch normalization in a module holds other statistics than 0 and 1, from which it starts.

    None where no batch normalization keeps statistics, or they have no values yet.
    """
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.running_mean is not None]
    norms = [norm for norm in norms if not norm.running_mean.is_meta]
    return any(bool(norm.running_mean.any() or (norm.running_var != 1).any()) for norm in norms) if norms else None


def _names(names: str | Iterable[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _check_references(vertices: Mapping[str, Vertex], inputs: Mapping[str, Any], outputs: Sequence[str]) -> None:
    known = {*inputs, *vertices}
    for name in known:
        if "." in name or not name:
            msg = (
                f"Vertex names are keys of state_dict and hold no dots: write '{name.replace('.', '_')}' for '{name}'."
            )
            raise ValueError(msg)
    both = sorted(set(inputs) & set(vertices))
    if both:
        msg = f"{quoted(both)} names a network input and a vertex. Rename one of them."
        raise ValueError(msg)
    if not inputs or not outputs:
        msg = f"A network needs at least one input and one output, got inputs {[*inputs]} and outputs {[*outputs]}."
        raise ValueError(msg)
    for name, vertex in vertices.items():
        if not vertex.inputs:
            msg = f"Vertex '{name}' has no inputs. Name the vertices or network inputs that it reads."
            raise ValueError(msg)
        for other in vertex.inputs:
            if other not in known:
                msg = f"Vertex '{name}' reads '{other}', which does not exist.{near_misses(other, known)}"
                raise ValueError(msg)
    for name in outputs:
        if name not in known:
            msg = f"The output '{name}' does not exist.{near_misses(name, known)} Name others in set_outputs(...)."
            raise ValueError(msg)
    read = {other for vertex in vertices.values() for other in vertex.inputs} | set(outputs)
    unread = [name for name in vertices if name not in read]
    if unread:
        msg = f"Nothing reads {quoted(unread)}, and it is no output. Connect it, remove it, or name it as an output."
        raise ValueError(msg)


def _sorted_names(vertices: Mapping[str, Vertex], inputs: Iterable[str]) -> list[str]:
    """Sort so that each vertex follows its inputs, keeping the given order where it is free."""
    ready = set(inputs)
    order: list[str] = []
    waiting = list(vertices)
    while waiting:
        runnable = next(_runnable(waiting, vertices, ready), None)
        if runnable is None:
            msg = f"The vertices {quoted(waiting)} feed each other in a cycle. A network must run from input to output."
            raise ValueError(msg)
        waiting.remove(runnable)
        order.append(runnable)
        ready.add(runnable)
    return order


def _runnable(waiting: Iterable[str], vertices: Mapping[str, Vertex], ready: set[str]) -> Iterator[str]:
    return (name for name in waiting if ready.issuperset(vertices[name].inputs))
