"""Shards: the files of a feature store, each with a record that vouches for it."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tlkit.features.writing import publish
from tlkit.files.storage import RemotePath, on_disk

__all__ = [
    "Fault",
    "Shard",
    "StoreError",
    "check_shard",
    "compute_crc32",
    "digest",
    "explain_replaced",
    "images_of",
    "is_missing",
    "list_shards",
    "read_into",
    "read_record",
    "read_shard",
    "remove_shard",
    "verify_shard",
    "write_shard",
]

CHUNK = 1 << 20
LARGEST_HEADER = 100 * 1000**2  # the limit of safetensors itself
SEAL = b',\n "record_crc32": '
NAME = re.compile(r"(\d{5,})(-[0-9a-f]{12})?")  # an earlier format's had a number alone
NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)


class StoreError(RuntimeError):
    """A feature store cannot be used as it is; the text says why and what to do."""


@dataclass(frozen=True)
class Shard:
    """One file of rows, named by its number and by what it is made from.

    So files of another plan have other names, and stay until this one's are whole.

    Parameters
    ----------
    number : int
        Its place in the store.
    start, stop : int
        Its first row, and the one after its last.
    inputs : str
        Digest of all that its rows are made from, and of their labels.
    key_digest : str
        Digest of what the rows of the whole store have in common.
    """

    number: int
    start: int
    stop: int
    inputs: str
    key_digest: str

    @classmethod
    def plan(
        cls, number: int, rows: range, *, key_digest: str, labels: Sequence[int], images: Sequence[Mapping[str, Any]]
    ) -> Shard:
        """Describe a shard from its row numbers, and the labels and images of those rows."""
        inputs = digest([key_digest, rows.start, rows.stop, list(labels), _columns(images)])
        return cls(number, rows.start, rows.stop, inputs, key_digest)

    @classmethod
    def recorded(cls, file: Path | RemotePath, key_digest: str) -> tuple[Shard, dict[str, Any]] | None:
        """Return the shard of which a file is the record, and the record, if its rows were made with this key."""
        name = NAME.fullmatch(file.stem)
        record = _read_sealed(file) if name else None
        if record is None or len(record["rows"]) != 2:
            return None
        shard = cls(int(name[1]), *record["rows"], record["inputs"], key_digest)
        return (shard, record) if shard.stem == file.stem and shard.is_described_by(record) else None

    def is_described_by(self, record: Mapping[str, Any]) -> bool:
        """Say whether the rows, labels and images of a record are those that this shard is made from."""
        labels, images = record["labels"], record["images"]
        complete = len(labels) == len(self.rows) and all(len(column) == len(labels) for column in images.values())
        same_rows = complete and record["rows"] == [self.start, self.stop]
        return same_rows and digest([self.key_digest, *record["rows"], labels, images]) == self.inputs

    @property
    def rows(self) -> range:
        """Row numbers of the shard."""
        return range(self.start, self.stop)

    @property
    def stem(self) -> str:
        """The name of its two files, without their suffix."""
        return f"{self.number:05d}-{self.inputs[:12]}"

    def data(self, folder: Path | RemotePath) -> Path | RemotePath:
        """Return the file that holds the tensors."""
        return folder / "shards" / f"{self.stem}.safetensors"

    def record(self, folder: Path | RemotePath) -> Path | RemotePath:
        """Return the file that vouches for the tensors; a shard without it does not exist."""
        return folder / "shards" / f"{self.stem}.json"


@dataclass(frozen=True)
class Fault:
    """Why a shard must be made: it is "missing" or "damaged"."""

    number: int
    kind: str
    reason: str = ""


def digest(data: Any) -> str:
    """Return the sha256 of plain JSON data; the order of a dict's keys does not matter."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_shard(
    folder: Path | RemotePath,
    shard: Shard,
    tensors: Mapping[str, Tensor],
    *,
    labels: Sequence[int],
    images: Sequence[Mapping[str, Any]],
    seconds: float,
    engines: Sequence[str] = (),
) -> None:
    """Publish the tensors, then the record that vouches for them."""
    rows = torch.arange(shard.start, shard.stop)
    content = {**tensors, "label": torch.tensor(labels, dtype=torch.long), "row": rows}
    # One entry of metadata only: several are written in random order, and equal rows shall give equal bytes.
    data = safetensors.torch.save(content, {"inputs": shard.inputs})
    publish(shard.data(folder), data)
    record = {
        "inputs": shard.inputs,
        "rows": [shard.start, shard.stop],
        "bytes": len(data),
        "crc32": f"{zlib.crc32(data):08x}",
        "sha256": hashlib.sha256(data).hexdigest(),
        "seconds": round(seconds, 3),
        "engines": sorted(engines),
        "labels": list(labels),
        "images": _columns(images),
    }
    publish(shard.record(folder), _seal(json.dumps(record, indent=1).encode()))


