"""What networks are trained and tested on: data sets with batches, and tuples of tensors made into one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from tlkit.errors import quoted
from tlkit.graph.network import Network

__all__ = ["TensorRows", "count_rows", "wrap_data"]


def wrap_data(data: Any, net: Network | None = None) -> Any:
    """Return a data set with batches: a tuple of tensors (x, y) is made into one, anything else is itself.

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
    x : Tensor of shape (n, ...), or mapping of input name to Tensor
    labels : Tensor of shape (n,), or mapping of output name to Tensor
    """

    classes: tuple[str, ...] = ()

    def __init__(self, x: Tensor | Mapping[str, Tensor], labels: Any) -> None:
        self.names = tuple(x) if isinstance(x, Mapping) else ()
        self.tensors = x[self.names[0]] if len(self.names) == 1 else x
        self.labels = labels if isinstance(labels, Mapping) else torch.as_tensor(labels)
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


def _take(value: Any, rows: Tensor) -> Any:
    return {name: tensor[rows] for name, tensor in value.items()} if isinstance(value, Mapping) else value[rows]
