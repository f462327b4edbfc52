"""Modules: what runs in a vertex. torch's layers with what belongs to them, and what joins several inputs."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tlkit.layers.activations import make_activation
from tlkit.layers.initializers import Distribution, initialize
from tlkit.layers.losses import ACTIVATION_OF, average_loss
from tlkit.layers.noise import DropConnect

__all__ = [
    "Answering",
    "ElementWise",
    "Layer",
    "Loss",
    "Merge",
    "NORMS",
    "OutputLayer",
    "Subset",
    "TokenPool",
    "WEIGHT_LAYERS",
    "as_layer",
    "draw_weights",
    "is_depthwise",
    "is_transparent",
    "is_weight_layer",
    "resize",
    "resize_norm",
]

WEIGHT_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Layer:
    """Mixed into a torch weight layer: dropout on its input, normalization and activation on its output.

    The layer stays what it was (``isinstance(layer, nn.Linear)``) and its weights keep their names
    (``layer.weight``), so a vertex's keys in `state_dict` are ``fc1.weight`` and ``fc1.bias``.
    """

    dropout: nn.Module | None
    norm: nn.Module | None
    activation: nn.Module | None
    weight_noise: DropConnect | None

    def preactivation(self, x: Tensor) -> Tensor:
        """Return the layer's output before its activation."""
        if self.dropout is not None:
            x = self.dropout(x)
        x = super().forward(x) if self.weight_noise is None or not self.training else self._with_noise(x)
        return x if self.norm is None else self.norm(x)

    def _with_noise(self, x: Tensor) -> Tensor:
        weight = self.weight_noise(self.weight)
        if isinstance(self, nn.Linear):
            return F.linear(x, weight, self.bias)
        return self._conv_forward(x, weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.preactivation(x)
        return x if self.activation is None else self.activation(x)

    def __reduce_ex__(self, protocol: int) -> tuple[Any, ...]:
        return _blank, (self.mixin, self.torch_class), self.__dict__  # the class is made on the fly: pickle its parts


class Answering:
    """Mixed into a module whose output is trained: it knows its loss."""

    loss: str
    loss_weight: float

    def compute_loss(self, preactivation: Tensor, labels: Tensor) -> Tensor:
        """Return the weighted mean loss over a batch, fused with the activation."""
        loss = average_loss(self.loss, self.activation, preactivation, labels)
        return loss if self.loss_weight == 1 else self.loss_weight * loss


class OutputLayer(Answering, Layer):
    """A layer that answers and knows its loss."""


@functools.cache
def _mixed(mixin: type, kind: type) -> type:
    return type(kind.__name__, (mixin, kind), {"__module__": kind.__module__, "mixin": mixin, "torch_class": kind})


def _blank(mixin: type, kind: type) -> nn.Module:
    mixed = _mixed(mixin, kind)
    return mixed.__new__(mixed)


def as_layer(module: nn.Module, mixin: type = Layer) -> nn.Module:
    """Turn a torch weight layer into a `Layer`, in place, with nothing around it yet."""
    if not isinstance(module, Layer):
        module.__class__ = _mixed(mixin, type(module))
        module.dropout = module.norm = module.activation = module.weight_noise = None
    return module


def is_weight_layer(module: nn.Module) -> bool:
    """Say whether a vertex's module is a single linear or convolutional layer, whose width can be changed."""
    return isinstance(module, Layer) and isinstance(module, WEIGHT_LAYERS)


def is_depthwise(module: nn.Module) -> bool:
    """Say whether a convolution treats every channel alone, so that its width follows its input."""
    return getattr(module, "groups", 1) > 1 and module.groups == module.in_channels == module.out_channels


def resize(layer: nn.Module, n_in: int | None = None, n_out: int | None = None) -> nn.Module:
    """Return a new layer of another width, with undrawn weights, the old one's form and what belongs to it.

    Raises
    ------
    ValueError
        When a grouped convolution's groups don't divide the new width.
    """
    if isinstance(layer, nn.Linear):
        new = nn.Linear(n_in or layer.in_features, n_out or layer.out_features, bias=layer.bias is not None)
    else:
        new = _resize_convolution(layer, n_in or layer.in_channels, n_out or layer.out_channels)
    loss = getattr(layer, "loss", None)
    as_layer(new, Layer if loss is None else OutputLayer)
    if loss is not None:
        new.loss, new.loss_weight = loss, layer.loss_weight
    new.dropout, new.activation, new.weight_noise = layer.dropout, layer.activation, layer.weight_noise
    if layer.norm is not None:
        new.norm = resize_norm(layer.norm, n_out or layer.norm.num_features)
    return new.to(dtype=layer.weight.dtype, device=layer.weight.device)


def _resize_convolution(layer: nn.Module, n_in: int, n_out: int) -> nn.Module:
    groups = layer.groups
    if is_depthwise(layer):
        groups = n_out = n_in
    if n_in % groups or n_out % groups:
        msg = f"A convolution with {groups} groups needs inputs and outputs divisible by it, got {n_in} and {n_out}."
        raise ValueError(msg)
    return layer.torch_class(
        n_in,
        n_out,
        layer.kernel_size,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=groups,
        bias=layer.bias is not None,
        padding_mode=layer.padding_mode,
    )


def resize_norm(norm: nn.Module, n: int) -> nn.Module:
    """Return a fresh batch normalization over `n` channels with the old one's constants."""
    new = type(norm)(n, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    like = next(iter([*norm.parameters(), *norm.buffers()]), None)
    return new if like is None else new.to(device=like.device, dtype=like.dtype)


def draw_weights(
    layer: nn.Module, weight_init: str | Distribution | None, bias_init: float | None, generator: torch.Generator
) -> None:
    """Initialize a layer's weight by a scheme ("xavier" if None) and its bias by a value (0 if None)."""
    initialize(layer.weight.data, weight_init or "xavier", generator)
    if layer.bias is not None:
        layer.bias.data.fill_(bias_init or 0.0)


class ElementWise(nn.Module):
    def __init__(self, operation: str) -> None:
        super().__init__()
        self.operation = operation

    def forward(self, *values: Tensor) -> Tensor:
        return OPERATIONS[self.operation](values)

    def extra_repr(self) -> str:
        return self.operation


OPERATIONS = {
    "add": lambda values: functools.reduce(torch.add, values),
    "subtract": lambda values: functools.reduce(torch.sub, values),
    "product": lambda values: functools.reduce(torch.mul, values),
    "average": lambda values: functools.reduce(torch.add, values) / len(values),
    "max": lambda values: functools.reduce(torch.maximum, values),
}


class Loss(Answering, nn.Module):
    def __init__(self, loss: str, loss_weight: float) -> None:
        super().__init__()
        self.loss, self.loss_weight = loss, loss_weight
        self.activation = make_activation(ACTIVATION_OF[loss]) or nn.Identity()

    def preactivation(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(x)


class Merge(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, *values: Tensor) -> Tensor:
        return torch.cat(values, dim=self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Subset(nn.Module):
    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.start : self.stop]


class TokenPool(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1) if self.kind == "average" else x.amax(1)

    def extra_repr(self) -> str:
        return self.kind


def is_transparent(module: nn.Module) -> bool:
    """Say whether a change of width passes straight through: no weights that fix it, or batch norm, or depthwise."""
    if isinstance(module, Layer):
        return is_depthwise(module)
    return isinstance(module, NORMS) or not any(math.prod(p.shape) for p in module.parameters())
