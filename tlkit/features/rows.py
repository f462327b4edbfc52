"""Features: what the frozen part of a network says of each image, computed once and kept in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tlkit.markup import html_row, html_table
from tlkit.memory import counted, readable_size

__all__ = ["FeatureRows", "Features", "view_as_array", "convert_labels", "resolve_rows"]

SMALL_BATCH = 4 * 1000**2  # bytes that one thread copies before others have woken


class FeatureRows:
    """What features in memory (`Features`) and on disk (`FeatureStore`) have in common: rows, in batches.

    Attributes
    ----------
    shapes : dict of str to tuple of int
        Name of each boundary tensor and the shape of one row of it.
    dtype : torch.dtype
        Of every boundary tensor.
    labels : LongTensor of shape (rows,)
        Position of each row's class in `classes`.
    classes : tuple of str
        Names of the classes.
    """

    shapes: Mapping[str, tuple[int, ...]]
    dtype: torch.dtype
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the boundary tensors, in the network's order."""
        return tuple(self.shapes)

    @property
    def nbytes(self) -> int:
        """Size of the boundary tensors in bytes."""
        return len(self) * self.dtype.itemsize * sum(prod(shape) for shape in self.shapes.values())

    def batches(
        self, batch_size: int, order: Tensor | Sequence[int] | None = None
    ) -> Iterator[tuple[Tensor | dict[str, Tensor], Tensor]]:
        """Iterate over the rows in batches.

        Parameters
        ----------
        batch_size : int
            Rows in a batch; the last one may have fewer.
        order : LongTensor or sequence of int, optional
            Row numbers; a row may come several times or not at all. Without it: every row, from first to last.

        Yields
        ------
        x : Tensor of shape (n, ...), or dict of str to Tensor
            Copies of the rows: a tensor for one boundary, tensors by name for several.
        y : LongTensor of shape (n,)
            Their labels.

        Raises
        ------
        ValueError
            For a batch size below 1, and for an order that is not row numbers.
        IndexError
            For a row that does not exist.

        Examples
        --------
        >>> import torch, tlkit as tl
        >>> features = tl.Features({"fc2": torch.rand(10, 4)}, torch.zeros(10, dtype=torch.long), ["daisy"])
        >>> [len(y) for x, y in features.batches(4, order=torch.randperm(10))]
        [4, 4, 2]
        """
        if batch_size < 1:
            msg = f"A batch needs at least one row; batch_size is {batch_size}."
            raise ValueError(msg)
        rows = torch.arange(len(self)) if order is None else resolve_rows(order, len(self))
        return self._batches(batch_size, rows.to(self.labels.device))

    def _batches(self, batch_size: int, rows: Tensor) -> Iterator[tuple[Tensor | dict[str, Tensor], Tensor]]:
        raise NotImplementedError

    def shuffled(self, generator: torch.Generator) -> Tensor:
        """Return all row numbers in a random order, one that is quick to read."""
        return torch.randperm(len(self), generator=generator)

    def _facts(self) -> str:
        boundaries = ", ".join(f"'{name}' {shape}" for name, shape in self.shapes.items())
        dtype, size = _short(self.dtype), readable_size(self.nbytes)
        classes = counted(len(self.classes), "class", "classes")
        return f"{counted(len(self), 'row')} of {boundaries}, {dtype}, {classes}, {size}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._facts()})"

    def _repr_html_(self) -> str:
        cell, number = "padding:2px 12px 2px 0;text-align:left", "padding:2px 0 2px 12px;text-align:right"
        styles = [cell, cell, cell, number]
        rows = [html_row(["boundary", "shape of a row", "numbers", "size"], styles, heads=4)]
        for name, shape in self.shapes.items():
            size = readable_size(len(self) * self.dtype.itemsize * prod(shape))
            rows.append(html_row([name, " × ".join(map(str, shape)) or "1", _short(self.dtype), size], styles))
        caption = (
            f"{type(self).__name__}: {counted(len(self), 'row')}, {counted(len(self.classes), 'class', 'classes')}"
        )
        return html_table(rows, caption=caption)


