import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tlkit.features import store as store_module
from tlkit.features import streaming
from tlkit.features.store import FeatureStore, StoreSpec
from tlkit.features.streaming import _sizes

ROWS, SIZE, WIDTH = 50, 8, 4
SHARDS = 7


def values(rows):
    return torch.arange(rows.start, rows.stop, dtype=torch.float32)[:, None] + torch.arange(WIDTH) / 100


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