def list_shards(folder: Path | RemotePath) -> set[str]:
    """Return the names, without suffix, of all files of shards in a folder, whatever plan they belong to."""
    files = [file for suffix in ("json", "safetensors") for file in (folder / "shards").glob(f"*.{suffix}")]
    return {file.stem for file in files if NAME.fullmatch(file.stem)}


def remove_shard(folder: Path | RemotePath, stem: str) -> None:
    """Remove the files of a shard, the record first."""
    for suffix in ("json", "safetensors"):
        with suppress(IsADirectoryError, PermissionError):  # a folder under its name is not ours; nor is it on a Mac
            (folder / "shards" / f"{stem}.{suffix}").unlink(missing_ok=True)


def read_record(folder: Path | RemotePath, shard: Shard) -> dict[str, Any] | None:
    """Return a shard's record, or None where there is no readable one of these very rows, labels and images."""
    record = _read_sealed(shard.record(folder))
    return record if record and record["inputs"] == shard.inputs and shard.is_described_by(record) else None


def _read_sealed(file: Path | RemotePath) -> dict[str, Any] | None:
    try:
        content = file.read_bytes()
        record = json.loads(content) if _is_whole(content) else None
    except (ValueError, RecursionError):
        return None
    except OSError as error:
        if not is_missing(error):
            raise
        return None
    expected = {"inputs": str, "rows": list, "bytes": int, "crc32": str, "sha256": str, "labels": list, "images": dict}
    expected |= {"engines": list, "seconds": (int, float)}
    readable = isinstance(record, dict) and all(isinstance(record.get(name), kind) for name, kind in expected.items())
    readable = readable and all(isinstance(column, list) for column in record["images"].values())
    return record if readable else None


