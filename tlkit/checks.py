"""Checks of the exercises: whether an answer is right, and if not, what to look at."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

from tlkit.errors import near_misses, quoted
from tlkit.graph import Network
from tlkit.layers import OutputLayer, is_weight_layer
from tlkit.stages import stages
from tlkit.updaters import Adam, Sgd

__all__ = ["Checked", "NotYet", "check", "exercise", "tasks"]


class NotYet(Exception):
    """Raised by a check: one or two sentences on what is wrong, and a hint."""


@dataclass(frozen=True)
class Checked:
    """What a check says; true when the answer is right.

    Parameters
    ----------
    right : bool
    sentence : str
        Why it is right, or what is wrong and where to look.
    """

    right: bool
    sentence: str

    @property
    def word(self) -> str:
        return "Right" if self.right else "Not yet"

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return f"{self.word}: {self.sentence}"

    def _repr_html_(self) -> str:
        edge = "6px solid #009E73" if self.right else "6px dashed #D55E00"
        style = f"border-left:{edge};padding:4px 12px;margin:4px 0;max-width:760px;line-height:1.5"
        return f'<div role="status" style="{style}"><b>{self.word}:</b> {escape(self.sentence)}</div>'


@dataclass(frozen=True)
class Exercise:
    """A task in one line, and the function that judges an answer."""

    task: str
    judge: Callable[..., str]


_EXERCISES: dict[str, Exercise] = {}


def exercise(number: str, task: str) -> Callable[[Callable[..., str]], Callable[..., str]]:
    """Register the check of an exercise.

    The function takes the answer (and, where the task is about a network, that network), raises `NotYet` with what
    is wrong and a hint, or returns a sentence that says why the answer is right.

    Parameters
    ----------
    number : str
        Notebook and exercise: "05.1".
    task : str
        What to do, in one line.
    """

    def register(judge: Callable[..., str]) -> Callable[..., str]:
        if number in _EXERCISES:
            msg = f"There are two checks for exercise {number}. Give one of them another number."
            raise ValueError(msg)
        _EXERCISES[number] = Exercise(task, judge)
        return judge

    return register


def tasks() -> dict[str, str]:
    """Return the tasks of all exercises that have a check, by number."""
    return {number: known.task for number, known in sorted(_EXERCISES.items())}


def check(number: str, answer: Any = None, *about: Any) -> Checked:
    """Say whether an answer is right, and if not, what to look at. It never raises because of an answer.

    Parameters
    ----------
    number : str
        Notebook and exercise: "05.1".
    answer : object
        A number, a name or a network, as the task says; None or ``...`` stands for no answer yet.
    *about : Network
        The network that the question is about, where the task names one.

    Examples
    --------
    >>> check("05.1")
    Not yet: there is no answer so far. The task: seven kinds of flowers instead of five: how many parameters ...
    """
    known = _EXERCISES.get(str(number))
    if known is None:
        numbers = sorted(_EXERCISES)
        hint = near_misses(str(number), numbers) or f" There are checks for {', '.join(numbers)}."
        return Checked(False, f"there is no exercise '{number}'.{hint}")
    task = f"The task: {known.task}"
    if answer is None or answer is ...:
        return Checked(False, f"there is no answer so far. {task}")
    expected = list(inspect.signature(known.judge).parameters)[1:]
    if len(about) != len(expected):
        call = ", ".join([f"tl.check('{number}', answer", *expected])
        return Checked(False, f"call the check as {call}). {task}")
    try:
        return Checked(True, known.judge(answer, *about))
    except NotYet as missing:
        return Checked(False, str(missing))
    except Exception as error:  # an answer of a kind that nobody thought of
        why = str(error.args[0]) if error.args else type(error).__name__
        return Checked(False, f"the check cannot read this answer, a {type(answer).__name__} ({why}). {task}")


# -- what several checks ask ----------------------------------------------------------------------------------------


def as_number(answer: Any) -> int:
    """Return a whole number; other kinds of answers are told what is expected."""
    if isinstance(answer, bool) or not hasattr(answer, "__index__"):
        if isinstance(answer, float) and answer.is_integer():
            return int(answer)
        missing = f"the answer is a whole number such as 1234, and this is {_kind(answer)}."
        raise NotYet(missing)
    return answer.__index__()


def as_network(answer: Any) -> Network:
    """Return a network; other kinds of answers are told what is expected."""
    if isinstance(answer, Network):
        return answer
    if hasattr(answer, "build"):
        missing = "this is a builder whose edits are only recorded. End it with .build() to get the network."
        raise NotYet(missing)
    missing = f"the answer is a network, what .build() returns, and this is {_kind(answer)}."
    raise NotYet(missing)


def trainable(net: Network) -> int:
    """Return the number of parameters that training changes."""
    return sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)


def weights_of(net: Network, name: str) -> int:
    """Return the number of parameters of a vertex."""
    return sum(parameter.numel() for parameter in net.vertices[name].module.parameters())


def boundary_of(net: Network) -> str:
    """Return the one boundary of a network."""
    if not net.frozen:
        missing = "nothing is frozen in this network. Name the last frozen vertex: .set_feature_extractor(name)."
        raise NotYet(missing)
    names = net.boundary()
    if len(names) > 1:
        missing = f"this network has {len(names)} boundaries: {quoted(names)}. One is enough here."
        raise NotYet(missing)
    return names[0]


def check_output(net: Network, n_classes: int) -> None:
    """Make sure that a network ends in a new output layer for so many classes."""
    name = net.outputs[0]
    module = net.vertices[name].module if name in net.vertices else None
    if not isinstance(module, OutputLayer):
        missing = (
            f"'{name}' is still the original's last layer, which has no loss to train on. Replace it by "
            f"tl.Output(n_out={n_classes})."
        )
        raise NotYet(missing)
    if module.out_features != n_classes:
        missing = f"the output layer '{name}' answers for {module.out_features} classes; {n_classes} are asked for."
        raise NotYet(missing)


def one_block_less(net: Network) -> str:
    """Return the boundary behind which the last numbered block before the bottleneck begins ("block4_pool")."""
    shapes = net.output_shapes()
    before = {name: shapes[name] for name in net.vertices if name in net.ancestors(net.landmarks.bottleneck)}
    blocks = [names for names in stages(before) if any(letter.isdigit() for letter in names[0])]
    order = list(before)
    first = order.index(blocks[-1][0]) if len(blocks) > 1 else 0
    return order[first - 1] if first and order[first - 1] in net.cut_points else net.landmarks.fine_tune_from


def _kind(answer: Any) -> str:
    return f"a {type(answer).__name__}: {answer!r:.60}" if isinstance(answer, (str, int, float)) else _named(answer)


def _named(answer: Any) -> str:
    name = type(answer).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


# -- notebook 05: edit the last layer -------------------------------------------------------------------------------


@exercise("05.1", "seven kinds of flowers instead of five: how many parameters does the new last layer train?")
def seven_classes(answer: Any, net: Network) -> str:
    number = as_number(answer)
    width = as_network(net).vertices[net.landmarks.head].module.in_features
    right = 7 * (width + 1)
    if number == right:
        return f"7 classes, each with {width:,} weights and one bias, are 7 × {width + 1:,} = {right:,} parameters."
    if number == 7 * width:
        missing = f"{number:,} are the weights alone. Each class has a bias as well."
    elif number == 5 * (width + 1):
        missing = f"{number:,} is right for five classes. The question is about seven."
    elif number in (width, width + 1):
        missing = f"{number:,} is one class's share. There are seven classes."
    elif number == trainable(net) or number > 100 * right:
        missing = "that counts more than the last layer. net.summary() shows each layer in a row."
    else:
        missing = f"{number:,} is not it. A class has a weight for each of the {width:,} features, and a bias."
    raise NotYet(missing)


@exercise(
    "05.2", "freeze one block less: train the last block before the bottleneck along with a new head for 5 classes."
)
def one_block_less_frozen(answer: Any) -> str:
    net = as_network(answer)
    check_output(net, 5)
    found, wanted = boundary_of(net), one_block_less(net)
    order = list(net.vertices)
    if found == wanted:
        behind = [name for name in order if weights_of(net, name) and name not in net.frozen]
        return f"behind '{wanted}', {quoted(behind)} are trained: {trainable(net):,} parameters."
    if found not in order:
        missing = f"the boundary is the input '{found}'. Freeze a vertex: .set_feature_extractor(name)."
    elif order.index(found) > order.index(wanted):
        frozen = [name for name in order[order.index(wanted) + 1 :] if weights_of(net, name) and name in net.frozen]
        still = f"{quoted(frozen)} {'are' if len(frozen) > 1 else 'is'} still frozen" if frozen else "nothing changed"
        missing = f"with the boundary '{found}', {still}. Name an earlier vertex, the last one of the block before."
    else:
        missing = f"with the boundary '{found}', more than the last block is trained. Name a later vertex."
    raise NotYet(missing)


# -- notebook 06: attach at the bottleneck --------------------------------------------------------------------------


@exercise("06.1", "a tl.Dense(1024) reads the bottleneck through tl.GlobalPool(): how many parameters has it?")
def dense_on_pooled(answer: Any, net: Network) -> str:
    number = as_number(answer)
    name = as_network(net).landmarks.bottleneck
    channels, height, width = net.output_shapes()[name]
    right = (channels + 1) * 1024
    flat = (channels * height * width + 1) * 1024
    if number == right:
        return (
            f"the pool leaves {channels:,} numbers of '{name}', so ({channels:,} + 1) × 1,024 = {right:,} parameters. "
            f"Behind tl.Flatten() they would be {flat:,}."
        )
    if number == channels * 1024:
        missing = f"{number:,} are the weights alone. Each of the 1,024 units has a bias as well."
    elif number in (flat, flat - 1024):
        missing = (
            f"that is the layer behind tl.Flatten(). tl.GlobalPool() leaves one number of each {height} × {width}."
        )
    elif number == channels + 1:
        missing = f"{number:,} is one unit's share. There are 1,024 units."
    else:
        missing = (
            f"{number:,} is not it. '{name}' has the shape {channels:,} × {height} × {width}; what does the mean over "
            "height and width leave of it?"
        )
    raise NotYet(missing)


@exercise(
    "06.2", "a head for 5 classes on the frozen bottleneck: a hidden layer or more, under 200,000 parameters to train."
)
def small_head(answer: Any) -> str:
    net = as_network(answer)
    check_output(net, 5)
    bottleneck = net.landmarks.bottleneck
    found = boundary_of(net)
    if bottleneck not in net.frozen:
        missing = (
            f"the bottleneck '{bottleneck}' is not frozen: the boundary is '{found}'. Freeze up to '{bottleneck}'."
        )
        raise NotYet(missing)
    behind = [name for name in net.vertices if name in net.frozen and name not in net.ancestors(bottleneck)]
    if any(weights_of(net, name) for name in behind):
        missing = f"more than the bottleneck is frozen: the boundary is '{found}'. Freeze up to '{bottleneck}' only."
        raise NotYet(missing)
    layers = [
        name for name, vertex in net.vertices.items() if name not in net.frozen and is_weight_layer(vertex.module)
    ]
    if len(layers) < 2:
        missing = f"'{layers[0]}' is the only layer that is trained. Put a hidden layer before it: tl.Dense(...)."
        raise NotYet(missing)
    count = trainable(net)
    if count >= 200_000:
        largest = max(layers, key=lambda name: weights_of(net, name))
        missing = (
            f"{count:,} parameters are trained, {weights_of(net, largest):,} of them in '{largest}'. Give it fewer "
            "units, or fewer inputs."
        )
        raise NotYet(missing)
    return f"{quoted(layers)} have {count:,} parameters to train."


@exercise("06.3", "give the trained network a second output, 'wild', with two classes on 'fc3', and lose nothing.")
def second_output(answer: Any, net: Network) -> str:
    two = as_network(answer)
    if "wild" not in two.vertices:
        missing = "this network has no vertex 'wild'. Add it: .add_layer('wild', tl.Output(n_out=2), 'fc3')."
        raise NotYet(missing)
    lost = [name for name in (*net.outputs, "wild") if name not in two.outputs]
    if lost:
        missing = (
            f"the network answers with {quoted(two.outputs)}, without {quoted(lost)}. set_outputs replaces the old "
            "list: name every output."
        )
        raise NotYet(missing)
    module, reads = two.vertices["wild"].module, two.vertices["wild"].inputs
    if not isinstance(module, OutputLayer) or module.out_features != 2:
        missing = "'wild' is asked for as an output with two classes: tl.Output(n_out=2)."
        raise NotYet(missing)
    if reads != ("fc3",):
        missing = f"'wild' reads {quoted(reads)}; it should read 'fc3'."
        raise NotYet(missing)
    changed = changed_vertices(net, two)
    if changed:
        missing = f"{quoted(changed[-3:])} lost what they learned. Start from the trained network, not the original."
        raise NotYet(missing)
    if two.frozen != net.frozen:
        missing = "other vertices are frozen than before. The marks of the trained network stay by themselves."
        raise NotYet(missing)
    return f"it answers with {quoted(two.outputs)}; only the {weights_of(two, 'wild'):,} parameters of 'wild' are new."


# -- notebook 07: fine-tune a saved model ---------------------------------------------------------------------------


def changed_vertices(net: Network, other: Network) -> list[str]:
    """Return the vertices of a network whose weights are not the same in another one, or not there."""
    values = other.state_dict()
    changed = [key for key, value in net.state_dict().items() if key not in values or not value.equal(values[key])]
    return list(dict.fromkeys(key.split(".")[0] for key in changed))


@exercise("07.1", "how many parameters learn again when the boundary moves from the bottleneck to `fine_tune_from`?")
def learning_again(answer: Any, net: Network) -> str:
    number = as_number(answer)
    before = as_network(net).landmarks.fine_tune_from
    names = [name for name in net.vertices if name in net.frozen - net.ancestors(before)]
    right, total = (sum(count(net, name) for name in names) for count in (weights_of, parameters_of))
    if number in (right, total):
        also = f" ({total - right:,} of them statistics of batch normalization)" if number == total > right else ""
        return f"{quoted(names)} have {number:,} parameters{also}."
    behind = sum(parameters_of(net, name) for name in net.vertices if name not in net.frozen)
    if number in (behind, behind + total, trainable(net), trainable(net) + right):
        missing = f"{number:,} counts what was trainable before. The question is about what was frozen."
    else:
        missing = f"{number:,} is not it. Subtract: how many are frozen in this network, how many in the tuned one?"
    raise NotYet(missing)


@exercise("07.2", "load the saved network with nothing frozen, then freeze it in place up to `fine_tune_from`.")
def frozen_in_place(answer: Any, net: Network) -> str:
    thawed = as_network(answer)
    boundary = net.landmarks.fine_tune_from
    wanted = net.ancestors(boundary)
    if changed_vertices(net, thawed):
        missing = "this is not the saved network: its weights differ. Load the file: tl.load(path, frozen=False)."
    elif not thawed.frozen:
        missing = f"nothing is frozen yet. Go on with .freeze('{boundary}')."
    elif thawed.frozen > wanted:
        still = [name for name in thawed.vertices if name in thawed.frozen - wanted]
        missing = f"{quoted(still[-3:])} are still frozen: freeze only adds marks. Load the file without its marks."
    elif thawed.frozen != wanted:
        missing = f"the boundary is '{boundary_of(thawed)}', and it should be '{boundary}'."
    else:
        return f"it is frozen up to '{boundary}', and {trainable(thawed):,} parameters are trainable."
    raise NotYet(missing)


@exercise("07.3", "the last block learns with Sgd, a new output layer with Adam(lr=0.001), from the saved network.")
def two_updaters(answer: Any, net: Network) -> str:
    careful = as_network(answer)
    boundary = net.landmarks.fine_tune_from
    if careful.frozen != net.ancestors(boundary):
        missing = f"the boundary is '{boundary_of(careful)}'. To let the last block learn, it must be '{boundary}'."
        raise NotYet(missing)
    head = careful.outputs[0]
    check_output(careful, net.vertices[net.outputs[0]].module.out_features)
    if head in net.vertices and head not in changed_vertices(careful, net):
        missing = f"'{head}' is still the trained one. Remove it, keep its connections, and add a new tl.Output."
        raise NotYet(missing)
    updaters = {name: v.settings.updater for name, v in careful.vertices.items() if weights_of(careful, name)}
    own = updaters.pop(head)
    if own != Adam(lr=1e-3):
        missing = f"'{head}' would learn with {own}. Give the new layer its own: updater=tl.Adam(lr=1e-3)."
        raise NotYet(missing)
    others = {updater for name, updater in updaters.items() if name not in careful.frozen}
    if not all(isinstance(updater, Sgd) for updater in others):
        named = ", ".join(sorted(map(str, others)))
        missing = f"the rest would learn with {named}. Say it in the configuration: updater=tl.Sgd(lr=1e-5)."
        raise NotYet(missing)
    return f"'{head}' learns with {own}, the rest behind '{boundary}' with {others.pop()}."


def parameters_of(net: Network, name: str) -> int:
    """Return what the summary counts: the parameters of a vertex and its statistics."""
    module = net.vertices[name].module
    buffers = [value for key, value in module.named_buffers() if not key.endswith("num_batches_tracked")]
    return weights_of(net, name) + sum(value.numel() for value in buffers)
