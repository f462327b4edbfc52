"""FeatureStore: features on disk that survive a crash, and never answer for other weights, images or settings."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from tlkit.errors import quoted
from tlkit.features.differences import write_ranges
from tlkit.features.rows import FeatureRows, Features, view_as_array
from tlkit.features.shards import (
    Fault,
    Shard,
    StoreError,
    check_shard,
    explain_failed_writes,
    explain_replaced,
    publish,
    read_into,
    read_record,
    read_shard,
    sweep,
    verify_shard,
    write_shard,
)
from tlkit.features.spec import Layout, ShardSpec, StoreSpec, explain_work
from tlkit.features.streaming import read_by_blocks, shuffle_by_blocks
from tlkit.files.storage import RemotePath, at_once, free_space, place
from tlkit.memory import available_memory, counted, readable_size

__all__ = ["FeatureStore", "StoreError", "StoreSpec", "Work", "fill_shard", "fill_store", "prepare", "show_progress"]

Compute = Callable[[range], Mapping[str, Tensor]]
ROUNDS = 3
CHECKED_AT_ONCE = 128 * 1000**2  # bytes of features that are read in a moment, on slow disks too


class FeatureStore(FeatureRows):
    """A complete feature store on disk, or on object storage.

    No shard is used that was not compared with the checksum in its record. Opening compares all shards of a small
    store, up to 128 MB; of a larger one it reads the records and compares each shard when it is first read. Stores
    that fit in half of the available memory are kept there; batches of larger ones are gathered from the files, those
    of object storage from copies on this machine's disk.

    Parameters
    ----------
    path : path or str
        Folder of the store, or an address such as ``s3://bucket/features``.
    in_memory : bool, optional
        Whether to keep the features in memory; when left out, whether they fit in half of what is available.
    checked : bool
        Whether all shards were compared with their checksums just now.

    Attributes
    ----------
    path : pathlib.Path or tlkit.files.storage.RemotePath
        The folder.
    key : dict
        What the features were made with.
    computed : int
        Number of shards that `fill` computed to get here.
    reasons : tuple of str
        Why it had to, in words; empty for a new store and when there was nothing to compute.

    Raises
    ------
    FileNotFoundError
        When there is no store.
    StoreError
        When it is unfinished, damaged, or of a newer version of tlkit.
    """

    def __init__(self, path: str | os.PathLike[str], *, in_memory: bool | None = None, checked: bool = False) -> None:
        self.path = place(path)
        self._layout = layout = Layout.read(self.path)
        self.key, self.shapes, self.classes = layout.key, layout.shapes, layout.classes
        self.dtype = getattr(torch, layout.dtype)
        self.computed, self.reasons = 0, ()
        if in_memory is not None:
            self.in_memory = in_memory
        small = checked or self.nbytes <= CHECKED_AT_ONCE
        faults = () if checked else _check(self.path, layout.shards, content=small)
        if faults:
            raise StoreError(_not_usable(self.path, layout, faults))
        self._unchecked = set() if small else set(range(len(layout.shards)))

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> FeatureStore:
        """Open a complete store; the same as ``FeatureStore(path)``."""
        return cls(path)

    @classmethod
    def fill(
        cls, path: str | os.PathLike[str], spec: StoreSpec, compute: Compute, *, progress: bool = True
    ) -> FeatureStore:
        """Compute what is missing, damaged or outdated, and return the complete store.

        It may be stopped at any moment, even killed: the next call goes on where it stopped. Several processes may
        fill one store at once. A folder that lacks nothing is not written to.

        Parameters
        ----------
        path : path or str
            Folder of the store, made when there is none; or an address such as ``s3://bucket/features``.
        spec : StoreSpec
            What the store shall hold.
        compute : callable
            Takes the row numbers of a shard (a `range`) and returns the boundary tensors of these rows by name, each
            of shape (rows, ...). Equal row numbers should give equal numbers: cut batches inside a shard the same
            way each time. What its attribute `engine` says, if it has one, goes into the shard's record.
        progress : bool
            Whether to show a progress bar.

        Raises
        ------
        OSError
            When the disk is too small or full, or the folder cannot be written.
        StoreError
            When something else lies at `path`, or `compute` returns what does not belong there.

        Examples
        --------
        >>> import tempfile, torch, tlkit as tl
        >>> from tlkit.features.spec import StoreSpec
        >>> images = torch.rand(100, 12)
        >>> spec = StoreSpec({"graph": "mean"}, {"mean": ()}, "float32", ["daisy"], torch.zeros(100, dtype=torch.long))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = tl.FeatureStore.fill(folder, spec, lambda rows: {"mean": images[rows].mean(1)}, progress=False)
        ...     len(store), store.computed
        (100, 1)
        """
        folder = place(path)

        def fill_shards(numbers: Sequence[int]) -> int:
            computed = 0
            with show_progress(folder, spec, numbers, shown=progress) as bar:
                for number in numbers:
                    computed += fill_shard(folder, spec.shard(number), compute)
                    bar.update(len(spec.layout.shards[number].rows))
            return computed

        return fill_store(folder, spec, fill_shards)

    def __len__(self) -> int:
        return self._layout.rows

    @property
    def rows_per_shard(self) -> int:
        """Rows in each shard but the last, which may have fewer."""
        return self._layout.rows_per_shard

    @cached_property
    def labels(self) -> Tensor:
        """Position of each row's class in `classes`; LongTensor of shape (rows,)."""
        with ThreadPoolExecutor(at_once(self.path)) as pool:
            return torch.tensor([label for some in pool.map(self._labels_of, self._layout.shards) for label in some])

    @cached_property
    def in_memory(self) -> bool:
        """Whether batches come from memory: the features take less than half of what is available."""
        return self.nbytes < available_memory() / 2

    def load(self) -> Features:
        """Return all the features in memory."""
        return self._features if self.in_memory else self._read()

    @cached_property
    def _features(self) -> Features:
        return self._read()

    def _read(self) -> Features:
        tensors = {name: torch.empty(len(self), *shape, dtype=self.dtype) for name, shape in self.shapes.items()}
        arrays = {name: view_as_array(tensor) for name, tensor in tensors.items()}
        for shard in self._layout.shards:
            self._check_once(shard)
            read_into(self.path, shard, {name: array[shard.start : shard.stop] for name, array in arrays.items()})
        return Features(tensors, self.labels, self.classes)

    def shuffled(self, generator: torch.Generator) -> Tensor:
        """Return all row numbers in a random order; of a store larger than memory, one that reads whole shards."""
        if self.in_memory:
            return super().shuffled(generator)
        return shuffle_by_blocks(self, self._layout.shards, generator)

    def _batches(self, batch_size: int, rows: Tensor) -> Iterator[tuple[Tensor | dict[str, Tensor], Tensor]]:
        if self.in_memory:
            return self._features.batches(batch_size, rows)
        return read_by_blocks(self, self._layout.shards, self._copy_rows, batch_size, rows)

    def _copy_rows(self, shard: Shard, rows: np.ndarray, into: Mapping[str, np.ndarray]) -> None:
        self._check_once(shard)
        if len(rows) == len(shard.rows):
            read_into(self.path, shard, into)
            return
        content = read_shard(self.path, shard)
        for name, array in into.items():
            # "clip" writes where it shall at once; all these rows exist
            view_as_array(content[name]).take(rows, 0, out=array, mode="clip")

    def _check_once(self, shard: Shard) -> None:
        """Compare a shard of a large store with its checksum when it is first read."""
        if shard.number not in self._unchecked:
            return
        if fault := check_shard(self.path, shard):
            outdated = fault.kind == "outdated"
            raise StoreError(
                explain_replaced(self.path, shard) if outdated else _not_usable(self.path, self._layout, [fault])
            )
        self._unchecked.discard(shard.number)

    def _labels_of(self, shard: Shard) -> list[int]:
        record = read_record(self.path, shard)
        if record is None or record["inputs"] != shard.inputs:
            raise StoreError(explain_replaced(self.path, shard))
        return record["labels"]

    def verify(self) -> list[str]:
        """Read the whole store again, compare it with its sha256 records, and return what is wrong as sentences."""
        try:
            changed = Layout.read(self.path) != self._layout
        except (OSError, StoreError) as error:
            return [str(error)]
        if changed:
            return [f"The store in '{self.path}' was replaced after it was opened."]
        found = [
            verify_shard(self.path, shard, self.shapes, key_digest=self._layout.key_digest)
            for shard in self._layout.shards
        ]
        return [problem for problems in found for problem in problems]

    def __repr__(self) -> str:
        return f"FeatureStore('{self.path.as_posix()}': {self._facts()}, {counted(len(self._layout.shards), 'shard')})"