def images_of(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what tells the image of each row from others."""
    columns = record["images"]
    rows = zip(*columns.values(), strict=True) if columns else [()] * len(record["labels"])
    return [{name: value for name, value in zip(columns, row, strict=True) if value is not None} for row in rows]


def _columns(images: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Write the images of many rows as one list for each field, which is read and compared several times as fast."""
    names = dict.fromkeys(name for image in images for name in image)
    return {name: [image.get(name) for image in images] for name in names}


def is_missing(error: OSError) -> bool:
    """Say whether an error tells that there is no such file: nothing, a folder, or a link that leads nowhere."""
    return error.errno in NOT_THERE or isinstance(error, (FileNotFoundError, NotADirectoryError))


def _seal(content: bytes) -> bytes:
    """Add to a record, as its last entry, the crc32 of the others."""
    body = content.removesuffix(b"\n}")
    return body + SEAL + f'"{zlib.crc32(body):08x}"\n}}'.encode()


def _is_whole(content: bytes) -> bool:
    body, _, _ = content.rpartition(SEAL)
    return _seal(body + b"\n}") == content


def check_shard(folder: Path | RemotePath, shard: Shard, *, content: bool = True) -> Fault | None:
    """Compare a shard with its record by size and, unless told not to, by crc32; return what is wrong, or None."""
    record, data = read_record(folder, shard), shard.data(folder)
    if record is None:
        file = shard.record(folder)
        if _read_sealed(file):
            return Fault(shard.number, "damaged", "its record is one of other pictures, labels or rows")
        if file.exists() or file.is_symlink():
            return Fault(shard.number, "damaged", "its record cannot be read")
        return Fault(shard.number, "missing")
    try:
        size = data.stat().st_size if data.is_file() else None
        if size is None:
            return Fault(shard.number, "damaged", f"{data.name} is gone")
        if size != record["bytes"]:
            return Fault(shard.number, "damaged", f"{data.name} has {size:,} bytes instead of {record['bytes']:,}")
        if content and record["crc32"] not in (compute_crc32(on_disk(data, again=again)) for again in (False, True)):
            return Fault(shard.number, "damaged", f"the bytes of {data.name} have changed: their crc32 is another")
    except FileNotFoundError:
        return Fault(shard.number, "damaged", f"{data.name} is gone")
    return None


def read_shard(folder: Path | RemotePath, shard: Shard) -> dict[str, Tensor]:
    """Map a shard's tensors into memory, without reading them yet."""
    try:
        with safe_open(on_disk(shard.data(folder)), "pt") as file:
            if (file.metadata() or {}).get("inputs") == shard.inputs:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict
    except FileNotFoundError as error:
        raise StoreError(explain_replaced(folder, shard)) from error
    except (OSError, SafetensorError) as error:
        msg = f"Shard {shard.number} of the feature store in '{folder}' cannot be read: {error}"
        raise StoreError(msg) from error
    raise StoreError(explain_replaced(folder, shard))


def read_into(folder: Path | RemotePath, shard: Shard, arrays: Mapping[str, np.ndarray]) -> None:
    """Read a shard's tensors into arrays that take them whole: faster than mapping what is read once and copied."""
    try:
        with on_disk(shard.data(folder)).open("rb", buffering=0) as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(size, LARGEST_HEADER)))
            if header["__metadata__"]["inputs"] != shard.inputs:
                raise StoreError(explain_replaced(folder, shard))
            for name, array in arrays.items():
                start, stop = header[name]["data_offsets"]
                file.seek(8 + size + start)
                _read_all(file, memoryview(array.reshape(-1)).cast("B"), stop - start)
    except FileNotFoundError as error:
        raise StoreError(explain_replaced(folder, shard)) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"Shard {shard.number} of the feature store in '{folder}' cannot be read: {error}"
        raise StoreError(msg) from error


def _read_all(file: IO[bytes], into: memoryview, size: int) -> None:
    done = 0
    while done < size == len(into):
        count = file.readinto(into[done:])
        if not count:
            break
        done += count
    if done != len(into):
        msg = f"it holds {done:,} bytes instead of {len(into):,}"
        raise ValueError(msg)


def explain_replaced(folder: Path | RemotePath, shard: Shard) -> str:
    """Say that a shard is not the one that was there when the store was opened."""
    return (
        f"Shard {shard.number} of the feature store in '{folder}' was replaced after the store was opened. "
        "Open the store again."
    )


def verify_shard(folder: Path | RemotePath, shard: Shard, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Read every byte of a shard and of its record, and return what is wrong, as sentences."""
    name = f"Shard {shard.number}"
    fault, record = check_shard(folder, shard), read_record(folder, shard)
    if fault is not None or record is None:
        fault = fault or Fault(shard.number, "missing")
        return [f"{name} is {fault.kind}: {fault.reason}." if fault.reason else f"{name} is {fault.kind}."]
    problems = []
    if hashlib.sha256(shard.data(folder).read_bytes()).hexdigest() != record["sha256"]:
        problems.append(f"{name} is damaged: its sha256 is not the one in its record.")
    tensors = read_shard(folder, shard)
    found = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    count = len(shard.rows)
    expected = {key: (count, *shape) for key, shape in shapes.items()} | {"label": (count,), "row": (count,)}
    if found != expected:
        problems.append(f"{name} holds {found} instead of {expected}.")
    elif tensors["row"].tolist() != list(shard.rows) or tensors["label"].tolist() != record["labels"]:
        problems.append(f"{name} holds other row numbers or labels than its record.")
    return problems


def compute_crc32(file: Path) -> str:
    """Return the checksum of a file as records have it."""
    value, buffer = 0, bytearray(CHUNK)
    with file.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            value = zlib.crc32(memoryview(buffer)[:count], value)
    return f"{value:08x}"
