"""Weight initialization by DL4J's names and formulas."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from tlkit.errors import near_misses
from tlkit.layers.plain import make_from_plain

__all__ = [
    "SCHEMES",
    "Constant",
    "Distribution",
    "LogNormal",
    "Normal",
    "Orthogonal",
    "TruncatedNormal",
    "Uniform",
    "as_weight_init",
    "make_generator",
    "initialize",
]


@dataclass(frozen=True)
class Distribution:
    """A distribution to draw weights from."""

    def fill(self, weight: Tensor, generator: torch.Generator) -> None:
        """Overwrite `weight` with draws."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return the distribution as plain data, for JSON."""
        return {"distribution": type(self).__name__, **asdict(self)}


@dataclass(frozen=True)
class Normal(Distribution):
    """Gaussian with a mean and a standard deviation."""

    mean: float = 0.0
    std: float = 1.0

    def fill(self, weight: Tensor, generator: torch.Generator) -> None:
        weight.normal_(self.mean, self.std, generator=generator)


@dataclass(frozen=True)
class Uniform(Distribution):
    """Uniform between two bounds."""

    low: float = -1.0
    high: float = 1.0

    def fill(self, weight: Tensor, generator: torch.Generator) -> None:
        weight.uniform_(self.low, self.high, generator=generator)


@dataclass(frozen=True)
class Constant(Distribution):
    """One value everywhere."""

    value: float = 0.0

    def fill(self, weight: Tensor, generator: torch.Generator) -> None:
        weight.fill_(self.value)


@dataclass(frozen=True)
class LogNormal(Distribution):
    """Exponential of a Gaussian."""

    mean: float = 0.0
    std: float = 1.0

    def fill(self, weight: Tensor, generator: torch.Generator) -> None:
        weight.log_normal_(self.mean, self.std, generator=generator)


@dataclass(frozen=True)
class TruncatedNormal(Distribution):
    """Gaussian cut off two standard deviations from its mean."""

    mean: float = 0.0
    std: float = 1.0

    def fill(self, weight: Tensor, generator: torch.Generator) -> None:
        low, high = self.mean - 2 * self.std, self.mean + 2 * self.std
        torch.nn.init.trunc_normal_(weight, self.mean, self.std, low, high, generator=generator)


@dataclass(frozen=True)
class Orthogonal(Distribution):
    """A random orthogonal matrix, scaled (Saxe et al., 2013)."""

    gain: float = 1.0

    def fill(self, weight: Tensor, generator: torch.Generator) -> None:
        torch.nn.init.orthogonal_(weight, self.gain, generator=generator)


# name -> (family, spread as a function of fan in and fan out): standard deviation of a normal, bound of a uniform
SCHEMES = {
    "xavier": ("normal", lambda i, o: math.sqrt(2 / (i + o))),
    "xavier_uniform": ("uniform", lambda i, o: math.sqrt(6 / (i + o))),
    "xavier_fan_in": ("normal", lambda i, o: math.sqrt(1 / i)),
    "relu": ("normal", lambda i, o: math.sqrt(2 / i)),
    "relu_uniform": ("uniform", lambda i, o: math.sqrt(6 / i)),
    "lecun": ("normal", lambda i, o: math.sqrt(1 / i)),
    "lecun_normal": ("normal", lambda i, o: math.sqrt(1 / i)),
    "lecun_uniform": ("uniform", lambda i, o: math.sqrt(3 / i)),
    "normal": ("normal", lambda i, o: math.sqrt(1 / i)),
    "uniform": ("uniform", lambda i, o: math.sqrt(1 / i)),
    "sigmoid_uniform": ("uniform", lambda i, o: 4 * math.sqrt(6 / (i + o))),
    "zero": ("uniform", lambda i, o: 0.0),
    "ones": ("constant", lambda i, o: 1.0),
    "identity": ("identity", lambda i, o: 1.0),
}
_DISTRIBUTIONS = {kind.__name__: kind for kind in (Normal, Uniform, Constant, LogNormal, TruncatedNormal, Orthogonal)}


def as_weight_init(value: Any) -> str | Distribution:
    """Return a scheme's name or a distribution, also from the data of `Distribution.to_dict`.

    Raises
    ------
    ValueError
        For an unknown scheme; the message lists them.
    """
    if isinstance(value, Distribution):
        return value
    if isinstance(value, dict):
        return make_from_plain(_DISTRIBUTIONS, "distribution", value)
    if isinstance(value, str) and value.lower() in SCHEMES:
        return value.lower()
    msg = (
        f"weight_init is one of {', '.join(SCHEMES)} or a distribution such as tl.Normal(0, 0.01), got {value!r}."
        f"{near_misses(str(value), SCHEMES)}"
    )
    raise ValueError(msg)


@torch.no_grad()
def initialize(weight: Tensor, scheme: str | Distribution, generator: torch.Generator) -> None:
    """Overwrite a weight of shape (out, in, ...) by a scheme's name or a distribution.

    Formulas are DL4J's: "xavier" is normal with variance 2 / (fan_in + fan_out) (Glorot and Bengio, 2010), "relu"
    normal with variance 2 / fan_in (He et al., 2015), "lecun" normal with variance 1 / fan_in. "lecun_uniform" keeps
    this variance, as its paper has it (DL4J's draws are wider by a factor of sqrt(3)).
    """
    scheme = as_weight_init(scheme)
    if weight.is_meta:
        return
    if weight.device.type != "cpu":  # the generator's device: the draws are the same on every machine
        drawn = torch.empty(weight.shape, dtype=weight.dtype)
        initialize(drawn, scheme, generator)
        weight.copy_(drawn)
        return
    if isinstance(scheme, Distribution):
        scheme.fill(weight, generator)
        return
    family, spread = SCHEMES[scheme]
    area = math.prod(weight.shape[2:])
    size = spread(weight.shape[1] * area, weight.shape[0] * area)
    if family == "normal":
        weight.normal_(0, size, generator=generator)
    elif family == "uniform":
        weight.uniform_(-size, size, generator=generator)
    elif family == "constant":
        weight.fill_(size)
    else:
        _identity(weight)


def _identity(weight: Tensor) -> None:
    if weight.ndim != 2 or weight.shape[0] != weight.shape[1]:
        msg = f"weight_init='identity' needs a square layer, got a weight of shape {tuple(weight.shape)}."
        raise ValueError(msg)
    torch.nn.init.eye_(weight)


def make_generator(seed: int, name: str) -> torch.Generator:
    """Return a generator that depends on the seed and the vertex's name only.

    So a network's new weights do not depend on the order in which its layers were added.
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
