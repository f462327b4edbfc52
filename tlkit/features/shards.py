"""Shards: the files of a feature store, published so that a crash at any moment leaves whole files only."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tlkit.files.storage import RemotePath, on_disk
from tlkit.memory import readable_size

__all__ = [
    "Fault",
    "Shard",
    "StoreError",
    "check_shard",
    "digest",
    "explain_failed_writes",
    "publish",
    "read_into",
    "read_record",
    "read_shard",
    "explain_replaced",
    "sweep",
    "verify_shard",
    "write_shard",
]

DAY = 24 * 60 * 60
CHUNK = 1 << 20
LARGEST_HEADER = 100 * 1000**2  # the limit of safetensors itself
SEAL = b',\n "record_crc32": '


class StoreError(RuntimeError):
    """A feature store cannot be used as it is; the text says why and what to do."""


@dataclass(frozen=True)
class Shard:
    """One file of rows: its number, its first row and the row after its last, and a digest of what it is made from."""

    number: int
    start: int
    stop: int
    inputs: str

    @classmethod
    def plan(
        cls, number: int, rows: range, *, key_digest: str, labels: Sequence[int], images: Sequence[Mapping[str, Any]]
    ) -> Shard:
        """Describe a shard from its row numbers, and the labels and images of those rows."""
        inputs = digest([key_digest, rows.start, rows.stop, list(labels), list(images)])
        return cls(number, rows.start, rows.stop, inputs)

    @property
    def rows(self) -> range:
        """Row numbers of the shard."""
        return range(self.start, self.stop)

    def data(self, folder: Path | RemotePath) -> Path | RemotePath:
        """Return the file that holds the tensors."""
        return folder / "shards" / f"{self.number:05d}.safetensors"

    def record(self, folder: Path | RemotePath) -> Path | RemotePath:
        """Return the file that vouches for the tensors; a shard without it does not exist."""
        return folder / "shards" / f"{self.number:05d}.json"


@dataclass(frozen=True)
class Fault:
    """Why a shard must be computed: it is "missing", "damaged", or "outdated" (made from something else)."""

    number: int
    kind: str
    reason: str = ""


def digest(data: Any) -> str:
    """Return the sha256 of plain JSON data; the order of a dict's keys does not matter."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def publish(file: Path | RemotePath, data: bytes) -> None:
    """Write a file so that its name holds either the old bytes or all the new ones, even after a power cut."""
    try:
        if isinstance(file, RemotePath):
            file.write_bytes(data)
        else:
            _replace(file, data)
    except OSError as error:
        name = file if isinstance(file, RemotePath) else file.name
        error.unwritten = f"'{name}', takes {readable_size(len(data))}"
        raise


