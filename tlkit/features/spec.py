"""What a feature store shall hold, and its `spec.json`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tlkit.errors import near_misses, quoted
from tlkit.features.differences import compare_boundaries, compare_images, compare_keys, write_ranges
from tlkit.features.rows import convert_labels
from tlkit.features.shards import Fault, Shard, StoreError, digest, read_record
from tlkit.files.storage import RemotePath

__all__ = ["Layout", "ShardSpec", "StoreSpec", "explain_work"]

FORMAT, VERSION = "tlkit features", 1
DTYPES = ("float32", "float16", "bfloat16")
RESERVED = ("label", "row", "__metadata__")
LARGEST_SHARD = 64 * 1000**2
MOST_ROWS = 256
WEIGHTS_ON_ONE_SIDE = (" were added", " were removed")


@dataclass(frozen=True)
class ShardSpec:
    """What one shard of a feature store shall hold: all that it takes to check and to write it.

    Parameters
    ----------
    shard : Shard
    shapes : mapping of str to tuple of int
        Name of each boundary tensor and the shape of one row of it.
    dtype : {"float32", "float16", "bfloat16"}
    labels : list of int
        Of the shard's rows.
    images : list of dict
        What tells the image of each row from others.
    """

    shard: Shard
    shapes: Mapping[str, tuple[int, ...]]
    dtype: str
    labels: Sequence[int]
    images: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class StoreSpec:
    """What a feature store shall hold.

    Parameters
    ----------
    key : dict
        All that the features depend on besides the images, as plain JSON data, for example
        ``{"graph": ..., "weights": {"block5_conv3.weight": sha256, ...}, "preprocessing": {...}}``. Another key
        means other features: nothing stored under the old one is used.
    shapes : mapping of str to tuple of int
        Name of each boundary tensor, in the network's order, and the shape of one row of it.
    dtype : {"float32", "float16", "bfloat16"} or torch.dtype
        How the numbers are stored.
    classes : sequence of str
        Names of the classes.
    labels : LongTensor of shape (rows,)
        Position of each row's class in `classes`.
    images : sequence of dict
        One for each row, what tells its image from others: ``{"path", "bytes", "sha256"}``, or for a row of a tensor
        ``{"sha256"}`` alone. Empty when the key already tells all.
    rows_per_shard : int, optional
        Rows in one file, the unit of work that is lost when the computation stops; by default 256, or fewer for
        rows so large that a file would pass 64 MB.

    Raises
    ------
    ValueError
        When these do not belong together, or cannot be stored.
    """

    key: Mapping[str, Any]
    shapes: Mapping[str, Sequence[int]]
    dtype: str | torch.dtype
    classes: Sequence[str]
    labels: Tensor
    images: Sequence[Mapping[str, Any]] = ()
    rows_per_shard: int | None = None

    def __post_init__(self) -> None:
        labels = convert_labels(self.labels, self.classes)
        images = tuple(self.images) or ({},) * len(labels)
        settle = {
            "key": _plain(self.key, "key"),
            "shapes": {name: tuple(int(size) for size in shape) for name, shape in self.shapes.items()},
            "dtype": str(self.dtype).removeprefix("torch."),
            "classes": tuple(self.classes),
            "labels": labels.cpu(),
            "images": tuple(_plain(images, "images")),
        }
        for name, value in settle.items():
            object.__setattr__(self, name, value)
        self._check()
        if self.rows_per_shard is None:
            rows = max(1, min(MOST_ROWS, LARGEST_SHARD // self.row_bytes))
            object.__setattr__(self, "rows_per_shard", rows)

    def _check(self) -> None:
        msg = ""
        if self.dtype not in DTYPES:
            hint = near_misses(self.dtype, DTYPES)
            msg = f"Features are stored as {quoted(DTYPES, 'or')}; got '{self.dtype}'.{hint}"
        elif not isinstance(self.key, dict):
            msg = f"The key is a dict of plain data, for example {{'weights': {{...}}}}; got {self.key!r}."
        elif not self.shapes:
            msg = "A feature store needs at least one boundary tensor, for example {'fc2': (4096,)}; got none."
        elif taken := [name for name in self.shapes if name in RESERVED]:
            msg = f"A boundary tensor cannot be called {quoted(taken)}: the files use {quoted(RESERVED)} themselves."
        elif len(self.labels) == 0:
            msg = "There is nothing to store: the data have no rows."
        elif len(self.images) != len(self.labels):
            msg = f"Each row has one image and one label; got {len(self.images)} images and {len(self.labels)} labels."
        elif self.rows_per_shard is not None and self.rows_per_shard < 1:
            msg = f"A shard needs at least one row; rows_per_shard is {self.rows_per_shard}."
        if msg:
            raise ValueError(msg)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row on disk: its boundary tensors, label and number."""
        return 16 + getattr(torch, self.dtype).itemsize * sum(prod(shape) for shape in self.shapes.values())

    @property
    def nbytes(self) -> int:
        """Bytes of the whole store on disk, without the small records."""
        return len(self) * self.row_bytes

    def shard(self, number: int) -> ShardSpec:
        """Return what one shard shall hold."""
        shard = self.layout.shards[number]
        return ShardSpec(shard, self.shapes, self.dtype, *self._about(shard.rows))

    def _about(self, rows: range) -> tuple[list[int], list[Mapping[str, Any]]]:
        """Return the labels and images of some rows."""
        return self.labels[rows.start : rows.stop].tolist(), list(self.images[rows.start : rows.stop])

    @cached_property
    def layout(self) -> Layout:
        """The contents of the store's `spec.json`."""
        key_digest = digest([VERSION, self.key, self.shapes, self.dtype])
        shards = []
        for number, start in enumerate(range(0, len(self), self.rows_per_shard)):
            rows = range(start, min(start + self.rows_per_shard, len(self)))
            labels, images = self._about(rows)
            shards.append(Shard.plan(number, rows, key_digest=key_digest, labels=labels, images=images))
        return Layout(self.key, self.shapes, self.dtype, self.classes, self.rows_per_shard, key_digest, tuple(shards))