@dataclass(frozen=True)
class Work:
    """What is left to do for a store: the numbers of the shards to compute, and the reasons in words."""

    shards: tuple[int, ...]
    reasons: tuple[str, ...]


def prepare(path: str | os.PathLike[str], spec: StoreSpec) -> Work:
    """Make a folder ready to be filled, and find out which shards must be computed.

    `FeatureStore.fill` is `prepare`, then `fill_shard` for each shard; engines that compute shards elsewhere call
    the two themselves, in any order of shards and from any number of processes, and open the store when all is done.
    """
    folder, layout = place(path), spec.layout
    before = Layout.find(folder)
    sweep(folder)
    sweep(folder / "shards")
    faults = _check(folder, layout.shards)
    reasons = tuple(explain_work(folder, before, spec, faults))
    if before == layout and not faults:
        return Work((), ())
    _require_space(folder, spec, [fault.number for fault in faults])
    with explain_failed_writes(folder):
        (folder / "shards").mkdir(parents=True, exist_ok=True)
        if before != layout:
            publish(folder / "spec.json", layout.to_bytes())
        _remove_surplus(folder, len(layout.shards))
    return Work(tuple(fault.number for fault in faults), reasons)


def fill_shard(path: str | os.PathLike[str], spec: ShardSpec, compute: Compute) -> bool:
    """Compute and publish one shard of a prepared store, and return whether that was needed."""
    folder, shard = place(path), spec.shard
    if check_shard(folder, shard) is None:
        return False
    start = time.perf_counter()
    tensors = _convert(compute(shard.rows), spec)
    seconds = time.perf_counter() - start
    engine = getattr(compute, "engine", "")
    with explain_failed_writes(folder):
        write_shard(folder, shard, tensors, labels=spec.labels, images=spec.images, seconds=seconds, engine=engine)
    return True


