"""Checks of the exercises: whether an answer is right, and if not, what to look at."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

from tlkit.colors import RIGHT, WRONG
from tlkit.errors import near_misses, quoted
from tlkit.graph.network import Network
from tlkit.graph.stages import group_stages
from tlkit.layers.modules import OutputLayer

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
        edge = f"6px solid {RIGHT}" if self.right else f"6px dashed {WRONG}"
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


def _registered() -> dict[str, Exercise]:
    from tlkit.course import exercises  # noqa: F401 - importing it registers them; they import this module

    return _EXERCISES


def tasks() -> dict[str, str]:
    """Return the tasks of all exercises that have a check, by number."""
    return {number: known.task for number, known in sorted(_registered().items())}


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
    >>> import tlkit as tl
    >>> tl.check("05.1")
    Not yet: there is no answer so far. The task: seven kinds of flowers instead of five: how many parameters ...
    """
    known = _registered().get(str(number))
    if known is None:
        numbers = sorted(_registered())
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
        return Checked(False, f"the check cannot read this answer, {_named(answer)} ({why}). {task}")


# -- what several checks ask ----------------------------------------------------------------------------------------


def as_number(answer: Any) -> int:
    """Return a whole number; other kinds of answers are told what is expected."""
    if isinstance(answer, bool) or not hasattr(answer, "__index__"):
        if isinstance(answer, float) and answer.is_integer():
            return int(answer)
        missing = f"the answer is a whole number such as 1234, and this is {kind_of(answer)}."
        raise NotYet(missing)
    return answer.__index__()


def as_network(answer: Any) -> Network:
    """Return a network; other kinds of answers are told what is expected."""
    if isinstance(answer, Network):
        return answer
    if hasattr(answer, "build"):
        missing = "this is a builder whose edits are only recorded. End it with .build() to get the network."
        raise NotYet(missing)
    missing = f"the answer is a network, what .build() returns, and this is {kind_of(answer)}."
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
    blocks = [names for names in group_stages(before) if any(letter.isdigit() for letter in names[0])]
    order = list(before)
    first = order.index(blocks[-1][0]) if len(blocks) > 1 else 0
    return order[first - 1] if first and order[first - 1] in net.cut_points else net.landmarks.fine_tune_from


def kind_of(answer: Any) -> str:
    """Say in a few words what an answer is."""
    return f"{_named(answer)}: {answer!r:.60}" if isinstance(answer, (str, int, float)) else _named(answer)


def _named(answer: Any) -> str:
    name = type(answer).__name__
    return f"{'an' if name[0] in 'AEIOUaeio' else 'a'} {name}"


def changed_vertices(net: Network, other: Network) -> list[str]:
    """Return the vertices of a network whose weights are not the same in another one, or not there."""
    values = other.state_dict()
    changed = [key for key, value in net.state_dict().items() if key not in values or not value.equal(values[key])]
    return list(dict.fromkeys(key.split(".")[0] for key in changed))
