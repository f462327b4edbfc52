"""Blocks: the parts in which a store larger than memory is shuffled, and read while the part before is in use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from tlkit.features.rows import FeatureRows, Features, view_as_array
from tlkit.features.shards import Shard

__all__ = ["read_by_blocks", "shuffle_by_blocks"]

BLOCK_BYTES = 64 * 1000**2  # two blocks are in memory: one in use, one being read

Read = Callable[[Shard, np.ndarray, Mapping[str, np.ndarray]], None]


def shuffle_by_blocks(store: FeatureRows, shards: Sequence[Shard], generator: torch.Generator) -> Tensor:
    """Return all row numbers in a random order that reads whole shards.

    The shards are shuffled, and then the rows within blocks of shards.
    """
    per_block = _block_rows(store, shards) // len(shards[0].rows)
    blocks = torch.randperm(len(shards), generator=generator).split(per_block)
    rows = [torch.cat([torch.arange(shards[k].start, shards[k].stop) for k in block.tolist()]) for block in blocks]
    return torch.cat([block[torch.randperm(len(block), generator=generator)] for block in rows])


def read_by_blocks(
    store: FeatureRows, shards: Sequence[Shard], read: Read, batch_size: int, rows: Tensor
) -> Iterator[tuple[Tensor | dict[str, Tensor], Tensor]]:
    """Yield a store's batches in the order of some row numbers; a thread reads the next block meanwhile.

    Parameters
    ----------
    store : FeatureRows
        Whose shapes, number type, labels and classes these are.
    shards : sequence of Shard
        Its shards, all with the same number of rows but the last.
    read : callable
        Writes some rows of a shard, numbered from its first, into arrays by name.
    batch_size : int
        Rows in a batch.
    rows : LongTensor
        Row numbers.
    """
    sizes = _sizes(rows.numpy() // len(shards[0].rows), _block_rows(store, shards), batch_size)
    blocks = rows.split(sizes)
    if not blocks:
        return
    spaces = [_Space(store, shards, read, max(sizes)) for _ in sizes[:2]]
    with ThreadPoolExecutor(1, thread_name_prefix="features") as reader:
        ahead = reader.submit(spaces[0].fill, blocks[0])
        for number in range(1, len(blocks) + 1):
            features, places = ahead.result()
            if number < len(blocks):
                ahead = reader.submit(spaces[number % 2].fill, blocks[number])
            yield from features.batches(batch_size, places)


def _block_rows(store: FeatureRows, shards: Sequence[Shard]) -> int:
    """Return the rows of a block: those of as many whole shards as it takes, but of two at least."""
    rows = len(shards[0].rows)
    return rows * max(2, BLOCK_BYTES // (rows * (store.nbytes // len(store))))


def _sizes(numbers: np.ndarray, at_most: int, batch_size: int) -> list[int]:
    """Divide an order into blocks of whole batches that end, where they can, when no shard is left half used.

    Parameters
    ----------
    numbers : integer array
        The shard of each row of the order.
    at_most : int
        Rows in a block; the batch with the last of them still belongs to it.
    batch_size : int
        Rows in a batch.
    """
    places = np.arange(len(numbers))
    last = np.zeros(numbers.max(initial=0) + 1, int)
    last[numbers] = places  # of several places of one shard, the last one stays
    ends = np.flatnonzero(np.maximum.accumulate(last[numbers]) == places) + 1
    sizes, done = [], 0
    while done < len(numbers):
        first, behind = np.searchsorted(ends, [done, done + at_most], "right")
        rows = int(ends[behind - 1]) - done if behind > first else at_most
        sizes.append(min(-(-rows // batch_size) * batch_size, len(numbers) - done))
        done += sizes[-1]
    return sizes


class _Space:
    """Memory for the rows of a block, written again for each block: fresh memory takes longer than the reading."""

    def __init__(self, store: FeatureRows, shards: Sequence[Shard], read: Read, rows: int) -> None:
        self.store, self.shards, self.read = store, shards, read
        self.tensors = {name: torch.empty(rows, *shape, dtype=store.dtype) for name, shape in store.shapes.items()}
        self.arrays = {name: view_as_array(tensor) for name, tensor in self.tensors.items()}

    def fill(self, rows: Tensor) -> tuple[Features, Tensor]:
        """Read some rows, each once and shard by shard, and return them with the place of each asked for."""
        wanted, places = np.unique(rows.numpy(), return_inverse=True)
        numbers, starts = np.unique(wanted // len(self.shards[0].rows), return_index=True)
        for number, start, stop in zip(numbers.tolist(), starts, [*starts[1:], len(wanted)], strict=True):
            shard = self.shards[number]
            into = {name: array[start:stop] for name, array in self.arrays.items()}
            self.read(shard, wanted[start:stop] - shard.start, into)
        tensors = {name: tensor[: len(wanted)] for name, tensor in self.tensors.items()}
        labels = self.store.labels.index_select(0, torch.from_numpy(wanted))
        return Features(tensors, labels, self.store.classes), torch.from_numpy(places)