def fill_store(folder: Path | RemotePath, spec: StoreSpec, fill_shards: Callable[[Sequence[int]], int]) -> FeatureStore:
    """Fill what a store lacks, by a callable that is given the numbers of shards, and return the complete store.

    Parameters
    ----------
    folder : path
    spec : StoreSpec
        What the store shall hold.
    fill_shards : callable
        Calls `fill_shard` for each of some shards, here or elsewhere, and returns how many were computed.

    Raises
    ------
    StoreError
        When another process keeps writing other features into the folder.
    """
    work = prepare(folder, spec)
    pending, computed = work.shards, 0
    for _ in range(ROUNDS):  # more than one only when several processes, or what is left of a dead one, write here
        if not pending:
            break
        computed += fill_shards(pending)
        pending = tuple(fault.number for fault in _check(folder, [spec.layout.shards[n] for n in pending]))
    if pending or Layout.read(folder) != spec.layout:
        msg = (
            f"Another process keeps writing other features into '{folder}'. "
            "Wait for it to end, or give each its own folder."
        )
        raise StoreError(msg)
    store = FeatureStore(folder, checked=True)
    store.computed, store.reasons = computed, work.reasons
    return store


def show_progress(folder: Path | RemotePath, spec: StoreSpec, numbers: Sequence[int], *, shown: bool) -> tqdm:
    """Return a bar of all rows of a store, of which those of some shards are still to be computed."""
    done = len(spec) - sum(len(spec.layout.shards[number].rows) for number in numbers)
    text = f"Featurize into {folder.name}"
    return tqdm(desc=text, initial=done, total=len(spec), unit=" rows", disable=not shown)


