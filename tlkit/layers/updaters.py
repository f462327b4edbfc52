"""Updaters: DL4J's names over the optimizers of `torch.optim`."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from tlkit.errors import near_misses
from tlkit.layers.plain import make_from_plain

__all__ = [
    "AdaDelta",
    "AdaGrad",
    "AdaMax",
    "Adam",
    "AdamW",
    "Nadam",
    "Nesterovs",
    "RmsProp",
    "Sgd",
    "TorchUpdater",
    "Updater",
    "as_updater",
]


@dataclass(frozen=True)
class Updater:
    """A rule that turns gradients into steps, as data: the optimizer is made when training starts."""

    optimizer: ClassVar[str] = ""
    fixed: ClassVar[dict[str, Any]] = {}

    def __post_init__(self) -> None:
        for name, value in vars(self).items():  # lists, as JSON has them, would make two equal updaters differ
            object.__setattr__(self, name, _tuples(value))

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Make the `torch.optim` optimizer for some parameters."""
        return getattr(torch.optim, self.optimizer)(parameters, **self.options())

    def options(self) -> dict[str, Any]:
        """Keyword arguments of the optimizer."""
        return {**asdict(self), **self.fixed}

    def to_dict(self) -> dict[str, Any]:
        """Return the updater as plain data, for JSON."""
        return {"updater": type(self).__name__, **asdict(self)}


@dataclass(frozen=True)
class Sgd(Updater):
    """Gradient descent: step = lr x gradient."""

    optimizer: ClassVar[str] = "SGD"
    lr: float = 1e-3


@dataclass(frozen=True)
class Nesterovs(Updater):
    """Gradient descent with Nesterov's momentum. The first argument is the learning rate (in DL4J: the momentum)."""

    optimizer: ClassVar[str] = "SGD"
    fixed: ClassVar[dict[str, Any]] = {"nesterov": True}
    lr: float = 0.1
    momentum: float = 0.9


@dataclass(frozen=True)
class Adam(Updater):
    """Adaptive moments (Kingma and Ba, 2015)."""

    optimizer: ClassVar[str] = "Adam"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8


@dataclass(frozen=True)
class AdamW(Updater):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    optimizer: ClassVar[str] = "AdamW"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 1e-2


@dataclass(frozen=True)
class AdaMax(Updater):
    """Adam with the infinity norm."""

    optimizer: ClassVar[str] = "Adamax"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8


@dataclass(frozen=True)
class Nadam(Updater):
    """Adam with Nesterov's momentum (Dozat, 2016)."""

    optimizer: ClassVar[str] = "NAdam"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8


@dataclass(frozen=True)
class RmsProp(Updater):
    """Gradient divided by a running root mean square (Hinton's lecture notes, 2012)."""

    optimizer: ClassVar[str] = "RMSprop"
    lr: float = 0.1
    alpha: float = 0.95
    eps: float = 1e-8


@dataclass(frozen=True)
class AdaGrad(Updater):
    """Learning rate divided by the root of all squared gradients so far (Duchi et al., 2011)."""

    optimizer: ClassVar[str] = "Adagrad"
    lr: float = 0.1
    eps: float = 1e-6


@dataclass(frozen=True)
class AdaDelta(Updater):
    """AdaGrad with a decaying window (Zeiler, 2012)."""

    optimizer: ClassVar[str] = "Adadelta"
    lr: float = 1.0
    rho: float = 0.95
    eps: float = 1e-6


@dataclass(frozen=True)
class TorchUpdater(Updater):
    """Any optimizer of `torch.optim`, by its class name; made from ``functools.partial(torch.optim.X, ...)``."""

    name: str = "SGD"
    arguments: tuple[tuple[str, Any], ...] = ()

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Make the optimizer for some parameters."""
        return getattr(torch.optim, self.name)(parameters, **dict(self.arguments))

    def to_dict(self) -> dict[str, Any]:
        """Return the updater as plain data, for JSON."""
        return {"updater": "TorchUpdater", "name": self.name, "arguments": [list(pair) for pair in self.arguments]}


_KINDS = (Sgd, Nesterovs, Adam, AdamW, AdaMax, Nadam, RmsProp, AdaGrad, AdaDelta, TorchUpdater)
NAMED = {kind.__name__: kind for kind in _KINDS}


def as_updater(value: Any) -> Updater:
    """Return an updater for one of ours, ``functools.partial(torch.optim.X, ...)``, or the data of `to_dict`.

    Raises
    ------
    TypeError
        For anything else; a bare number is answered with how to give a learning rate.
    """
    if isinstance(value, Updater):
        return value
    if isinstance(value, functools.partial) and _is_torch_optimizer(value.func) and not value.args:
        return TorchUpdater(value.func.__name__, tuple(sorted(value.keywords.items())))
    if _is_torch_optimizer(value):
        return TorchUpdater(value.__name__)
    known = isinstance(value, dict) and value.get("updater") in NAMED
    if known and (
        value["updater"] != "TorchUpdater" or _is_torch_optimizer(getattr(torch.optim, str(value.get("name")), None))
    ):
        return _from_dict(value)
    msg = (
        f"An updater is one of {', '.join(NAMED)} (for example tl.Adam(lr=1e-3)) or "
        f"functools.partial(torch.optim.X, lr=...), got {value!r}.{near_misses(str(value), NAMED)}"
    )
    raise TypeError(msg)


def _is_torch_optimizer(value: Any) -> bool:
    return (
        isinstance(value, type)
        and issubclass(value, torch.optim.Optimizer)
        and getattr(torch.optim, value.__name__, None) is value
        and value not in (torch.optim.LBFGS, torch.optim.SparseAdam)  # they need a closure, and sparse gradients
    )


def _from_dict(data: dict[str, Any]) -> Updater:
    return make_from_plain(NAMED, "updater", data)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, (list, tuple)) else value