@dataclass(frozen=True)
class Layout:
    """What `spec.json` says: the key, the boundary tensors, the classes, and which rows each shard holds."""

    key: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    dtype: str
    classes: tuple[str, ...]
    rows_per_shard: int
    key_digest: str
    shards: tuple[Shard, ...]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and self.checksum == other.checksum

    @property
    def rows(self) -> int:
        """Number of rows of the whole store."""
        return self.shards[-1].stop

    @cached_property
    def checksum(self) -> str:
        """The sha256 of all that `spec.json` says."""
        return digest(self._content())

    def to_bytes(self) -> bytes:
        """Return the contents of `spec.json`."""
        head = {"format": FORMAT, "version": VERSION, "checksum": self.checksum}
        return json.dumps(head | self._content(), indent=1).encode()

    def _content(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "key_digest": self.key_digest,
            "boundaries": [{"name": n, "shape": list(s), "dtype": self.dtype} for n, s in self.shapes.items()],
            "classes": list(self.classes),
            "rows_per_shard": self.rows_per_shard,
            "plan": [{"rows": [shard.start, shard.stop], "inputs": shard.inputs} for shard in self.shards],
        }

    @classmethod
    def find(cls, folder: Path | RemotePath) -> Layout | None:
        """Read `spec.json` if there is one that can be used; refuse a folder that is something else."""
        try:
            return cls.read(folder)
        except FileNotFoundError:
            return None
        except _DamagedError as error:
            if (folder / "shards").is_dir():
                return None
            msg = (
                f"'{folder / 'spec.json'}' does not belong to a feature store. Choose another folder for the features."
            )
            raise StoreError(msg) from error

    @classmethod
    def read(cls, folder: Path | RemotePath) -> Layout:
        """Read `spec.json`."""
        file = folder / "spec.json"
        try:
            content = json.loads(file.read_bytes())
            if content.pop("format", None) != FORMAT:
                msg = f"'{file}' does not belong to a feature store. Choose another folder for the features."
                raise StoreError(msg)
            version = content.pop("version")
            if version > VERSION:
                msg = (
                    f"The feature store in '{folder}' has format {version}, from a newer version of tlkit; this one "
                    f"reads up to format {VERSION}. Update tlkit, or choose another folder."
                )
                raise StoreError(msg)
            if content.pop("checksum") != digest(content):
                msg = "its checksum is another"
                raise ValueError(msg)
            return cls._from_content(content)
        except (FileNotFoundError, NotADirectoryError) as error:
            msg = f"There is no feature store in '{folder}'. Make one with helper.featurize(images, to='{folder}')."
            raise FileNotFoundError(msg) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            msg = f"'{file}' is damaged ({error}). Featurize again with the same settings: whole shards are kept."
            raise _DamagedError(msg) from error

    @classmethod
    def _from_content(cls, content: dict[str, Any]) -> Layout:
        boundaries = content["boundaries"]
        return cls(
            key=content["key"],
            shapes={boundary["name"]: tuple(boundary["shape"]) for boundary in boundaries},
            dtype=boundaries[0]["dtype"],
            classes=tuple(content["classes"]),
            rows_per_shard=content["rows_per_shard"],
            key_digest=content["key_digest"],
            shards=tuple(Shard(k, *entry["rows"], entry["inputs"]) for k, entry in enumerate(content["plan"])),
        )


