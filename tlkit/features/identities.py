"""What tells each row of a data set from others, and data that are read only while they are what that says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tlkit.features.fingerprints import digest_of_tensor
from tlkit.files.storage import RemotePath, at_once
from tlkit.images.pictures import ChangedImageError

__all__ = ["identify_rows", "read_identified"]


def identify_rows(data: Any) -> list[dict[str, Any]]:
    """Tell each row from others: pictures by the bytes of their files, tensors and augmented pictures by their values.

    Returns
    -------
    list of dict
        For each row ``{"path", "size", "sha256"}``, or ``{"sha256"}`` where there is no file.
    """
    if hasattr(data, "paths"):
        with ThreadPoolExecutor(at_once(data.root)) as pool:
            return list(pool.map(_identify_file, data.paths))
    return [{"sha256": _digest_row(x, 0)} for x, _ in data.batches(1)]


def read_identified(data: Any, images: Sequence[Mapping[str, Any]]) -> Any:
    """Return the same data, which refuse with a `ChangedImageError` to give a row that is not what `images` says."""
    if hasattr(data, "read_once"):
        return data.read_once([image["sha256"] for image in images])
    return data if hasattr(data, "tensors") else _Identified(data, images)


class _Identified:
    """Data without files, compared with what they were at first when they are read."""

    def __init__(self, data: Any, images: Sequence[Mapping[str, Any]]) -> None:
        self._data, self._images = data, images

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def __len__(self) -> int:
        return len(self._data)

    def batches(self, batch_size: int, order: Tensor | None = None) -> Iterator[tuple[Any, Tensor]]:
        order = torch.arange(len(self)) if order is None else order
        for rows, (x, labels) in zip(order.split(batch_size), self._data.batches(batch_size, order), strict=True):
            for place, row in enumerate(rows.tolist()):
                if _digest_row(x, place) != self._images[row]["sha256"]:
                    msg = (
                        f"Row {row} changed while the data were being read: it holds other values than at first. Start "
                        "again when nothing writes to the data; what was finished is kept."
                    )
                    raise ChangedImageError(msg)
            yield x, labels


def _identify_file(path: Path | RemotePath) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except OSError:  # reading its pixels says why, and lists all pictures like it
        content = b""
    name = f"{path.parent.name}/{path.name}"
    return {"path": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _digest_row(x: Any, place: int) -> str:
    values = x.values() if isinstance(x, Mapping) else [x]
    return hashlib.sha256(b"".join(digest_of_tensor(value[place]).encode() for value in values)).hexdigest()
