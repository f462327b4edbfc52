"""Activations by name."""

from __future__ import annotations

from typing import Any

from torch import nn

from tlkit.errors import near_misses

__all__ = ["ACTIVATIONS", "make_activation", "get_activation_name", "check_activation", "is_activation"]

ACTIVATIONS = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "relu6": nn.ReLU6,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "tanh": nn.Tanh,
    "hard_tanh": nn.Hardtanh,
    "sigmoid": nn.Sigmoid,
    "hard_sigmoid": nn.Hardsigmoid,
    "hard_swish": nn.Hardswish,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "softmax": lambda: nn.Softmax(dim=1),
    "identity": nn.Identity,
}
_KINDS = tuple({type(make()) for make in ACTIVATIONS.values()} - {nn.Identity} | {nn.PReLU})


def check_activation(name: str) -> str:
    """Return the name as the table spells it.

    Raises
    ------
    ValueError
        For an unknown name; the message lists the table.
    """
    key = str(name).lower()
    for known in ACTIVATIONS:
        if key.replace("_", "") == known.replace("_", ""):
            return known
    msg = f"activation is one of {', '.join(ACTIVATIONS)}, got {name!r}.{near_misses(key, ACTIVATIONS)}"
    raise ValueError(msg)


def make_activation(name: str | None) -> nn.Module | None:
    """Return a new module for a name; None for None and "identity"."""
    if name is None or check_activation(name) == "identity":
        return None
    return ACTIVATIONS[check_activation(name)]()


def get_activation_name(module: nn.Module | None) -> str:
    """Return the table's name of an activation module, or its class's name if it has none."""
    if module is None:
        return "identity"
    names = {type(make()): name for name, make in ACTIVATIONS.items()}
    return names.get(type(module), type(module).__name__)


def is_activation(module: Any) -> bool:
    """Say whether a module is an activation (PReLU, which has weights, included)."""
    return isinstance(module, _KINDS)