class _DamagedError(StoreError):
    pass


def explain_work(
    folder: Path | RemotePath, before: Layout | None, spec: StoreSpec, faults: Sequence[Fault]
) -> Iterator[str]:
    """Say why shards of an existing store must be computed, in words."""
    by_kind = {kind: [f for f in faults if f.kind == kind] for kind in ("missing", "outdated", "damaged")}
    known = _differences(folder, before, spec) if before and before != spec.layout and faults else []
    yield from known
    if by_kind["outdated"] and not known:
        yield f"{_shards(by_kind['outdated'])} left from before the last change"
    late = [fault for fault in by_kind["missing"] if before and fault.number < len(before.shards)]
    if late and (len(late) < len(before.shards) or known):
        yield f"{_shards(late)} not finished yet"
    yield from (f"shard {fault.number} was damaged: {fault.reason}" for fault in by_kind["damaged"])


def _shards(faults: Sequence[Fault]) -> str:
    numbers = write_ranges(fault.number for fault in faults)
    return f"shard {numbers} was" if len(faults) == 1 else f"shards {numbers} were"


def _differences(folder: Path | RemotePath, before: Layout, spec: StoreSpec) -> list[str]:
    after = spec.layout
    boundaries = compare_boundaries(before.shapes, after.shapes)
    found = [*boundaries, *compare_keys(before.key, after.key)]
    if boundaries:  # another boundary changes the graph, and which weights it has, by itself
        found = [line for line in found if not _follows_from_boundary(line)]
    if before.dtype != after.dtype:
        found.append(f"dtype {before.dtype} -> {after.dtype}")
    if before.rows_per_shard != after.rows_per_shard:
        found.append(f"rows per shard {before.rows_per_shard} -> {after.rows_per_shard}")
    records = [read_record(folder, shard) for shard in before.shards]
    if all(records):
        old = [row for record in records for row in _named(record["labels"], record["images"], before.classes)]
        found.append(compare_images(old, _named(spec.labels.tolist(), spec.images, after.classes)))
    found = [line for line in dict.fromkeys(found) if line]
    if not found and before.shards != after.shards:
        found.append("the images or their labels differ")
    return found


def _follows_from_boundary(line: str) -> bool:
    vertex = line.startswith("graph: ") and line.endswith((" added", " removed"))
    return vertex or line.startswith(("graph ", "boundary [")) or line.endswith(WEIGHTS_ON_ONE_SIDE)


def _named(labels: Sequence[int], images: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> list[tuple[str, Any]]:
    names = dict(enumerate(classes))
    return [(names.get(label, ""), image) for label, image in zip(labels, images, strict=True)]


def _plain(data: Any, what: str) -> Any:
    """Return data as JSON would give it back: tuples become lists."""
    try:
        return json.loads(json.dumps(data, allow_nan=False))
    except (TypeError, ValueError) as error:
        msg = f"The {what} must be plain data that JSON can hold (dict, list, str, int, float, bool, None): {error}."
        raise ValueError(msg) from error
