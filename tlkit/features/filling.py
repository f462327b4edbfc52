"""Filling a feature store: what is left to do, one shard after the other, and what stays when that is interrupted."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from tlkit.errors import quoted
from tlkit.features.differences import write_ranges
from tlkit.features.reasons import explain_work
from tlkit.features.reusing import copy_rows, find_copies
from tlkit.features.shards import (
    Fault,
    Shard,
    StoreError,
    check_shard,
    list_shards,
    remove_shard,
    write_shard,
)
from tlkit.features.spec import Layout, ShardSpec, StoreSpec, is_planned
from tlkit.features.writing import explain_failed_writes, publish, sweep
from tlkit.files.storage import RemotePath, at_once, free_space, place
from tlkit.memory import readable_size

__all__ = [
    "Compute",
    "Work",
    "check_shards",
    "fill_folder",
    "fill_shard",
    "prepare",
    "remove_surplus",
    "require_planned",
    "show_progress",
]

Named = Mapping[str, Tensor]
Compute = Callable[[Sequence[int]], Named | Iterable[Named]]
ROUNDS = 3
PART_SECONDS = 10.0  # of work that an interruption may cost


@dataclass(frozen=True)
class Work:
    """What is left to do for a store: the shards to make, and what had changed, in words."""

    shards: tuple[ShardSpec, ...]
    reasons: tuple[str, ...]


def prepare(path: str | os.PathLike[str], spec: StoreSpec) -> Work:
    """Make a folder ready to be filled, and find out which shards must be made, and which rows for them computed.

    `FeatureStore.fill` is `prepare`, then `fill_shard` for each shard, then `remove_surplus`; engines that make shards
    elsewhere call these themselves, in any order of shards and from any number of processes, and open the store when
    all is done.
    """
    folder, layout = place(path), spec.layout
    before, unreadable = Layout.find(folder)
    sweep(folder)
    sweep(folder / "shards")
    faults = check_shards(folder, layout.shards)
    if before == layout and not faults:
        return Work((), ())
    shards, harmed = find_copies(folder, [spec.shard(fault.number) for fault in faults])
    if before and before != layout:
        faults = check_shards(folder, before.shards, content=False)
    told = explain_work(folder, before, spec, [*faults, *harmed], computes=any(_missing(some) for some in shards))
    reasons = (unreadable,) if unreadable else tuple(told)
    _require_space(folder, spec, shards)
    with explain_failed_writes(folder):
        (folder / "shards").mkdir(parents=True, exist_ok=True)
        if before != layout:
            publish(folder / "spec.json", layout.to_bytes())
    return Work(tuple(shards), reasons)


def fill_shard(path: str | os.PathLike[str], spec: ShardSpec, compute: Compute) -> int:
    """Make and publish one shard of a prepared store unless it is there, and return how many rows were computed.

    About every ten seconds what is computed so far is published beside it, until the shard stands.

    Raises
    ------
    StoreError
        When another process has begun to write other features into the folder.
    """
    folder, shard = place(path), spec.shard
    require_planned(folder, spec.plan)
    if check_shard(folder, shard) is None:
        return 0
    made = _Rows(folder, spec)
    missing = made.copy()
    made.take(missing, compute)
    made.publish(shard, made.seconds)
    for part in made.parts:
        remove_shard(folder, part.stem)
    return len(missing)


def fill_folder(
    folder: Path | RemotePath, spec: StoreSpec, fill_shards: Callable[[Sequence[ShardSpec]], int]
) -> tuple[int, tuple[str, ...]]:
    """Fill what a store lacks, by a callable that is given the shards, and return how many rows were computed and why.

    Parameters
    ----------
    folder : path
    spec : StoreSpec
        What the store shall hold.
    fill_shards : callable
        Calls `fill_shard` for each of some shards, here or elsewhere, and returns how many rows were computed.

    Raises
    ------
    StoreError
        When another process writes other features into the folder.
    """
    work = prepare(folder, spec)
    pending, computed = work.shards, 0
    for _ in range(ROUNDS):  # more than one only when several processes, or what is left of a dead one, write here
        if not pending:
            break
        computed += fill_shards(pending)
        left = {fault.number for fault in check_shards(folder, [some.shard for some in pending])}
        pending = [some for some in pending if some.shard.number in left]
    require_planned(folder, spec.layout.checksum)
    if pending:
        numbers = write_ranges(some.shard.number for some in pending)
        msg = f"Shards {numbers} of '{folder}' are gone or damaged again as soon as they are written. Look at the disk."
        raise StoreError(msg)
    remove_surplus(folder, spec.layout)
    return computed, work.reasons


def check_shards(folder: Path | RemotePath, shards: Sequence[Shard], *, content: bool = True) -> list[Fault]:
    """Return what is wrong with some shards, see `check_shard`."""
    with ThreadPoolExecutor(at_once(folder)) as pool:
        faults = pool.map(lambda shard: check_shard(folder, shard, content=content), shards)
        return [fault for fault in faults if fault]


def remove_surplus(folder: Path | RemotePath, layout: Layout) -> None:
    """Remove the shards that the plan of a complete store does not name: of earlier plans, and parts."""
    with suppress(OSError):  # a folder that cannot be written stays as it is
        for stem in list_shards(folder) - {shard.stem for shard in layout.shards}:
            remove_shard(folder, stem)


def show_progress(folder: Path | RemotePath, spec: StoreSpec, shards: Sequence[ShardSpec], *, shown: bool) -> tqdm:
    """Return a bar of all rows of a store, of which those of some shards are still to be computed."""
    done = len(spec) - sum(len(some.shard.rows) for some in shards)
    text = f"Featurize into {folder.name}"
    return tqdm(desc=text, initial=done, total=len(spec), unit=" rows", disable=not shown)


class _Rows:
    """The rows of a shard that is being made."""

    def __init__(self, folder: Path | RemotePath, spec: ShardSpec) -> None:
        self.folder, self.spec = folder, spec
        dtype, count = getattr(torch, spec.dtype), len(spec.shard.rows)
        self.tensors = {name: torch.empty(count, *shape, dtype=dtype) for name, shape in spec.shapes.items()}
        self.seconds, self.engines = 0.0, set()
        self.parts: list[Shard] = []

    def copy(self) -> Sequence[int]:
        """Copy the rows that are in the folder, and return the numbers of the others."""
        found = copy_rows(self.folder, self.spec, self.tensors)
        self.seconds += found.seconds
        self.engines |= found.engines
        if not found.rows:
            return self.spec.shard.rows
        return [row for row in self.spec.shard.rows if row not in found.rows]

    def take(self, missing: Sequence[int], compute: Compute) -> None:
        """Compute rows, and publish what is finished now and then."""
        if not missing:
            return
        since, done, kept, spent = time.monotonic(), 0, self.spec.shard.start, 0.0
        result = compute(missing)
        for named in [result] if isinstance(result, Mapping) else result:
            count = len(missing) if result is named else _length(named)
            rows = missing[done : done + count]
            for name, values in _convert(named, rows, self.spec).items():
                self.tensors[name][torch.tensor(rows) - self.spec.shard.start] = values
            done += len(rows)
            spent = time.monotonic() - since
            self.engines |= {getattr(compute, "engine", "")} - {""}
            if done < len(missing) and spent >= PART_SECONDS:
                self.parts.append(self.spec.part(range(kept, missing[done])))
                self.publish(self.parts[-1], spent)
                self.seconds += spent
                kept, since = missing[done], time.monotonic()
        self.seconds += spent
        if done < len(missing):
            msg = f"The features of {len(missing)} rows were asked for, and those of {done} came."
            raise StoreError(msg)

    def publish(self, shard: Shard, seconds: float) -> None:
        """Write some of the rows, or all."""
        some = slice(shard.start - self.spec.shard.start, shard.stop - self.spec.shard.start)
        tensors = {name: tensor[some].clone() for name, tensor in self.tensors.items()}
        about = {"labels": self.spec.labels[some], "images": self.spec.images[some]}
        with explain_failed_writes(self.folder):
            write_shard(self.folder, shard, tensors, **about, seconds=seconds, engines=sorted(self.engines))


def _missing(spec: ShardSpec) -> int:
    return len(spec.shard.rows) - sum(len(some.places) for some in spec.copies)


def _length(named: Named) -> int:
    return len(next(iter(named.values()), ())) if isinstance(named, Mapping) else 0


def _convert(tensors: Named, rows: Sequence[int], spec: ShardSpec) -> dict[str, Tensor]:
    """Convert what `compute` returned to the store's dtype, and refuse what does not belong there."""
    if not isinstance(tensors, Mapping) or set(tensors) != set(spec.shapes):
        got = quoted(tensors) if isinstance(tensors, Mapping) else type(tensors).__name__
        msg = f"The features need the boundary tensors {quoted(spec.shapes)} by name; got {got or 'none'}."
        raise StoreError(msg)
    dtype, converted = getattr(torch, spec.dtype), {}
    for name, shape in spec.shapes.items():
        tensor, expected = tensors[name].detach(), (len(rows), *shape)
        if tuple(tensor.shape) != expected or not tensor.is_floating_point():
            msg = (
                f"For rows {rows[0]} to {rows[-1]}, '{name}' must be floating-point numbers of shape "
                f"{expected}; got {str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}."
            )
            raise StoreError(msg)
        converted[name] = tensor.to("cpu", dtype)
        if dtype == torch.float16 and bool(converted[name].isinf().any()):
            largest = float(tensor[~tensor.isnan()].abs().max())
            msg = (
                f"'{name}' has values up to {largest:,.0f} in rows {rows[0]} to {rows[-1]}; float16 ends at "
                "65,504. Store these features as 'bfloat16' or 'float32'."
            )
            raise StoreError(msg)
    return converted