def _replace(file: Path, data: bytes) -> None:
    host = socket.gethostname().replace(os.sep, "_")[:40]
    temporary = file.with_name(f".{host}.{os.getpid()}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as stream:  # a plain open: the mode follows the umask
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    if os.name == "posix":  # Windows cannot open a folder
        descriptor = os.open(file.parent, os.O_RDONLY)
        try:
            with suppress(OSError):  # some network file systems refuse, and need no such thing
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sweep(folder: Path | RemotePath) -> None:
    """Remove what writers that died more than a day ago have left in a folder."""
    for file in folder.glob(".*.tmp"):
        with suppress(OSError):  # a read-only folder stays as it is
            if time.time() - file.stat().st_mtime > DAY:
                file.unlink()


@contextmanager
def explain_failed_writes(folder: Path | RemotePath) -> Iterator[None]:
    """Say in a sentence why nothing could be written, under the same type of error."""
    try:
        yield
    except OSError as error:
        why = {
            errno.EACCES: "you may not write there",
            errno.EPERM: "you may not write there",
            errno.EROFS: "it is read-only",
            errno.ENOSPC: "the disk is full",
            errno.EDQUOT: "your disk quota is used up",
            errno.EFBIG: "a file may not grow so large",
            errno.ENOTDIR: "a file is in its place",
            errno.EEXIST: "a file is in its place",
        }.get(error.errno or 0, error.strerror or str(error))
        unwritten = getattr(error, "unwritten", "")
        which = f"The file that could not be written, {unwritten}. " if unwritten else ""
        msg = (
            f"The feature store in '{folder}' cannot be written: {why}. What was finished stays. {which}"
            "Mend that and featurize again, or choose another folder."
        )
        raise type(error)(error.errno, msg) from error


def write_shard(
    folder: Path | RemotePath,
    shard: Shard,
    tensors: Mapping[str, Tensor],
    *,
    labels: Sequence[int],
    images: Sequence[Mapping[str, Any]],
    seconds: float,
    engine: str = "",
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
        "engine": engine,
        "labels": list(labels),
        "images": list(images),
    }
    publish(shard.record(folder), _seal(json.dumps(record, indent=1).encode()))


def read_record(folder: Path | RemotePath, shard: Shard) -> dict[str, Any] | None:
    """Return a shard's record, or None where there is no readable one."""
    try:
        content = shard.record(folder).read_bytes()
        record = json.loads(content) if _is_whole(content) else None
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    expected = {"inputs": str, "rows": list, "bytes": int, "crc32": str, "sha256": str, "labels": list, "images": list}
    readable = isinstance(record, dict) and all(isinstance(record.get(name), kind) for name, kind in expected.items())
    return record if readable and len(record["labels"]) == len(record["images"]) else None


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
        if shard.record(folder).exists():
            return Fault(shard.number, "damaged", "its record cannot be read")
        return Fault(shard.number, "missing")
    if record["inputs"] != shard.inputs:
        return Fault(shard.number, "outdated")
    try:
        size = data.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return Fault(shard.number, "damaged", f"{data.name} is gone")
    if size != record["bytes"]:
        return Fault(shard.number, "damaged", f"{data.name} has {size:,} bytes instead of {record['bytes']:,}")
    if content and record["crc32"] not in (_crc32(on_disk(data, again=again)) for again in (False, True)):
        return Fault(shard.number, "damaged", f"the bytes of {data.name} have changed: their crc32 is another")
    return None


def read_shard(folder: Path | RemotePath, shard: Shard) -> dict[str, Tensor]:
    """Map a shard's tensors into memory, without reading them yet."""
    try:
        with safe_open(on_disk(shard.data(folder)), "pt") as file:
            if (file.metadata() or {}).get("inputs") == shard.inputs:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict
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


def verify_shard(
    folder: Path | RemotePath, shard: Shard, shapes: Mapping[str, tuple[int, ...]], *, key_digest: str
) -> list[str]:
    """Read every byte of a shard and of its record, and return what is wrong, as sentences."""
    name = f"Shard {shard.number}"
    fault, record = check_shard(folder, shard), read_record(folder, shard)
    if fault is not None or record is None:
        fault = fault or Fault(shard.number, "missing")
        return [f"{name} is {fault.kind}: {fault.reason}." if fault.reason else f"{name} is {fault.kind}."]
    problems = []
    if hashlib.sha256(shard.data(folder).read_bytes()).hexdigest() != record["sha256"]:
        problems.append(f"{name} is damaged: its sha256 is not the one in its record.")
    vouched = Shard.plan(
        shard.number, shard.rows, key_digest=key_digest, labels=record["labels"], images=record["images"]
    )
    if vouched != shard or record["rows"] != [shard.start, shard.stop]:
        problems.append(f"The record of shard {shard.number} is damaged: its images, labels or rows have changed.")
    tensors = read_shard(folder, shard)
    found = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    count = len(shard.rows)
    expected = {key: (count, *shape) for key, shape in shapes.items()} | {"label": (count,), "row": (count,)}
    if found != expected:
        problems.append(f"{name} holds {found} instead of {expected}.")
    elif tensors["row"].tolist() != list(shard.rows) or tensors["label"].tolist() != record["labels"]:
        problems.append(f"{name} holds other row numbers or labels than its record.")
    return problems


def _crc32(file: Path) -> str:
    value, buffer = 0, bytearray(CHUNK)
    with file.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            value = zlib.crc32(memoryview(buffer)[:count], value)
    return f"{value:08x}"