def _convert(tensors: Mapping[str, Tensor], spec: ShardSpec) -> dict[str, Tensor]:
    """Convert what `compute` returned to the store's dtype, and refuse what does not belong there."""
    if not isinstance(tensors, Mapping) or set(tensors) != set(spec.shapes):
        got = quoted(tensors) if isinstance(tensors, Mapping) else type(tensors).__name__
        msg = f"The features need the boundary tensors {quoted(spec.shapes)} by name; got {got or 'none'}."
        raise StoreError(msg)
    rows, dtype, converted = spec.shard.rows, getattr(torch, spec.dtype), {}
    for name, shape in spec.shapes.items():
        tensor, expected = tensors[name].detach(), (len(rows), *shape)
        if tuple(tensor.shape) != expected or not tensor.is_floating_point():
            msg = (
                f"For rows {rows.start} to {rows.stop - 1}, '{name}' must be floating-point numbers of shape "
                f"{expected}; got {str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}."
            )
            raise StoreError(msg)
        # A copy of its own: safetensors refuses tensors that share memory.
        converted[name] = tensor.to("cpu", dtype, copy=True).contiguous()
        if dtype == torch.float16 and bool(converted[name].isinf().any()):
            largest = float(tensor[~tensor.isnan()].abs().max())
            msg = (
                f"'{name}' has values up to {largest:,.0f} in rows {rows.start} to {rows.stop - 1}; float16 ends at "
                "65,504. Store these features as 'bfloat16' or 'float32'."
            )
            raise StoreError(msg)
    return converted


def _check(folder: Path | RemotePath, shards: Sequence[Shard], *, content: bool = True) -> list[Fault]:
    with ThreadPoolExecutor(at_once(folder)) as pool:
        faults = pool.map(lambda shard: check_shard(folder, shard, content=content), shards)
        return [fault for fault in faults if fault]


def _not_usable(folder: Path | RemotePath, layout: Layout, faults: Sequence[Fault]) -> str:
    total = len(layout.shards)
    again = "Featurize again with the same settings: only these shards are computed."
    damaged = [fault for fault in faults if fault.kind == "damaged"]
    if damaged:
        found = "; ".join(f"shard {fault.number}: {fault.reason}" for fault in damaged[:5])
        more = f"; and {len(damaged) - 5} more" if len(damaged) > 5 else ""
        return f"The feature store in '{folder}' is damaged ({found}{more}). {again}"
    missing = write_ranges(fault.number for fault in faults)
    return (
        f"The feature store in '{folder}' is unfinished: {len(faults)} of {counted(total, 'shard')} "
        f"still to be computed ({missing}). {again}"
    )


def _require_space(folder: Path | RemotePath, spec: StoreSpec, numbers: Sequence[int]) -> None:
    """Refuse work whose result the disk cannot take."""
    free = free_space(folder)
    if not numbers or free is None:
        return
    replaced = 0
    for number in numbers:
        with suppress(OSError):
            replaced += spec.layout.shards[number].data(folder).stat().st_size
    rows = [len(spec.layout.shards[number].rows) for number in numbers]
    needed = max(max(rows) * spec.row_bytes, sum(rows) * spec.row_bytes - replaced) * 11 // 10
    if needed > free:
        msg = (
            f"The features need {readable_size(needed)} in '{folder}', and the disk has {readable_size(free)} free. "
            "Make room, choose another folder or a later boundary, or store them as 'float16'."
        )
        raise OSError(errno.ENOSPC, msg)


def _remove_surplus(folder: Path | RemotePath, count: int) -> None:
    """Remove the shards of an earlier, longer store, records first."""
    for suffix in ("json", "safetensors"):
        for file in (folder / "shards").glob(f"*.{suffix}"):
            if file.stem.isdecimal() and int(file.stem) >= count:
                file.unlink(missing_ok=True)
