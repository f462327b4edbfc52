"""A call of `tl.fit` or of a helper's `fit_featurized` that is yet to be made."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from tlkit.errors import near_misses, quoted
from tlkit.graph.network import Network
from tlkit.helper import TransferLearningHelper
from tlkit.training.data import wrap_data
from tlkit.training.listeners import Listener
from tlkit.training.loop import History, fit

__all__ = ["TrainingCall"]

NAMED = ("net", "data", "features")  # written first, by these names
LEFT_OUT = ("listeners", "progress")  # written last, or never: the monitor shows progress itself
LONGEST = 110  # letters in a line of code
LITERALS = (int, float, str, bool, type(None))


class TrainingCall:
    """A function that trains, with its arguments, as `functools.partial` would hold them.

    Parameters
    ----------
    function : callable
        `tl.fit`, or `fit_featurized` of a `TransferLearningHelper`.
    *arguments, **options
        What it is called with.
    test : ImageSet, Features, FeatureStore or (x, y), optional
        What accuracy is measured on.
    test_every : int, optional
        Iterations between two measurements; an epoch when left out.

    Attributes
    ----------
    name : str
        "tl.fit" or "helper.fit_featurized".
    net : Network
        What is trained.
    per_epoch, epochs, iterations, batch_size : int
        How much work it is.

    Raises
    ------
    TypeError, ValueError
        When the function is another one, or its arguments don't fit.
    """

    def __init__(
        self,
        function: Callable[..., History],
        *arguments: Any,
        test: Any = None,
        test_every: int | None = None,
        **options: Any,
    ) -> None:
        self.name = _name(function)
        self.function = function
        self.arguments = _bound(self.name, function, arguments, options)
        helper = getattr(function, "__self__", None)
        self.net: Network = helper.unfrozen_network if helper else self.arguments["net"]
        data = wrap_data(self.arguments["features" if helper else "data"], self.net)
        values = {**_defaults(function), **self.arguments}
        self.batch_size, self.epochs = values["batch_size"], values["epochs"]
        self.per_epoch = -(-len(data) // max(self.batch_size, 1))  # what is wrong about amounts, the call will say
        whole = self.epochs * self.per_epoch
        self.iterations = min(whole, values["max_iterations"] or whole)
        self.test = None if test is None else wrap_data(test, self.net)
        self.test_every = self.per_epoch if test_every is None else test_every
        if test is None and test_every is not None:
            msg = "test_every says how often to test, but there is nothing to test on. Give test=flowers.test, too."
            raise ValueError(msg)

    def __call__(self, listeners: Sequence[Listener]) -> History:
        """Make the call, with these listeners behind its own."""
        own = self.arguments.get("listeners") or ()
        return self.function(**{**self.arguments, "listeners": [*own, *listeners], "progress": False})

    @property
    def code(self) -> str:
        """The call as Python; data go by the names of the parameters."""
        named = [name for name in self.arguments if name in NAMED]
        options = [
            f"{name}={value!r}" if isinstance(value, LITERALS) else f"{name}={name}"
            for name, value in self.arguments.items()
            if name not in (*NAMED, *LEFT_OUT)
        ]
        own = bool(self.arguments.get("listeners"))
        if self.test is not None:
            tests = f"tl.EvaluateEvery({self.test_every}, test)"
            options.append(f"listeners=[*listeners, {tests}]" if own else f"listeners=[{tests}]")
        elif own:
            options.append("listeners=listeners")
        line = f"history = {self.name}({', '.join([*named, *options])})"
        if len(line) <= LONGEST:
            return line
        below = "".join(f"    {argument},\n" for argument in [*named, *options])
        return f"history = {self.name}(\n{below})"


def _name(function: Any) -> str:
    if function is fit:
        return "tl.fit"
    if isinstance(getattr(function, "__self__", None), TransferLearningHelper) and function.__name__ == (
        "fit_featurized"
    ):
        return "helper.fit_featurized"
    called = " It was called already: write tl.fit, net, data, ..." if isinstance(function, History) else ""
    what = getattr(function, "__name__", None) or type(function).__name__
    msg = (
        f"A TrainingMonitor takes a function that trains and then what it is called with, such as "
        f"TrainingMonitor(tl.fit, net, flowers.train, epochs=3); the function is tl.fit or helper.fit_featurized, "
        f"got {what}.{called}"
    )
    raise TypeError(msg)


def _bound(name: str, function: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    signature = inspect.signature(function)
    for option in options:
        if option not in signature.parameters:
            known = [*signature.parameters, "test", "test_every"]
            msg = f"{name} has no parameter '{option}'.{near_misses(option, known)} It has {quoted(known[:-2])}."
            raise TypeError(msg)
    try:
        return dict(signature.bind(*arguments, **options).arguments)
    except TypeError as error:
        msg = f"{name}: {error}. Write what it is called with behind it: TrainingMonitor(tl.fit, net, data, epochs=3)."
        raise TypeError(msg) from error


def _defaults(function: Any) -> dict[str, Any]:
    return {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