def require_planned(folder: Path | RemotePath, plan: str) -> None:
    """Refuse to go on when another process has begun to fill a folder with something else."""
    if not is_planned(folder, plan):
        msg = (
            f"Another process writes other features into '{folder}'. Wait for it to end and run this again, or give "
            "each its own folder."
        )
        raise StoreError(msg)


def _require_space(folder: Path | RemotePath, spec: StoreSpec, shards: Sequence[ShardSpec]) -> None:
    """Refuse work whose result the disk cannot take; what no plan needs any more makes room for it."""
    free = free_space(folder)
    if not shards or free is None:
        return
    replaced = sum(_size(folder, some.shard.stem) for some in shards)
    rows = [len(some.shard.rows) for some in shards]
    needed = max(max(rows) * spec.row_bytes, sum(rows) * spec.row_bytes - replaced) * 11 // 10
    if needed <= free:
        return
    used = {copies.source.stem for some in shards for copies in some.copies}
    spare = list_shards(folder) - used - {shard.stem for shard in spec.layout.shards}
    if needed > free + sum(_size(folder, stem) for stem in spare):
        msg = (
            f"The features need {readable_size(needed)} in '{folder}', and the disk has {readable_size(free)} free. "
            "Make room, choose another folder or a later boundary, or store them as 'float16'."
        )
        raise OSError(errno.ENOSPC, msg)
    for stem in spare:
        remove_shard(folder, stem)


def _size(folder: Path | RemotePath, stem: str) -> int:
    with suppress(OSError):
        return (folder / "shards" / f"{stem}.safetensors").stat().st_size
    return 0
