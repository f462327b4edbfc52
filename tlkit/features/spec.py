"""What a feature store shall hold, and its `spec.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tlkit.errors import near_misses, quoted
from tlkit.features.rows import convert_labels
from tlkit.features.shards import Shard, StoreError, digest, is_missing
from tlkit.files.storage import RemotePath

__all__ = ["Copies", "Layout", "ShardSpec", "StoreSpec", "identify", "is_planned"]

FORMAT, VERSION = "tlkit features", 2
DTYPES = ("float32", "float16", "bfloat16")
RESERVED = ("label", "row", "__metadata__")
LARGEST_SHARD = 64 * 1000**2
MOST_ROWS = 256


def identify(image: Mapping[str, Any], row: int) -> str:
    """Return what a row's features depend on besides the key: what its picture is, never its name, class or place."""
    return image.get("sha256") or digest([row, image])


@dataclass(frozen=True)
class Copies:
    """Rows of a shard that lie in another one already.

    Parameters
    ----------
    source : Shard
        Where they lie; it has the same key.
    places : dict of int to int
        For a row number of the store, the place in the source, counted from its first row.
    """

    source: Shard
    places: Mapping[int, int]


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
    plan : str
        Checksum of the store's `spec.json`. While that is another one, the shard belongs to no store.
    copies : sequence of Copies
        Rows that need not be computed.
    """

    shard: Shard
    shapes: Mapping[str, tuple[int, ...]]
    dtype: str
    labels: Sequence[int]
    images: Sequence[Mapping[str, Any]]
    plan: str
    copies: Sequence[Copies] = ()

    def part(self, rows: range) -> Shard:
        """Return a file with some of the rows; no plan names it."""
        some = slice(rows.start - self.shard.start, rows.stop - self.shard.start)
        about = {"labels": self.labels[some], "images": self.images[some]}
        return Shard.plan(self.shard.number, rows, key_digest=self.shard.key_digest, **about)


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
        One for each row, what tells its image from others: ``{"path", "size", "sha256"}``, or for a row of a tensor
        ``{"sha256"}`` alone. A row is found again by its sha256. Empty when the key and the row's number tell all.
    rows_per_shard : int, optional
        Rows in one file; by default 256, or fewer for rows so large that a file would pass 64 MB.

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
        return ShardSpec(shard, self.shapes, self.dtype, *self._about(shard.rows), self.layout.checksum)

    def _about(self, rows: range) -> tuple[list[int], list[Mapping[str, Any]]]:
        """Return the labels and images of some rows."""
        return self.labels[rows.start : rows.stop].tolist(), list(self.images[rows.start : rows.stop])

    @cached_property
    def layout(self) -> Layout:
        """The contents of the store's `spec.json`."""
        key_digest = _digest_key(self.key, self.shapes, self.dtype)
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
    def find(cls, folder: Path | RemotePath) -> tuple[Layout | None, str]:
        """Read `spec.json`, and say why it cannot be used, if so; refuse a folder that is something else."""
        try:
            return cls.read(folder), ""
        except FileNotFoundError:
            return None, ""
        except _OldError:
            return None, "it was written by an earlier version of tlkit, in another format"
        except _DamagedError as error:
            if (folder / "shards").is_dir():
                return None, ""
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
            _require_format(folder, content.pop("version"))
            if content.pop("checksum") != digest(content):
                msg = "its checksum is another"
                raise ValueError(msg)
            return cls._from_content(content)
        except (FileNotFoundError, NotADirectoryError) as error:
            msg = f"There is no feature store in '{folder}'. Make one with helper.featurize(images, to='{folder}')."
            raise FileNotFoundError(msg) from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, OSError) and not is_missing(error):
                raise
            why = error.strerror if isinstance(error, OSError) else error
            msg = f"'{file}' is damaged ({why}). Featurize again with the same settings: whole shards are kept."
            raise _DamagedError(msg) from error

    @classmethod
    def _from_content(cls, content: dict[str, Any]) -> Layout:
        boundaries = content["boundaries"]
        key, dtype = content["key"], boundaries[0]["dtype"]
        shapes = {boundary["name"]: tuple(boundary["shape"]) for boundary in boundaries}
        key_digest = _digest_key(key, shapes, dtype)
        if content["key_digest"] != key_digest:
            msg = "its key is another"
            raise ValueError(msg)
        return cls(
            key=key,
            shapes=shapes,
            dtype=dtype,
            classes=tuple(content["classes"]),
            rows_per_shard=content["rows_per_shard"],
            key_digest=key_digest,
            shards=tuple(
                Shard(k, *entry["rows"], entry["inputs"], key_digest) for k, entry in enumerate(content["plan"])
            ),
        )


def is_planned(folder: Path | RemotePath, plan: str) -> bool:
    """Say whether a folder's `spec.json` is still the one with this checksum."""
    try:
        return json.loads((folder / "spec.json").read_bytes())["checksum"] == plan
    except (ValueError, KeyError, TypeError):
        return False
    except OSError as error:
        if not is_missing(error):
            raise
        return False


def _digest_key(key: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], dtype: str) -> str:
    return digest([VERSION, key, shapes, dtype])


def _require_format(folder: Path | RemotePath, version: int) -> None:
    if version > VERSION:
        msg = (
            f"The feature store in '{folder}' has format {version}, from a newer version of tlkit; this one "
            f"reads format {VERSION}. Update tlkit, or choose another folder."
        )
        raise StoreError(msg)
    if version < VERSION:
        msg = (
            f"The feature store in '{folder}' has format {version}, from an earlier version of tlkit; this one reads "
            f"format {VERSION}. Featurize again with the same settings: all of it is computed anew."
        )
        raise _OldError(msg)


class _OldError(StoreError):
    pass


class _DamagedError(StoreError):
    pass


def _plain(data: Any, what: str) -> Any:
    """Return data as JSON would give it back: tuples become lists."""
    try:
        return json.loads(json.dumps(data, allow_nan=False))
    except (TypeError, ValueError) as error:
        msg = f"The {what} must be plain data that JSON can hold (dict, list, str, int, float, bool, None): {error}."
        raise ValueError(msg) from error
