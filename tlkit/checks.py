"""Checks of the exercises: whether an answer is right, and if not, what to look at."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from torch import Tensor, allclose, linspace

from tlkit.builder import TransferLearning
from tlkit.errors import near_misses, quoted
from tlkit.graph import Network
from tlkit.layers import Output, OutputLayer, is_weight_layer
from tlkit.listeners import Listener
from tlkit.memory import counted
from tlkit.preprocessing import Preprocessing
from tlkit.stages import stages
from tlkit.store import FeatureStore
from tlkit.training import History, fit
from tlkit.tuning import FineTuneConfiguration
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


# -- notebook 00: DL4J's Transfer Learning API ----------------------------------------------------------------------


@exercise("00.1", "vgg16 frozen up to block5_pool, its old head in place: how many parameters are trainable?")
def behind_the_bottleneck(answer: Any, vgg16: Network) -> str:
    number = as_number(answer)
    frozen = vgg16.ancestors(vgg16.landmarks.bottleneck)
    sizes = {name: sum(p.numel() for p in vertex.module.parameters()) for name, vertex in vgg16.vertices.items()}
    behind = {name: size for name, size in sizes.items() if size and name not in frozen}
    right, total = sum(behind.values()), sum(sizes.values())
    if number == right:
        return f"{quoted(behind)} lie behind the boundary, with {right:,} of {total:,} parameters."
    if number == total - right:
        missing = f"{number:,} are the frozen ones. The question is about the rest."
    elif number == total:
        missing = f"{number:,} are all parameters of the network. Leave out the frozen ones."
    elif number in behind.values() or number in {right - size for size in behind.values()}:
        missing = f"{number:,} is a part of it. {len(behind)} vertices behind the boundary have parameters."
    else:
        missing = f"{number:,} is not it. Add up the parameters of the vertices below block5_pool in the summary."
    raise NotYet(missing)


@exercise("00.2", "at which cut point of vgg16 does a boundary take the fewest bytes for an image?")
def smallest_boundary(answer: Any, vgg16: Network) -> str:
    if not isinstance(answer, str):
        missing = f"the answer is the name of a vertex such as 'block1_conv1', and this is {_kind(answer)}."
        raise NotYet(missing)
    shapes = vgg16.output_shapes()
    sizes = {name: math.prod(shapes[name]) for name in vgg16.cut_points}
    least = [name for name, size in sizes.items() if size == min(sizes.values())]
    if answer in least:
        return f"{quoted(least)} answer with {sizes[answer]:,} numbers, {4 * sizes[answer]:,} bytes an image."
    if answer in vgg16.outputs:
        missing = f"'{answer}' is an output: with all before it and itself frozen, nothing would be left to train."
    elif answer not in sizes:
        missing = f"vgg16 has no cut point '{answer}'.{near_misses(answer, sizes)}"
    else:
        missing = f"'{answer}' answers with {sizes[answer]:,} numbers, and there is a vertex with fewer."
    raise NotYet(missing)


@exercise("00.3", "a network from vgg16 whose features have height and width, less than a tenth of it trainable.")
def spatial_and_light(answer: Any) -> str:
    net = as_network(answer)
    name = boundary_of(net)
    shape = net.output_shapes()[name]
    if name in net.inputs or name in net.outputs:
        missing = (
            f"the boundary '{name}' is the network's {'input' if name in net.inputs else 'output'}. Move it inside."
        )
        raise NotYet(missing)
    if len(shape) < 3 or shape[-1] < 2:
        missing = (
            f"the features at '{name}' are {shape[0]:,} numbers without height and width. Name an earlier boundary."
        )
        raise NotYet(missing)
    total = sum(parameter.numel() for parameter in net.parameters())
    share = trainable(net) / total
    if share >= 0.1:
        rest = {key: vertex for key, vertex in net.vertices.items() if key not in net.frozen}
        largest = max(rest, key=lambda key: sum(p.numel() for p in rest[key].module.parameters()))
        missing = f"{share:.1%} of {total:,} parameters are trainable, most of them in '{largest}'. Make it narrower."
        raise NotYet(missing)
    return (
        f"'{name}' gives {' × '.join(map(str, shape))} numbers, and {share:.1%} of {total:,} parameters are trainable."
    )


# -- notebook 01: the transfer learning helper ----------------------------------------------------------------------


@exercise("01.1", "3,000 photos, 512 maps of 7 by 7 numbers each, four bytes a number: how many bytes?")
def bytes_of_features(answer: Any) -> str:
    number = as_number(answer)
    one, right = 512 * 7 * 7 * 4, 512 * 7 * 7 * 4 * 3000
    if number == right:
        return f"{one:,} bytes a photo, 3,000 times: {right:,} bytes, or {right / 1e6:.0f} MB."
    if number == right // 4:
        missing = f"{number:,} are the numbers. Each of them takes four bytes."
    elif number in (one, one // 4):
        missing = f"{number:,} is one photo's share. There are 3,000."
    elif number == 512 * 7 * 4 * 3000:
        missing = "a map has a height of 7 and a width of 7, so 49 numbers."
    else:
        missing = f"{number:,} is not it. Multiply maps, height, width, bytes a number, and photos."
    raise NotYet(missing)


@exercise(
    "01.2", "an epoch takes 60 s on images and 1 s on features, featurizing 75 s: from which number of epochs on?"
)
def epochs_until_it_pays(answer: Any) -> str:
    number = as_number(answer)
    if number == 2:
        return "two epochs take 120 s on images, and 75 + 2 × 1 = 77 s with the helper. One epoch would not pay."
    if number < 2:
        epochs = counted(number, "epoch")
        missing = f"with {epochs} the helper takes {75 + number} s, and the whole network {60 * number} s."
    else:
        missing = f"{number} epochs pay, but fewer do, too: compare 60 s and 75 s + 1 s an epoch from 1 upwards."
    raise NotYet(missing)


@exercise("01.3", "from imagenet: a new head, and a helper with two feature tensors, bottleneck and penultimate.")
def two_boundaries(answer: Any, imagenet: Network, flowers: Any) -> str:
    net = as_network(answer)
    check_output(net, len(flowers.classes))
    if not net.frozen:
        missing = "nothing is frozen in this network. Name the last frozen vertex: .set_feature_extractor(name)."
        raise NotYet(missing)
    places = imagenet.landmarks
    wanted, found = (places.bottleneck, places.penultimate), net.boundary()
    if set(found) == set(wanted):
        return f"the unfrozen part reads {quoted(found)}: {len(found)} tensors for each image."
    if set(found) < set(wanted):
        lacks = next(name for name in wanted if name not in found)
        missing = f"nothing unfrozen reads '{lacks}'. Add a vertex that does, and let the head read that vertex."
    else:
        missing = f"the unfrozen part reads {quoted(found)}; it should read {quoted(wanted)} and nothing else."
    raise NotYet(missing)


# -- notebook 02: show me the code ----------------------------------------------------------------------------------


@exercise("02.1", "633, 898, 641, 699 and 799 pictures of five classes: how many are in the training set?")
def pictures_to_train_on(answer: Any) -> str:
    number = as_number(answer)
    if number == 2530:
        return "each class is cut to 633, and 506 of them are for training: five times 506 are 2,530."
    hints = {
        2936: "that is 80% of all pictures. The classes are cut to the smallest first.",
        2532: "that is 80% of 3,165 pictures, but each class gives the same whole number of pictures.",
        3165: "that is training and test set together.",
        635: "that is the test set.",
        506: "that is one class's share.",
        2535: "80% of 633 are 506.4, which is rounded to 506.",
    }
    missing = hints.get(number, f"{number:,} is not it. Cut every class to the smallest, then take 80% of each.")
    raise NotYet(missing)


@exercise("02.2", "the batch of images as numbers, normalized with the mean and the standard deviation of each color.")
def normalized_by_hand(answer: Any, images: Tensor, preprocessing: Preprocessing) -> str:
    right = preprocessing(images)
    if not isinstance(answer, Tensor):
        missing = f"the answer is a tensor with the shape of images, and this is {_kind(answer)}."
        raise NotYet(missing)
    if answer.shape != right.shape:
        missing = f"the shape is {tuple(answer.shape)}; expected is the shape of images, {tuple(right.shape)}."
        raise NotYet(missing)
    answer = answer.to(right.device, right.dtype)
    if allclose(answer, right, atol=1e-4):
        return f"from {right.min():.2f} to {right.max():.2f}, as the network's weights expect."
    colors = right.transpose(0, 1).flatten(1), answer.transpose(0, 1).flatten(1)
    if all(
        allclose(ours - ours.mean(), theirs - theirs.mean(), atol=1e-4) for ours, theirs in zip(*colors, strict=True)
    ):
        missing = "the spread of each color is right, its mean is not. Subtract the mean before you divide."
    elif answer.abs().max() > 20:
        missing = (
            f"values up to {answer.abs().max():,.0f} are too large: mean and std belong to images between 0 and 1."
        )
    else:
        missing = "some numbers differ. Divide by 255, subtract the mean, then divide by std: color by color."
    raise NotYet(missing)


@exercise("02.3", "(train, test): the first 80% of each class by file name to train on, the rest to test.")
def split_by_name(answer: Any, everything: Any) -> str:
    parts = tuple(answer) if isinstance(answer, (tuple, list)) else ()
    if len(parts) != 2 or not all(hasattr(part, "paths") for part in parts):
        missing = f"the answer is a pair (train, test) of image sets, and this is {_kind(answer)}."
        raise NotYet(missing)
    train, test = parts
    seen = set(train.paths) & set(test.paths)
    if seen:
        missing = f"{len(seen)} pictures are in both sets, {min(seen).name} among them."
        raise NotYet(missing)
    if {*train.paths, *test.paths} != set(everything.paths):
        missing = f"{len(train) + len(test)} of {len(everything)} pictures are used. Use all of them, and no others."
        raise NotYet(missing)
    for number, name in enumerate(everything.classes):
        ours, theirs = (sorted(_paths_of(part, number)) for part in parts)
        count = len(ours) + len(theirs)
        if abs(len(ours) - 0.8 * count) > 1:
            missing = (
                f"class '{name}' has {len(ours)} of {count} pictures in the training set; 80% are {0.8 * count:.0f}."
            )
            raise NotYet(missing)
        if ours[-1] > theirs[0]:
            missing = f"'{ours[-1].name}' is trained on, and '{theirs[0].name}', which comes before it, is tested on."
            raise NotYet(missing)
    return f"{len(train)} pictures to train on and {len(test)} to test on; pictures in a row stay together."


def _paths_of(images: Any, label: int) -> list[Path]:
    return [path for path, other in zip(images.paths, images.labels.tolist(), strict=True) if other == label]


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


# -- notebook 08: save featurized data and train on them ------------------------------------------------------------


@exercise("08.1", "2,532 photos in shards of 256, stopped at photo 1,500: how many does the next call run through?")
def photos_left(answer: Any) -> str:
    number = as_number(answer)
    if number == 1252:
        return "5 × 256 = 1,280 photos lie in finished shards, and 2,532 - 1,280 = 1,252 remain."
    if number == 2532 - 1500:
        missing = "1,032 would be left if each photo were kept by itself. They are kept in shards of 256."
    elif number == 1280:
        missing = "1,280 photos are finished. The question is how many are not."
    elif number == 2532 - 6 * 256:
        missing = "the sixth shard was begun, not finished: it has no record, so it is computed anew."
    else:
        missing = f"{number:,} is not it. How many whole shards of 256 are in the first 1,500 photos?"
    raise NotYet(missing)


@exercise("08.2", "which of head, rate, photo, size, weight and epochs make a store compute again?")
def causes(answer: Any) -> str:
    right, others = {"photo", "size", "weight"}, {"head", "rate", "epochs"}
    given = {answer} if isinstance(answer, str) else set(answer)
    if unknown := given - right - others:
        missing = f"{quoted(sorted(map(str, unknown)))} is none of the words {quoted(sorted(right | others), 'or')}."
        raise NotYet(missing)
    if given == right:
        return "the photo, its size and the weights on the way to the boundary make the features. The rest comes later."
    if wrong := sorted(given & others):
        missing = f"{quoted(wrong)} changes what happens behind the boundary. The features do not depend on it."
    else:
        missing = f"{quoted(sorted(given)) or 'none'} is right, and not all. What else happens to a photo on its way?"
    raise NotYet(missing)


@exercise("08.3", "a store of ten training images at places.fine_tune_from, with two bytes for each number.")
def earlier_store(answer: Any, net: Network) -> str:
    if not isinstance(answer, FeatureStore):
        missing = f"the answer is a feature store, what helper.featurize(few, to=...) returns, not {_kind(answer)}."
        raise NotYet(missing)
    wanted = net.landmarks.fine_tune_from
    if wanted not in net.frozen or net.boundary() == (wanted,):
        missing = "`net` itself was frozen up to another boundary. Run the notebook again, and give the helper a copy."
    elif answer.names != (wanted,):
        missing = f"these are features of {quoted(answer.names)}. Name the boundary '{wanted}' to the helper."
    elif answer.dtype.itemsize != 2:
        missing = "each number has four bytes. featurize takes dtype=torch.float16."
    elif len(answer) != 10:
        missing = f"the store has {len(answer)} rows; 10 are asked for: flowers.train[:10]."
    else:
        return f"10 rows of '{wanted}' take {answer.nbytes:,} bytes, half of what float32 would."
    raise NotYet(missing)


# -- notebook 10: utilities -----------------------------------------------------------------------------------------


@exercise("10.1", "translate: freeze layer 0, ten outputs for layer 1, and a new output layer for five classes.")
def translated(answer: Any, chain: Network) -> str:
    net = as_network(answer)
    check_output(net, 5)
    first, second, _ = list(chain.vertices)
    if net is chain or len(net.vertices) != 3:
        missing = f"the network has {len(net.vertices)} layers; the Java code ends with three."
    elif net.frozen != {first}:
        missing = f"frozen: {quoted(sorted(net.frozen)) or 'no layer'}. .setFeatureExtractor(0) freezes layer 0 alone."
    elif net.vertices[second].module.out_features != 10:
        width = net.vertices[second].module.out_features
        missing = f"layer 1 has {width} outputs; .nOutReplace(1, 10, ...) gives it 10."
    else:
        return "the same layers, sizes and frozen mark. The new output's ten inputs were inferred."
    raise NotYet(missing)


@exercise("10.2", "all five daisies found, three of five roses taken for daisies: accuracy, and daisy's precision?")
def scores(answer: Any) -> str:
    accuracy, precision = map(float, answer)
    if abs(accuracy - 0.7) > 0.005:
        missing = f"{accuracy:g} is not the accuracy. How many of the ten images are right?"
    elif abs(precision - 0.625) <= 0.005:
        return "7 of 10 are right, and 5 of the 8 images that were called daisies are daisies."
    elif abs(precision - 1) <= 0.005:
        missing = "1 is the recall: all daisies were found. Precision asks about all images that were called daisies."
    else:
        missing = f"{precision:g} is not the precision. How many images were called daisies, and how many of them are?"
    raise NotYet(missing)


@exercise("10.3", "a listener that ends training as soon as a batch's loss is below 0.5.")
def loss_below(answer: Any) -> str:
    make = answer if isinstance(answer, type) else lambda: answer
    if not isinstance(make(), Listener):
        missing = f"the answer is a class made from tl.Listener, and this is {_kind(answer)}."
        raise NotYet(missing)
    learns, stays = _toy_run(make(), rate=1.0), _toy_run(make(), rate=1e-6)
    if stays.stopped:
        missing = f"it also ends a training whose loss stays at {stays.losses[-1]:.2f}. Compare training.loss with 0.5."
    elif not learns.stopped:
        missing = "training went on below a loss of 0.5. Call training.stop('a reason') in iteration_done."
    elif min(learns.losses) >= 0.5 or any(loss < 0.5 for loss in learns.losses[:-1]):
        missing = f"it ended training after losses down to {min(learns.losses):.2f}. End it at the first below 0.5."
    else:
        return f"training ended at a loss of {learns.losses[-1]:.2f}, the first below 0.5."
    raise NotYet(missing)


def _toy_run(listener: Listener, rate: float) -> History:
    """Train a tiny network to tell positive from negative numbers."""
    start = Network({}, inputs={"number": (1,)}, outputs=["number"])
    tuning = FineTuneConfiguration(updater=Sgd(lr=rate), weight_init="zero", seed=1)
    edits = TransferLearning(start).fine_tune_configuration(tuning).add_layer("sign", Output(n_out=2), "number")
    net = edits.set_outputs("sign").build()
    numbers = linspace(-1, 1, 20)[:, None]
    data = (numbers, (numbers[:, 0] > 0).long())
    return fit(net, data, epochs=40, batch_size=20, listeners=[listener], progress=False)
