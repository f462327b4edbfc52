"""FeatureStore: features on disk that survive a crash, and never answer for other weights, images or settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tlkit.features.differences import write_ranges
from tlkit.features.filling import Compute, check_shards, fill_folder, fill_shard, show_progress
from tlkit.features.rows import FeatureRows, Features, view_as_array
from tlkit.features.shards import (
    Fault,
    Shard,
    StoreError,
    check_shard,
    explain_replaced,
    read_into,
    read_record,
    read_shard,
    verify_shard,
)
from tlkit.features.spec import Layout, ShardSpec, StoreSpec
from tlkit.features.streaming import read_by_blocks, shuffle_by_blocks
from tlkit.files.storage import RemotePath, at_once, place
from tlkit.memory import available_memory, counted

__all__ = ["FeatureStore", "StoreError", "StoreSpec", "fill_store"]

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
    rows_computed : int
        Number of rows that `fill` computed to get here; the others were there, or were copied from where they were.
    reasons : tuple of str
        What had changed, in words; empty for a new store and when there was nothing to do.

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
        self.rows_computed, self.reasons = 0, ()
        if in_memory is not None:
            self.in_memory = in_memory
        small = checked or self.nbytes <= CHECKED_AT_ONCE
        faults = () if checked else check_shards(self.path, layout.shards, content=small)
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
        """Compute what is missing or damaged, and return the complete store.

        A row that the folder holds is not computed again, wherever it lies: it is found by its picture's sha256. So a
        picture that was moved, or whose class got another name, costs nothing, and one that was added costs one row.

        It may be stopped at any moment, even killed: the next call goes on where it stopped, and at most some ten
        seconds of work are lost. Several processes may fill one store at once. A folder that lacks nothing is not
        written to.

        Parameters
        ----------
        path : path or str
            Folder of the store, made when there is none; or an address such as ``s3://bucket/features``.
        spec : StoreSpec
            What the store shall hold.
        compute : callable
            Takes row numbers of a shard, in ascending order, and returns the boundary tensors of these rows by name,
            each of shape (rows, ...); or yields them in parts, in order, which can then be kept one by one. What its
            attribute `engine` says, if it has one, goes into the shard's record.
        progress : bool
            Whether to show a progress bar.

        Raises
        ------
        OSError
            When the disk is too small or full, or the folder cannot be written.
        StoreError
            When something else lies at `path`, `compute` returns what does not belong there, or another process
            begins to write other features into it.

        Examples
        --------
        >>> import tempfile, torch, tlkit as tl
        >>> from tlkit.features.spec import StoreSpec
        >>> images = torch.rand(100, 12)
        >>> spec = StoreSpec({"graph": "mean"}, {"mean": ()}, "float32", ["daisy"], torch.zeros(100, dtype=torch.long))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = tl.FeatureStore.fill(folder, spec, lambda rows: {"mean": images[rows].mean(1)}, progress=False)
        ...     len(store), store.rows_computed
        (100, 100)
        """
        folder = place(path)

        def fill_shards(shards: Sequence[ShardSpec]) -> int:
            computed = 0
            with show_progress(folder, spec, shards, shown=progress) as bar:
                for some in shards:
                    computed += fill_shard(folder, some, compute)
                    bar.update(len(some.shard.rows))
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
            is_gone = fault.kind == "missing"
            raise StoreError(
                explain_replaced(self.path, shard) if is_gone else _not_usable(self.path, self._layout, [fault])
            )
        self._unchecked.discard(shard.number)

    def _labels_of(self, shard: Shard) -> list[int]:
        record = read_record(self.path, shard)
        if record is None:
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
        found = [verify_shard(self.path, shard, self.shapes) for shard in self._layout.shards]
        return [problem for problems in found for problem in problems]

    def __repr__(self) -> str:
        return f"FeatureStore('{self.path.as_posix()}': {self._facts()}, {counted(len(self._layout.shards), 'shard')})"


def fill_store(
    folder: Path | RemotePath, spec: StoreSpec, fill_shards: Callable[[Sequence[ShardSpec]], int]
) -> FeatureStore:
    """Fill what a store lacks, as `tlkit.features.filling.fill_folder` does, and return the complete store."""
    computed, reasons = fill_folder(folder, spec, fill_shards)
    store = FeatureStore(folder, checked=True)
    store.rows_computed, store.reasons = computed, reasons
    return store


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