class Features(FeatureRows):
    """Features in memory, one tensor per boundary.

    Parameters
    ----------
    tensors : mapping of str to Tensor of shape (rows, ...)
        The boundary tensors by name, in the network's order; all of one dtype and on one device.
    labels : LongTensor of shape (rows,)
        Position of each row's class in `classes`.
    classes : sequence of str
        Names of the classes.

    Raises
    ------
    ValueError
        When the tensors, labels and classes do not belong together.

    Examples
    --------
    >>> import torch, tlkit as tl
    >>> tl.Features({"fc2": torch.rand(10, 4096)}, torch.zeros(10, dtype=torch.long), ["daisy"])
    Features(10 rows of 'fc2' (4096,), float32, 1 class, 164 kB)
    """

    def __init__(self, tensors: Mapping[str, Tensor], labels: Tensor, classes: Sequence[str]) -> None:
        self.tensors = dict(tensors)
        self.labels = convert_labels(labels, classes)
        self.classes = tuple(classes)
        if not self.tensors:
            msg = "Features need at least one boundary tensor, for example {'fc2': tensor}; got none."
            raise ValueError(msg)
        for name, tensor in self.tensors.items():
            if tensor.ndim < 1 or len(tensor) != len(labels):
                msg = f"'{name}' has the shape {tuple(tensor.shape)}; {len(labels)} labels need as many rows."
                raise ValueError(msg)
        if len({(tensor.dtype, tensor.device) for tensor in self.tensors.values()}) > 1:
            kinds = ", ".join(f"'{name}' {_short(t.dtype)} on {t.device}" for name, t in self.tensors.items())
            msg = f"The boundary tensors need one dtype and one device; got {kinds}."
            raise ValueError(msg)
        self.labels = self.labels.to(next(iter(self.tensors.values())).device)
        self.shapes = {name: tuple(tensor.shape[1:]) for name, tensor in self.tensors.items()}
        self.dtype = next(iter(self.tensors.values())).dtype

    def subset(self, rows: Tensor | Sequence[int]) -> Features:
        """Return the features of the given row numbers, in their order, as a copy."""
        chosen = resolve_rows(rows, len(self)).to(self.labels.device)
        tensors = {name: tensor.index_select(0, chosen) for name, tensor in self.tensors.items()}
        return Features(tensors, self.labels.index_select(0, chosen), self.classes)

    def to(self, device: torch.device | str) -> Features:
        """Return the features on another device: batches from a GPU's memory cost next to nothing."""
        return Features({name: t.to(device) for name, t in self.tensors.items()}, self.labels, self.classes)

    def _batches(self, batch_size: int, rows: Tensor) -> Iterator[tuple[Tensor | dict[str, Tensor], Tensor]]:
        if len(rows) == 0:
            return iter(())
        labels, chosen = self.labels.index_select(0, rows).split(batch_size), rows.split(batch_size)
        copies = [_copies(tensor, chosen) for tensor in self.tensors.values()]
        if len(copies) == 1:
            return zip(*copies, labels, strict=True)
        return ((dict(zip(self.names, x, strict=True)), y) for *x, y in zip(*copies, labels, strict=True))


def _copies(tensor: Tensor, batches: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield the rows of each batch.

    Small batches in the processor's memory are NumPy's: torch would wake its other threads for each of them, which
    takes longer than to copy one.
    """
    size = len(batches[0]) * tensor.element_size() * prod(tensor.shape[1:])
    if tensor.device.type != "cpu" or not tensor.is_contiguous() or size > SMALL_BATCH:
        return (tensor.index_select(0, rows) for rows in batches)
    array = view_as_array(tensor)
    copies = (torch.from_numpy(array.take(rows.numpy(), 0)) for rows in batches)
    return copies if tensor.dtype != torch.bfloat16 else (copy.view(torch.bfloat16) for copy in copies)


def view_as_array(tensor: Tensor) -> np.ndarray:
    """Return the same memory as an array for NumPy, which has no bfloat16 and gets its bits as whole numbers."""
    bits = torch.int16 if tensor.dtype == torch.bfloat16 else tensor.dtype
    return tensor.detach().view(bits).numpy()


def resolve_rows(order: Any, length: int) -> Tensor:
    """Turn row numbers into a LongTensor, and refuse what is none or does not exist."""
    rows = torch.as_tensor(order)
    if rows.numel() == 0:
        return torch.zeros(0, dtype=torch.long)
    if rows.ndim != 1 or rows.dtype.is_floating_point or rows.dtype.is_complex or rows.dtype == torch.bool:
        msg = (
            f"Row numbers are whole numbers in one dimension; got {_short(rows.dtype)} of shape {tuple(rows.shape)}. "
            "A mask becomes row numbers with mask.nonzero().flatten()."
        )
        raise ValueError(msg)
    low, high = int(rows.min()), int(rows.max())
    if low < 0 or high >= length:
        wrong = low if low < 0 else high
        msg = f"There is no row {wrong}: the {length:,} rows are numbered from 0 to {length - 1}."
        raise IndexError(msg)
    return rows.long()


def convert_labels(labels: Tensor, classes: Sequence[str]) -> Tensor:
    """Return the labels as a LongTensor, and refuse labels that are not positions in `classes`."""
    labels = torch.as_tensor(labels)
    if labels.ndim != 1 or labels.dtype.is_floating_point or labels.dtype == torch.bool:
        msg = f"Labels are whole numbers, one for each row; got {_short(labels.dtype)} of shape {tuple(labels.shape)}."
        raise ValueError(msg)
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
        msg = (
            f"Labels are positions in the {len(classes)} classes, from 0 to {len(classes) - 1}; "
            f"got labels from {int(labels.min())} to {int(labels.max())}."
        )
        raise ValueError(msg)
    return labels.long()


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
