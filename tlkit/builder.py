"""Transfer learning by editing a network: DL4J's TransferLearning builder."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

from torch import nn

from tlkit.errors import near_misses, quoted
from tlkit.graph.draft import Draft
from tlkit.graph.network import Network
from tlkit.layers.descriptions import Description, description_from_dict
from tlkit.layers.initializers import as_weight_init
from tlkit.layers.losses import check_output
from tlkit.layers.modules import Answering, OutputLayer
from tlkit.tuning import FineTuneConfiguration

__all__ = ["TransferLearning"]

Name = str | int


class TransferLearning:
    """Change the structure of a network, tune its learning configuration, hold chosen vertices constant.

    The calls only record what to do and may come in any order; `build()` makes a NEW network and leaves the
    original alone (DL4J's TransferLearning.GraphBuilder and, for chains of layers, TransferLearning.Builder).
    In a chain of layers an index may stand for a name; it counts the layers of the original, from either end.

    Parameters
    ----------
    network : Network
        The network to start from.

    Attributes
    ----------
    edits : list of dict
        The calls so far: ``{"edit": name of the call, ...its arguments}``.

    Examples
    --------
    >>> import tlkit as tl
    >>> vgg16 = tl.zoo.load("vgg16", weights=None)
    >>> net = (
    ...     tl.TransferLearning(vgg16)
    ...     .fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Nesterovs(5e-5, 0.9), seed=12345))
    ...     .set_feature_extractor("fc2")
    ...     .remove_vertex_keep_connections("predictions")
    ...     .add_layer("predictions", tl.Output(5, weight_init="xavier"), "fc2")
    ...     .build()
    ... )
    >>> set(net.vertices) - net.frozen
    {'predictions'}
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.edits: list[dict[str, Any]] = []

    # -- what to change -----------------------------------------------------------------------------------------

    def fine_tune_configuration(self, configuration: FineTuneConfiguration) -> TransferLearning:
        """Set how vertices train; what frozen ones compute stays as it is."""
        if not isinstance(configuration, FineTuneConfiguration):
            msg = (
                "fine_tune_configuration takes a tl.FineTuneConfiguration, such as "
                f"tl.FineTuneConfiguration(updater=tl.Adam(1e-3)), got {configuration!r}."
            )
            raise TypeError(msg)
        return self._record("fine_tune_configuration", configuration=configuration)

    def set_feature_extractor(self, *names: Name) -> TransferLearning:
        """Freeze these vertices and everything that feeds them, and nothing else; a later call replaces this one."""
        return self._record("set_feature_extractor", names=_checked_names("set_feature_extractor", names))

    def n_out_replace(
        self, name: Name, n_out: int, weight_init: Any = None, next_weight_init: Any = None
    ) -> TransferLearning:
        """Change a layer's width and draw its weights anew, and those of every weight layer that it feeds.

        The change passes through activations, pooling, dropout, batch norm, flatten and depthwise convolutions.

        Parameters
        ----------
        name : str or int
            A single linear or convolutional layer.
        n_out : int
            Its new number of units or filters.
        weight_init, next_weight_init : str or Distribution, optional
            How to draw the layer's weights and those of the layers behind; the configuration's if left out. What is
            said of a layer itself wins over what the layer before says of it.
        """
        n_out = _checked_width("n_out", n_out)
        schemes = [None if scheme is None else as_weight_init(scheme) for scheme in (weight_init, next_weight_init)]
        return self._record(
            "n_out_replace", name=name, n_out=n_out, weight_init=schemes[0], next_weight_init=schemes[1]
        )

    def n_in_replace(self, name: Name, n_in: int, weight_init: Any = None) -> TransferLearning:
        """Change the number of inputs of one layer and draw its weights anew; its neighbors stay."""
        n_in = _checked_width("n_in", n_in)
        scheme = None if weight_init is None else as_weight_init(weight_init)
        return self._record("n_in_replace", name=name, n_in=n_in, weight_init=scheme)

    def remove_vertex_keep_connections(self, name: Name) -> TransferLearning:
        """Remove a vertex whose place a new vertex of the same name will take."""
        (name,) = _checked_names("remove_vertex_keep_connections", [name])
        return self._record("remove_vertex_keep_connections", name=name)

    def remove_vertex_and_connections(self, name: Name) -> TransferLearning:
        """Remove a vertex from the graph, from the inputs of others and from the outputs."""
        (name,) = _checked_names("remove_vertex_and_connections", [name])
        return self._record("remove_vertex_and_connections", name=name)

    def remove_output_layer(self) -> TransferLearning:
        """Remove the last layer of a chain."""
        return self.remove_layers_from_output(1)

    def remove_layers_from_output(self, n: int) -> TransferLearning:
        """Remove the last `n` layers of a chain."""
        if any(edit["edit"] == "remove_layers_from_output" for edit in self.edits):
            msg = (
                "Layers were already removed from the output. Say the whole number in one remove_layers_from_output(n)."
            )
            raise ValueError(msg)
        return self._record("remove_layers_from_output", n=n)

    def add_layer(self, name: str, layer: Description | nn.Module, *inputs: Name) -> TransferLearning:
        """Add a layer that reads the given vertices; without any, it goes behind the end of a chain.

        Several inputs of a layer with weights are concatenated first, by a vertex called ``<name>_merge``.
        """
        self._check_addition(name, layer)
        return self._record("add_layer", name=name, layer=layer, inputs=_checked_names("add_layer", inputs))

    def add_vertex(self, name: str, vertex: Description | nn.Module, *inputs: Name) -> TransferLearning:
        """Add a vertex that combines its inputs, such as `tl.Merge()` or `tl.ElementWise("add")`."""
        self._check_addition(name, vertex)
        return self._record("add_vertex", name=name, vertex=vertex, inputs=_checked_names("add_vertex", inputs))

    def set_outputs(self, *names: Name) -> TransferLearning:
        """Replace the network's outputs."""
        if not names:
            msg = "set_outputs needs at least one vertex, got none. See list(net.vertices) for the names."
            raise ValueError(msg)
        return self._record("set_outputs", names=_checked_names("set_outputs", names))

    def set_inputs(self, inputs: Mapping[str, Sequence[int]]) -> TransferLearning:
        """Replace the network's inputs: name -> shape of one example."""
        if not isinstance(inputs, Mapping):
            msg = (
                f"set_inputs takes the shape of one example by name, such as {{'image': (3, 96, 96)}}, got {inputs!r}."
            )
            raise TypeError(msg)
        for name, shape in inputs.items():
            if not isinstance(shape, Sequence) or not all(isinstance(size, Integral) and size > 0 for size in shape):
                msg = f"The shape of input '{name}' is whole numbers above 0, such as (3, 96, 96), got {shape!r}."
                raise ValueError(msg)
        return self._record("set_inputs", inputs={name: list(shape) for name, shape in inputs.items()})

    def build(self, *, validate_output_layer: bool = True) -> Network:
        """Apply the edits to a copy and return the new network.

        Parameters
        ----------
        validate_output_layer : bool
            Whether to refuse outputs whose activation and loss contradict each other.

        Raises
        ------
        UnknownVertexError (a KeyError)
            For a vertex that does not exist (with near misses).
        ValueError
            When the edits contradict each other, leave a graph that cannot run or an output that cannot be meant.
        """
        net = Draft(self.network, self.edits).build()
        if validate_output_layer:
            _validate_outputs(net)
        return net

    def _replay(self, edit: Mapping[str, Any]) -> None:
        """Make the call that an edit as plain data stands for."""
        call = edit.get("edit")
        if call not in _CALLS:
            msg = f"There is no edit '{call}'.{near_misses(call, _CALLS)} The edits are {quoted(_CALLS)}."
            raise ValueError(msg)
        for problem, names, others in (
            ("has no argument", edit.keys() - {"edit"}, _CALLS[call]),
            ("lacks its argument", set(_CALLS[call]) - {"weight_init", "next_weight_init"}, edit),
        ):
            for name in sorted(names):
                if name not in others:
                    msg = f"The edit '{call}' {problem} '{name}'.{near_misses(name, others)}"
                    raise ValueError(msg)
        values = [_DECODERS.get(name, lambda value: value)(edit.get(name)) for name in _CALLS[call]]
        if call == "frozen_before":
            self._record(call, marks=dict(*values))
        elif call in _ONE_BY_ONE:
            getattr(self, call)(*values[:-1], *values[-1])
        else:
            getattr(self, call)(*values)

    def _check_addition(self, name: str, what: Any) -> None:
        """Refuse what is neither a description nor a module, or holds weights that another addition holds."""
        if not isinstance(name, str):
            msg = f"A new vertex is named by a text, got {name!r}."
            raise TypeError(msg)
        if not isinstance(what, (Description, nn.Module)):
            got = (
                f"the class {what.__name__}. Write it with its arguments: tl.{what.__name__}(...)"
                if isinstance(what, type)
                else f"{what!r}"
            )
            msg = f"'{name}' is added as a description such as tl.Dense(256), or as a torch module, got {got}."
            raise TypeError(msg)
        held = set(map(id, what.parameters())) if isinstance(what, nn.Module) else set()
        for edit in self.edits:
            other = edit.get("layer", edit.get("vertex"))
            if isinstance(other, nn.Module) and (other is what or not held.isdisjoint(map(id, other.parameters()))):
                msg = (
                    f"'{name}' was given the same module as '{edit['name']}', and in a built network each has weights "
                    "of its own. Give it another one: copy.deepcopy(module)."
                )
                raise ValueError(msg)

    def _record(self, edit: str, **arguments: Any) -> TransferLearning:
        self.edits.append({"edit": edit, **arguments})
        return self

    # -- as data ------------------------------------------------------------------------------------------------

    @classmethod
    def replay(cls, network: Network, edits: Sequence[dict[str, Any]]) -> Network:
        """Build from edits as plain data, as a saved file holds them.

        Raises
        ------
        ValueError
            When there is no such edit, or it has other arguments.
        """
        builder = cls(network)
        for edit in edits:
            builder._replay(edit)
        with warnings.catch_warnings():  # they were given when it was built for the first time
            warnings.simplefilter("ignore")
            return builder.build(validate_output_layer=False)


