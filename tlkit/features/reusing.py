"""Rows that a folder holds already: found by what their picture is, wherever they lie, and copied."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tlkit.features.shards import (
    Fault,
    Shard,
    StoreError,
    check_shard,
    compute_crc32,
    images_of,
    read_record,
    read_shard,
)
from tlkit.features.spec import Copies, ShardSpec, identify
from tlkit.files.storage import RemotePath, at_once, on_disk

__all__ = ["Copied", "copy_rows", "find_copies"]

REMEMBERED = 100_000  # shards that were compared with their checksum


@dataclass
class Copied:
    """What was copied into a shard: the numbers of the rows, how long they had taken, and what had computed them."""

    rows: set[int] = field(default_factory=set)
    seconds: float = 0.0
    engines: set[str] = field(default_factory=set)


def find_copies(
    folder: Path | RemotePath, shards: Sequence[ShardSpec], names: str = "*.json"
) -> tuple[list[ShardSpec], list[Fault]]:
    """Find the rows of some shards in whatever shards with the same key there are.

    Parameters
    ----------
    folder : path
    shards : sequence of ShardSpec
        All of one store.
    names : str
        Pattern of the records to look at.

    Returns
    -------
    list of ShardSpec
        The same shards, with what can be copied.
    list of Fault
        Shards that have rows of these, and are damaged.
    """
    wanted = {identify(image, row) for some in shards for row, image in _rows(some)}
    found: dict[str, tuple[Shard, int]] = {}
    faults = []
    for shard, record in _records(folder, shards[0].shard.key_digest if shards else "", names):
        own = {identify(image, row): place for place, (row, image) in enumerate(_rows_of(shard, record))}
        new = {name: place for name, place in own.items() if name in wanted and name not in found}
        fault = _fault(folder, shard, record) if new else None
        if fault:
            faults.append(fault)
        else:
            found |= {name: (shard, place) for name, place in new.items()}
    return [replace(some, copies=_copies(some, found)) for some in shards], faults


def copy_rows(folder: Path | RemotePath, spec: ShardSpec, tensors: Mapping[str, Tensor]) -> Copied:
    """Copy what can be found of a shard's rows into tensors of all its rows.

    What a stopped process has left of this very shard is looked for again; the rest was found by `prepare`.
    """
    copied = Copied()
    [parts], _ = find_copies(folder, [spec], f"{spec.shard.number:05d}-*.json")
    for some in (*parts.copies, *spec.copies):
        places = {row: place for row, place in some.places.items() if row not in copied.rows}
        record = read_record(folder, some.source) if places else None
        if record is None or _fault(folder, some.source, record):
            continue  # gone or damaged since it was found
        try:
            content = read_shard(folder, some.source)
        except StoreError:
            continue
        rows, positions = torch.tensor(list(places)) - spec.shard.start, torch.tensor(list(places.values()))
        for name, tensor in tensors.items():
            tensor[rows] = content[name][positions]
        copied.rows |= set(places)
        copied.seconds += record.get("seconds", 0.0) * len(places) / len(some.source.rows)
        copied.engines |= set(record.get("engines", ()))
    return copied


def _records(folder: Path | RemotePath, key_digest: str, names: str) -> Iterator[tuple[Shard, dict[str, Any]]]:
    with ThreadPoolExecutor(at_once(folder)) as pool:
        files = (folder / "shards").glob(names) if key_digest else ()
        yield from filter(None, pool.map(lambda file: Shard.recorded(file, key_digest), files))


def _rows(spec: ShardSpec) -> Iterator[tuple[int, Mapping[str, Any]]]:
    return zip(spec.shard.rows, spec.images, strict=True)


def _rows_of(shard: Shard, record: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    return zip(shard.rows, images_of(record), strict=True)


def _copies(spec: ShardSpec, found: Mapping[str, tuple[Shard, int]]) -> tuple[Copies, ...]:
    by_source: dict[Shard, dict[int, int]] = {}
    for row, image in _rows(spec):
        if place := found.get(identify(image, row)):
            by_source.setdefault(place[0], {})[row] = place[1]
    return tuple(Copies(source, places) for source, places in by_source.items())


def _fault(folder: Path | RemotePath, shard: Shard, record: Mapping[str, Any]) -> Fault | None:
    """Check a shard, whose bytes are read once for all the shards that take rows from it."""
    fault = check_shard(folder, shard, content=False)
    if fault is None and not _is_right(folder, shard, record["crc32"]):
        return check_shard(folder, shard)
    return fault


def _is_right(folder: Path | RemotePath, shard: Shard, crc32: str) -> bool:
    try:
        file = on_disk(shard.data(folder))
        facts = file.stat()
        return _crc32_of(file, facts.st_size, facts.st_mtime_ns, facts.st_ino) == crc32
    except FileNotFoundError:
        return False


@functools.lru_cache(maxsize=REMEMBERED)
def _crc32_of(file: Path, *facts: int) -> str:
    return compute_crc32(file)
