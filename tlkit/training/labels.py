"""Labels: brought into the form that the losses take where their meaning is clear, and refused where they have none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tlkit.errors import quoted
from tlkit.graph.network import Network
from tlkit.layers.losses import MISSING, is_known

__all__ = ["as_label_tensor", "check_labels", "convert_labels", "list_trained_outputs"]

CLASSES_LOSS = "negative_log_likelihood"
YES_OR_NO = ("binary_cross_entropy", "hinge")  # losses whose labels are between 0 and 1
OFF_BY = 1e-2  # what class probabilities may lack of 1, in half precision too


def list_trained_outputs(net: Network) -> list[str]:
    """Leave out frozen outputs, and what the trainable half of a split network hands on from the frozen half."""
    constant = net.frozen - net.passing
    return [name for name in net.outputs if name in net.vertices and name not in constant]


def as_label_tensor(labels: Any) -> Tensor:
    """Return labels as a tensor: whole numbers and truth values as int64, those of shape (n, 1) as (n,).

    Raises
    ------
    TypeError
        When they are no numbers.
    """
    try:
        labels = torch.as_tensor(labels)
    except (TypeError, ValueError) as error:
        msg = "Labels are numbers, for example each row's position in the list of classes; these are not: " + str(error)
        raise TypeError(msg) from error
    if labels.is_floating_point():
        return labels
    labels = labels.long()
    return labels.squeeze(1) if labels.ndim == 2 and labels.shape[1] == 1 else labels


def convert_labels(net: Network, labels: Any) -> Any:
    """Return class numbers where they stand as whole floats, or as a single 1 in each row; other labels as they are."""
    if isinstance(labels, Mapping):
        known = {name: net.vertices[name].module for name in list_trained_outputs(net)}
        return {name: _convert(known[name], value) if name in known else value for name, value in labels.items()}
    outputs = list_trained_outputs(net)
    return _convert(net.vertices[outputs[0]].module, labels) if len(outputs) == 1 else labels


def _convert(module: nn.Module, labels: Tensor) -> Tensor:
    units = getattr(module, "out_features", 0)
    if getattr(module, "loss", None) != CLASSES_LOSS or not labels.numel():
        return labels
    if labels.is_floating_point():
        single = labels.squeeze(1) if labels.ndim == 2 and labels.shape[1] == 1 else labels
        whole = single.ndim == 1 and bool((single.frac().nan_to_num(0.0) == 0).all())
        return single.nan_to_num(MISSING).long() if whole else labels
    one_hot = labels.ndim == 2 and labels.shape[1] == units
    if one_hot and bool(((labels == 0) | (labels == 1)).all() & (labels.sum(1) == 1).all()):
        return labels.argmax(1)
    return labels


def check_labels(net: Network, labels: Any) -> None:
    """Refuse labels that the losses of the trained outputs cannot mean.

    Parameters
    ----------
    net : Network
    labels : Tensor of shape (n, ...), or mapping of output name to Tensor

    Raises
    ------
    ValueError
        When they are for other outputs, of another number type or shape, or outside of what the loss compares with.
    """
    if isinstance(labels, Mapping) and set(labels) != set(net.outputs):
        msg = f"The network answers with {quoted(net.outputs)}, the labels are for {quoted(labels)}."
        raise ValueError(msg)
    for name in list_trained_outputs(net):
        module = net.vertices[name].module
        given = labels[name] if isinstance(labels, Mapping) else labels
        units = getattr(module, "out_features", None)
        shape = (units,) if units else net.output_shapes()[name]
        loss = getattr(module, "loss", None)
        if loss == CLASSES_LOSS:
            _check_class_labels(name, given, shape)
        elif given.ndim == 1 and not given.is_floating_point() and shape[0] > 1:
            _check_class_numbers(name, given, shape[0])
        elif loss in YES_OR_NO:
            _check_yes_or_no(name, given, loss)


def _check_class_labels(name: str, labels: Tensor, shape: tuple[int, ...]) -> None:
    classes, places = shape[0], labels.ndim - 1
    if labels.is_floating_point() and labels.shape[1:] == shape:
        _check_probabilities(name, labels)
    elif labels.dtype == torch.long and places == len(shape) - 1:
        _check_class_numbers(name, labels, classes)
    else:
        rows = len(labels)
        msg = (
            f"The output '{name}' tells {classes} classes apart. Its labels are int64 class numbers of shape "
            f"{(rows, *shape[1:])}, or float probabilities of shape {(rows, *shape)}; got "
            f"{str(labels.dtype).removeprefix('torch.')} of shape {tuple(labels.shape)}."
        )
        raise ValueError(msg)


def _check_probabilities(name: str, labels: Tensor) -> None:
    sums = labels.sum(1)
    known = ~sums.isnan()
    wrong = known & ((sums - 1).abs().gt(OFF_BY) | labels.lt(0).any(1))
    if wrong.any():
        row = int(wrong.nonzero()[0, 0])
        msg = (
            f"Labels of shape {tuple(labels.shape)} are a probability for each class of the output '{name}', so every "
            f"row has values from 0 on that add up to 1; row {row} is {np.round(labels[row].tolist(), 3).tolist()}. "
            "Divide each row by its sum, or use loss='binary_cross_entropy' where several classes may be true."
        )
        raise ValueError(msg)


def _check_class_numbers(name: str, labels: Tensor, classes: int) -> None:
    labels = labels[is_known(labels)]
    if not len(labels):
        msg = f"Every label of the output '{name}' is missing ({MISSING}), so there is nothing to train on."
        raise ValueError(msg)
    low, high = int(labels.min()), int(labels.max())
    if not 0 <= low <= high < classes:
        msg = (
            f"The output '{name}' tells {classes} classes apart, numbered from 0 to {classes - 1}; the labels go from "
            f"{low} to {high}. Give it one unit for each class."
        )
        raise ValueError(msg)


def _check_yes_or_no(name: str, labels: Tensor, loss: str) -> None:
    known = labels[is_known(labels)]
    if len(known) and not 0 <= known.min() <= known.max() <= 1:
        msg = (
            f"The output '{name}' is trained with loss='{loss}', which compares each unit with a label between 0 (no) "
            f"and 1 (yes); the labels go from {float(known.min()):g} to {float(known.max()):g}. For class numbers use "
            "tl.Output(n_classes), for other numbers loss='mean_squared_error'."
        )
        raise ValueError(msg)