_NO_LANDMARK = (
    " A landmark is None where a network has no such place, or several: print(tl.zoo.explain_head(net)) says how to "
    "give it a new head, and net.cut_points lists the boundaries."
)


def _checked_names(call: str, names: Sequence[Any]) -> list[Name]:
    """Return the names that a call was given one by one."""
    for name in names:
        if not isinstance(name, (str, Integral)):
            among = ", ".join(map(repr, name)) if isinstance(name, (list, tuple, set)) else ""
            hint = _NO_LANDMARK if name is None else ""
            msg = f"{call} takes names one by one{among and f': {call}({among})'}, got {name!r}.{hint}"
            raise TypeError(msg)
    return [name if isinstance(name, str) else int(name) for name in names]


def _checked_width(name: str, value: Any) -> int:
    if not isinstance(value, Integral) or value < 1:
        msg = f"{name} is a whole number, 1 or more, got {value!r}."
        raise ValueError(msg)
    return int(value)


def _validate_outputs(net: Network) -> None:
    for name, vertex in net.vertices.items():
        module = vertex.module
        if isinstance(module, Answering):
            units = module.out_features if isinstance(module, OutputLayer) else net.output_shapes()[name][0]
            check_output(name, module.loss, module.activation, units)


# call -> its arguments as an edit holds them; a list in the last place stands for arguments one by one
_CALLS = {
    "fine_tune_configuration": ("configuration",),
    "set_feature_extractor": ("names",),
    "n_out_replace": ("name", "n_out", "weight_init", "next_weight_init"),
    "n_in_replace": ("name", "n_in", "weight_init"),
    "remove_vertex_keep_connections": ("name",),
    "remove_vertex_and_connections": ("name",),
    "remove_layers_from_output": ("n",),
    "add_layer": ("name", "layer", "inputs"),
    "add_vertex": ("name", "vertex", "inputs"),
    "set_outputs": ("names",),
    "set_inputs": ("inputs",),
    "frozen_before": ("marks",),
}
_ONE_BY_ONE = {"set_feature_extractor", "add_layer", "add_vertex", "set_outputs"}
_DECODERS = {
    "configuration": FineTuneConfiguration.from_dict,
    "layer": description_from_dict,
    "vertex": description_from_dict,
}
