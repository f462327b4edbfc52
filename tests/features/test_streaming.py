"""Stores larger than memory: read and shuffled in blocks."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import ROWS, SHARDS, SIZE, fill, values

from tlkit.features import store as store_module
from tlkit.features import streaming
from tlkit.features.store import FeatureStore, StoreSpec
from tlkit.features.streaming import _sizes

WIDTH = 4


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store that counts as larger than memory; a block holds three shards of it."""
    monkeypatch.setattr(store_module, "available_memory", lambda: 0)
    monkeypatch.setattr(streaming, "BLOCK_BYTES", 3 * SIZE * WIDTH * 4)
    spec = StoreSpec({}, {"fc2": (WIDTH,)}, "float32", ["a", "b"], torch.arange(ROWS) % 2, rows_per_shard=SIZE)
    return FeatureStore.fill(tmp_path, spec, lambda rows: {"fc2": values(rows)}, progress=False)


def note_reads(monkeypatch):
    reads = []
    for name in ("read_into", "read_shard"):
        read = getattr(store_module, name)

        def noted(folder, shard, *rest, read=read, name=name):
            reads.append((name, shard.number))
            return read(folder, shard, *rest)

        monkeypatch.setattr(store_module, name, noted)
    return reads


@given(
    numbers=st.lists(st.integers(0, 9), max_size=60),
    at_most=st.integers(1, 30),
    batch_size=st.integers(1, 20),
)
def test_blocks_are_whole_batches_and_no_larger_than_they_may_be(numbers, at_most, batch_size):
    sizes = _sizes(torch.tensor(numbers, dtype=torch.long).numpy(), at_most, batch_size)
    assert sum(sizes) == len(numbers)
    assert all(0 < size < at_most + batch_size for size in sizes)
    assert all(size % batch_size == 0 for size in sizes[:-1])


@pytest.mark.parametrize("batch_size", [1, SIZE])
@pytest.mark.parametrize("seed", range(4))
def test_a_shuffled_epoch_gives_each_row_once_and_reads_each_shard_once(store, batch_size, seed, monkeypatch):
    reads = note_reads(monkeypatch)
    order = store.shuffled(torch.Generator().manual_seed(seed))
    x = torch.cat([x for x, _ in store.batches(batch_size, order)])
    assert torch.equal(x, values(range(ROWS))[order])
    assert not torch.equal(order, order.sort().values)
    if batch_size == 1:  # larger batches may end behind a block that holds the last, shorter shard
        assert sorted(reads) == [("read_into", number) for number in range(SHARDS)]


def test_an_epoch_in_order_reads_each_shard_once(store, monkeypatch):
    reads = note_reads(monkeypatch)
    assert torch.equal(torch.cat([x for x, _ in store.batches(SIZE)]), values(range(ROWS)))
    assert reads == [("read_into", number) for number in range(SHARDS)]


def test_few_rows_of_a_shard_are_mapped_and_not_read_whole(store, monkeypatch):
    reads = note_reads(monkeypatch)
    ((x, y),) = store.batches(9, [17, 3, 17])
    assert torch.equal(x, values(range(ROWS))[[17, 3, 17]])
    assert y.tolist() == [1, 1, 1]
    assert reads == [("read_shard", 0), ("read_shard", 2)]


def test_batches_that_are_kept_stay_as_they_were(store):
    order = store.shuffled(torch.Generator().manual_seed(5))
    kept = [x for x, _ in store.batches(SIZE, order)]  # all of them, while later blocks take the place of earlier ones
    assert torch.equal(torch.cat(kept), values(range(ROWS))[order])


def test_leaving_an_epoch_early_ends_its_thread(store):
    before = threading.active_count()
    for _ in store.batches(SIZE):
        assert threading.active_count() == before + 1
        break
    assert threading.active_count() == before


def test_bfloat16_is_read_bit_by_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "available_memory", lambda: 0)
    spec = StoreSpec({}, {"fc2": (WIDTH,)}, "bfloat16", ["a"], torch.zeros(ROWS, dtype=torch.long), rows_per_shard=SIZE)
    store = FeatureStore.fill(tmp_path, spec, lambda rows: {"fc2": values(rows)}, progress=False)
    order = torch.randperm(ROWS)
    (x, _), *_ = store.batches(ROWS, order)
    assert torch.equal(x, values(range(ROWS)).bfloat16()[order])
    assert torch.equal(store.load().tensors["fc2"], values(range(ROWS)).bfloat16())


@pytest.fixture(scope="module")
def kept_and_mapped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    kept, _ = fill(folder)
    mapped = FeatureStore(folder)
    with pytest.MonkeyPatch.context() as patch:
        assert kept.in_memory
        patch.setattr(store_module, "available_memory", lambda: 2 * kept.nbytes)
        assert not mapped.in_memory
    return kept, mapped


@settings(deadline=None, max_examples=50)
@given(order=st.lists(st.integers(0, ROWS - 1), max_size=80), size=st.integers(1, 60))
def test_batches_follow_the_order_in_memory_and_from_files(kept_and_mapped, order, size):
    everything = values(range(ROWS))
    for store in kept_and_mapped:
        batches = list(store.batches(size, torch.tensor(order, dtype=torch.long)))
        assert [len(y) for _, y in batches] == [min(size, len(order) - k) for k in range(0, len(order), size)]
        for k, (x, y) in enumerate(batches):
            chosen = order[k * size : (k + 1) * size]
            assert torch.equal(x, everything[chosen])
            assert torch.equal(y, store.labels[chosen])


@pytest.mark.parametrize("block", [1, 300, 10**9])
def test_a_shuffled_order_is_every_row_once_from_memory_and_by_blocks_of_shards(kept_and_mapped, block, monkeypatch):
    monkeypatch.setattr(streaming, "BLOCK_BYTES", block)
    everything = values(range(ROWS))
    for store in kept_and_mapped:
        orders = [store.shuffled(torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
        assert torch.equal(orders[0], orders[1])
        assert not torch.equal(orders[0], orders[2])
        assert sorted(orders[0].tolist()) == list(range(ROWS))
        rows = torch.cat([x for x, _ in store.batches(7, orders[0])])
        assert torch.equal(rows, everything[orders[0]])


def test_a_block_reads_few_shards_and_mixes_them(kept_and_mapped, monkeypatch):
    _, mapped = kept_and_mapped
    monkeypatch.setattr(streaming, "BLOCK_BYTES", 2 * mapped.nbytes // SHARDS)
    order = mapped.shuffled(torch.Generator().manual_seed(3))
    per_shard = mapped.rows_per_shard
    first = order[: 2 * per_shard - per_shard // 2] // per_shard
    assert 1 <= len(first.unique()) <= 2 + (ROWS % per_shard > 0)
    assert not torch.equal(first, first.sort().values)
