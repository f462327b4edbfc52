"""Losses: what training makes small, fused with the activation where that is more exact."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tlkit.errors import near_misses
from tlkit.layers.activations import get_activation_name

__all__ = ["ACTIVATION_OF", "MISSING", "check_loss", "check_output", "is_known", "average_loss"]

MISSING = -100  # a class number that is not known, as in torch; among numbers a missing label is NaN
SMALLEST = 1e-7  # probability that a logarithm is taken of

# loss -> the activation that belongs to it
ACTIVATION_OF = {
    "negative_log_likelihood": "softmax",
    "binary_cross_entropy": "sigmoid",
    "mean_squared_error": "identity",
    "hinge": "identity",
}

PROBABILITIES = {"softmax": ("softmax",), "sigmoid": ("sigmoid", "hard_sigmoid")}  # what stands for an activation


def average_loss(name: str, activation: nn.Module | None, raw: Tensor, labels: Tensor) -> Tensor:
    """Return the mean loss of a batch over the labels that are known.

    Parameters
    ----------
    name : str
        One of `ACTIVATION_OF`.
    activation : nn.Module or None
        What turns `raw` into answers; computed together with the loss where it is the loss's own.
    raw : Tensor of shape (n, units, ...)
        Values before the activation.
    labels : Tensor
        Class numbers of shape (n, ...), or one number for each value of `raw`.
    """
    total, present = _LOSSES[name](activation, raw, labels)
    return total / present.sum().clamp(min=1)


def is_known(labels: Tensor) -> Tensor:
    """Say which labels are known: no NaN among numbers, not -100 among class numbers."""
    return ~labels.isnan() if labels.is_floating_point() else labels != MISSING


def check_loss(name: str) -> str:
    """Return the name of a loss.

    Raises
    ------
    ValueError
        For an unknown one.
    """
    if name not in ACTIVATION_OF:
        msg = f"loss is one of {', '.join(ACTIVATION_OF)}, got {name!r}.{near_misses(name, ACTIVATION_OF)}"
        raise ValueError(msg)
    return name


def check_output(name: str, loss: str, activation: nn.Module | None, units: int) -> None:
    """Refuse an output whose activation and loss contradict each other (DL4J's OutputLayerUtil).

    Raises
    ------
    ValueError
        When they do; the message names the vertex and the way out.
    """
    kind = get_activation_name(activation)
    wanted = ACTIVATION_OF[loss]
    if kind == "softmax" and units == 1:
        problem = "A softmax over one class always answers 1. Use n_out=2, or loss='binary_cross_entropy'"
    elif wanted in PROBABILITIES and kind not in PROBABILITIES[wanted]:
        problem = (
            f"The loss '{loss}' needs the answers of the activation '{wanted}', got '{kind}'. Leave the activation "
            f"out, or choose another loss: {', '.join(ACTIVATION_OF)}"
        )
    else:
        return
    msg = (
        f"The output '{name}' cannot be meant. {problem}. To have it all the same: build(validate_output_layer=False)."
    )
    raise ValueError(msg)


def _negative_log_likelihood(activation: nn.Module | None, raw: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    fused = isinstance(activation, nn.Softmax)
    logarithms = F.log_softmax(raw, 1) if fused else _answers(activation, raw).clamp(min=SMALLEST).log()
    present = is_known(labels)
    if labels.is_floating_point():  # a probability for each class
        present = present.all(1)
        return _total(-(labels.nan_to_num(0.0) * logarithms).sum(1), present), present
    return F.nll_loss(logarithms, labels, ignore_index=MISSING, reduction="sum"), present


def _binary_cross_entropy(activation: nn.Module | None, raw: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    targets, present = _targets(raw, labels)
    if isinstance(activation, nn.Sigmoid):
        return _total(F.binary_cross_entropy_with_logits(raw, targets, reduction="none"), present), present
    answers = _answers(activation, raw).clamp(SMALLEST, 1 - SMALLEST)
    return _total(F.binary_cross_entropy(answers, targets, reduction="none"), present), present


def _mean_squared_error(activation: nn.Module | None, raw: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    targets, present = _targets(raw, labels)
    return _total(F.mse_loss(_answers(activation, raw), targets, reduction="none"), present), present


def _hinge(activation: nn.Module | None, raw: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    targets, present = _targets(raw, labels)
    signs = 2 * targets - 1
    return _total(F.relu(1 - signs * _answers(activation, raw)), present), present


_Loss = Callable[[nn.Module | None, Tensor, Tensor], tuple[Tensor, Tensor]]
_LOSSES: dict[str, _Loss] = {
    "negative_log_likelihood": _negative_log_likelihood,
    "binary_cross_entropy": _binary_cross_entropy,
    "mean_squared_error": _mean_squared_error,
    "hinge": _hinge,
}


def _total(values: Tensor, present: Tensor) -> Tensor:
    return values.masked_fill(~present, 0.0).sum()


def _answers(activation: nn.Module | None, raw: Tensor) -> Tensor:
    return raw if activation is None else activation(raw)


def _targets(raw: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Give labels the shape and type of what they are compared with, and say which are known.

    (n,) for a single unit becomes (n, 1); class numbers become 1 for their class and 0 for the others.
    """
    present = is_known(labels)
    single = labels.ndim == raw.ndim - 1
    if single and raw.shape[1] == 1:
        labels, present = labels.unsqueeze(1), present.unsqueeze(1)
    elif single and not labels.is_floating_point():
        present = present.unsqueeze(1).expand(raw.shape)
        classes = torch.arange(raw.shape[1], device=raw.device).reshape(1, -1, *[1] * (raw.ndim - 2))
        labels = labels.unsqueeze(1) == classes
    if labels.shape != raw.shape:
        msg = f"This loss compares values of shape {tuple(raw.shape)} with labels, got shape {tuple(labels.shape)}."
        raise ValueError(msg)
    return labels.to(raw.dtype).nan_to_num(0.0), present
