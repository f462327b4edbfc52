"""What networks are trained and tested on: data sets with batches, and tuples of tensors made into one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tlkit.errors import quoted
from tlkit.graph.network import Network
from tlkit.training.labels import as_label_tensor, convert_labels

__all__ = ["TensorRows", "count_rows", "wrap_data"]


def wrap_data(data: Any, net: Network | None = None) -> Any:
    """Return a data set with batches: a tuple of tensors or arrays (x, y) is made into one, anything else is itself.

    Parameters
    ----------
    data : ImageSet, Features, FeatureStore or (x, y)
    net : Network, optional
        Whose inputs the data have to fit.

    Raises
    ------
    TypeError
        When it is none of these.
    ValueError
        When x and y have different numbers of rows, or the data don't fit the network or are empty.
    """
    if isinstance(data, tuple) and len(data) == 2:
        data = TensorRows(*data)
        if net is not None:
            data.labels = convert_labels(net, data.labels)
    if not hasattr(data, "batches"):
        hint = " Pass its .train or its .test." if hasattr(data, "train") else ""
        msg = f"Expected images, features or a tuple of tensors (x, y), got {type(data).__name__}.{hint}"
        raise TypeError(msg)
    if net is not None:
        _check_inputs(net, data)
    return data


def _check_inputs(net: Network, data: Any) -> None:
    names = getattr(data, "names", ()) or net.inputs[:1]
    if set(names) != set(net.inputs):
        msg = (
            f"The network reads {quoted(net.inputs)}, the data hold {quoted(names)}. Featurize again for this "
            "network's boundary; features train helper.unfrozen_network, images the whole network."
        )
        raise ValueError(msg)
    if len(data) == 0:
        msg = "There is nothing to train on: the data hold no examples."
        raise ValueError(msg)


class TensorRows:
    """A tuple of tensors (x, y) with the interface of a data set.

    Parameters
    ----------
    x : Tensor or NumPy array of shape (n, ...), or mapping of input name to such
        Arrays of float64, NumPy's own choice, become torch's default number type.
    labels : Tensor, array or sequence of shape (n,), or mapping of output name to such
    """

    classes: tuple[str, ...] = ()

    def __init__(self, x: Any, labels: Any) -> None:
        self.names = tuple(x) if isinstance(x, Mapping) else ()
        x, labels = _each(_as_tensor, x), _each(_as_tensor, labels)
        self.tensors = x[self.names[0]] if len(self.names) == 1 else x
        self.labels = _each(as_label_tensor, labels)
        counts = [[len(value) for value in _values(given)] for given in (x, self.labels)]
        if len({*counts[0], *counts[1]}) > 1:
            rows, found = (" and ".join(f"{count:,}" for count in dict.fromkeys(some)) for some in counts)
            msg = f"A tuple (x, y) holds one label for each row of x; got {rows} rows and {found} labels."
            raise ValueError(msg)

    def __len__(self) -> int:
        return count_rows(self.tensors)

    def batches(self, batch_size: int, order: Tensor | None = None) -> Iterator[tuple[Any, Any]]:
        """Yield batches as `FeatureRows.batches` does."""
        order = torch.arange(len(self)) if order is None else order
        for rows in order.split(batch_size):
            yield _take(self.tensors, rows), _take(self.labels, rows)


def count_rows(batch: Any) -> int:
    """Return the rows of a tensor, or of tensors by name."""
    return len(_values(batch)[0])


def _values(value: Any) -> list[Tensor]:
    return list(value.values()) if isinstance(value, Mapping) else [value]


def _each(change: Callable[[Any], Any], value: Any) -> Any:
    return {name: change(one) for name, one in value.items()} if isinstance(value, Mapping) else change(value)


def _as_tensor(value: Any) -> Any:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
        return value
    tensor = torch.as_tensor(value)
    return tensor.to(torch.get_default_dtype()) if tensor.dtype == torch.float64 else tensor


def _take(value: Any, rows: Tensor) -> Any:
    return {name: tensor[rows] for name, tensor in value.items()} if isinstance(value, Mapping) else value[rows]
