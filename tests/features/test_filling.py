"""Filling a store: what stays when it is interrupted, what others may write meanwhile, and what is in the way."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from stores import CLASSES, ROWS, SHARDS, SIZE, Compute, changed_key, fill, make_spec, shard_bytes, shard_file, values

from tlkit.features import filling
from tlkit.features.filling import fill_shard, prepare
from tlkit.features.shards import _read_sealed, _seal
from tlkit.features.spec import Layout
from tlkit.features.store import FeatureStore, StoreError

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


def stems(path):
    return {file.stem for file in (path / "shards").iterdir()}


def planned(spec):
    return {shard.stem for shard in spec.layout.shards}


class ByTwos(Compute):
    """Yields two rows at a time, and stops at a row."""

    engine = "by twos"

    def __init__(self, stop_at=None):
        super().__init__()
        self.stop_at = stop_at

    def __call__(self, rows):
        for start in range(0, len(rows), 2):
            some = rows[start : start + 2]
            if self.stop_at in some:
                raise KeyboardInterrupt
            self.rows += some
            yield {"fc2": values(some)}


# Shards by time


@pytest.fixture
def each_part_is_late(monkeypatch):
    """Ten seconds pass with each part."""
    monkeypatch.setattr(filling, "PART_SECONDS", 0)


def test_what_is_computed_of_a_shard_is_kept_when_it_is_late(tmp_path, each_part_is_late):
    spec = make_spec(rows_per_shard=ROWS)
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, spec, ByTwos(stop_at=31))
    assert len(stems(tmp_path)) == 15
    with pytest.raises(StoreError, match="unfinished: 1 of 1 shard"):
        FeatureStore(tmp_path)
    store, compute = fill(tmp_path, spec, ByTwos())
    assert compute.rows == list(range(30, ROWS))
    assert store.rows_computed == ROWS - 30
    assert stems(tmp_path) == planned(spec)
    assert torch.equal(store.load().tensors["fc2"], values(range(ROWS)))
    assert store.verify() == []


def test_nothing_more_is_written_when_a_shard_is_quick(tmp_path, monkeypatch):
    written = []
    write = filling.write_shard
    monkeypatch.setattr(filling, "write_shard", lambda *a, **b: written.append(a[1]) or write(*a, **b))
    fill(tmp_path, compute=ByTwos())
    assert written == list(make_spec().layout.shards)


def test_parts_of_one_process_serve_another_that_fills_the_shard(tmp_path, each_part_is_late):
    spec = make_spec()
    work = prepare(tmp_path, spec)
    with pytest.raises(KeyboardInterrupt):
        fill_shard(tmp_path, work.shards[2], ByTwos(stop_at=2 * SIZE + 4))
    compute = ByTwos()
    assert fill_shard(tmp_path, work.shards[2], compute) == SIZE - 4
    assert compute.rows == list(range(2 * SIZE + 4, 3 * SIZE))
    record = json.loads(shard_file(tmp_path, 2, "json").read_bytes())
    assert record["engines"] == ["by twos"]


def test_parts_serve_another_plan(tmp_path, each_part_is_late):
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, compute=ByTwos(stop_at=13))
    spec = make_spec(rows_per_shard=SIZE + 3, labels=2 - make_spec().labels)
    store, compute = fill(tmp_path, spec, ByTwos())
    assert compute.rows == list(range(12, ROWS))
    assert torch.equal(store.load().tensors["fc2"], values(range(ROWS)))
    assert stems(tmp_path) == planned(spec)


def test_too_few_parts_are_refused(tmp_path):
    with pytest.raises(StoreError, match="features of 8 rows were asked for, and those of 2 came"):
        fill(tmp_path, compute=lambda rows: iter([{"fc2": values(rows[:2])}]))


# Copies


def test_rows_in_any_order_are_copied_to_where_they_belong(tmp_path):
    fill(tmp_path)
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(3)).tolist()
    images = [make_spec().images[row] for row in order]
    store, compute = fill(tmp_path, make_spec(images=images))
    assert compute.rows == []
    assert torch.equal(store.load().tensors["fc2"], values(order))
    assert stems(tmp_path) == planned(make_spec(images=images))


def test_a_damaged_shard_is_no_source_and_is_named(tmp_path):
    fill(tmp_path)
    file = shard_file(tmp_path, 2)
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    store, compute = fill(tmp_path, make_spec(labels=2 - make_spec().labels))
    assert compute.rows == list(range(2 * SIZE, 3 * SIZE))
    assert store.reasons[1].startswith("shard 2 was damaged: the bytes of")
    assert torch.equal(store.load().tensors["fc2"], values(range(ROWS)))


def test_a_source_that_is_gone_or_damaged_after_the_plan_was_made_is_computed(tmp_path):
    fill(tmp_path)
    spec = make_spec(labels=2 - make_spec().labels)
    work = prepare(tmp_path, spec)
    shard_file(tmp_path, 1).unlink()
    file = shard_file(tmp_path, 2)
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    compute = Compute()
    assert [fill_shard(tmp_path, some, compute) for some in work.shards] == [0, SIZE, SIZE, 0, 0, 0, 0]
    assert torch.equal(FeatureStore(tmp_path).load().tensors["fc2"], values(range(ROWS)))


def test_rows_of_another_key_are_never_copied(tmp_path):
    fill(tmp_path)
    store, compute = fill(tmp_path, changed_key(graph="conv gelu"))
    assert store.rows_computed == len(compute.rows) == ROWS


def test_two_networks_that_take_turns_before_either_is_done_lose_nothing(tmp_path):
    other = changed_key(graph="conv gelu")
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            fill(tmp_path, compute=Compute(stop_at=4))
        with pytest.raises(KeyboardInterrupt):
            fill(tmp_path, other, Compute(stop_at=5))
    assert fill(tmp_path)[1].asked == [4, 5, 6]


def test_rows_without_a_hash_are_found_by_their_number(tmp_path):
    plain = {"images": (), "labels": torch.zeros(ROWS, dtype=torch.long)}
    fill(tmp_path, make_spec(**plain))
    assert fill(tmp_path, make_spec(**plain, rows_per_shard=2 * SIZE))[1].rows == []


# Others that write


def test_a_writer_whose_plan_was_replaced_stops_and_the_other_store_is_whole(tmp_path):
    other, first = make_spec(key={"graph": "another"}), Compute()

    def compute(rows):
        if rows[0] == 2 * SIZE:
            fill(tmp_path, other)
        return first(rows)

    with pytest.raises(StoreError, match=r"Another process writes other features into .*give each its own folder"):
        fill(tmp_path, compute=compute)
    assert first.asked == [0, 1, 2]
    assert FeatureStore(tmp_path).verify() == []
    assert Layout.read(tmp_path) == other.layout
    fill(tmp_path, other)
    assert stems(tmp_path) == planned(other)


def test_surplus_shards_change_nothing_and_go_with_the_next_fill(tmp_path, monkeypatch):
    fill(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(filling, "remove_surplus", lambda *_: None)  # as if it were killed before
        fill(tmp_path, make_spec(3 * SIZE))
    assert len(stems(tmp_path)) == SHARDS
    store = FeatureStore(tmp_path)
    assert (len(store), store.verify()) == (3 * SIZE, [])
    fill(tmp_path, make_spec(3 * SIZE))
    assert stems(tmp_path) == planned(make_spec(3 * SIZE))


# What is forged, of an earlier format, or in the way


def forged(change):
    def harm(file):
        record = _read_sealed(file)
        del record["record_crc32"]
        change(record)
        file.write_bytes(_seal(json.dumps(record, indent=1).encode()))

    return harm


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["labels"].reverse(),
        lambda record: record["images"]["path"].append(record["images"]["path"].pop(0)),
        lambda record: record["images"]["sha256"].pop(),
        lambda record: record.update(rows=[0, SIZE]),
    ],
)
def test_a_record_that_was_changed_under_a_right_seal_is_noticed_when_the_store_is_opened(tmp_path, change):
    fill(tmp_path)
    whole = shard_bytes(tmp_path)
    forged(change)(shard_file(tmp_path, 2, "json"))
    with pytest.raises(StoreError, match=r"shard 2: its record is one of other pictures, labels or rows"):
        FeatureStore(tmp_path)
    assert fill(tmp_path)[1].asked == [2]
    assert shard_bytes(tmp_path) == whole


def test_a_key_that_was_changed_under_a_right_checksum_is_noticed(tmp_path):
    fill(tmp_path)
    layout = Layout.read(tmp_path)
    layout.key["preprocessing"] = {"resize": 1}
    (tmp_path / "spec.json").write_bytes(layout.to_bytes())
    with pytest.raises(StoreError, match=r"damaged \(its key is another\)"):
        FeatureStore(tmp_path)


def test_a_store_of_the_first_format_is_computed_anew_with_a_sentence(tmp_path):
    fill(tmp_path)
    spec = json.loads((tmp_path / "spec.json").read_text())
    (tmp_path / "spec.json").write_text(json.dumps({**spec, "version": 1}))
    for file in [*(tmp_path / "shards").iterdir()]:
        file.rename(file.with_name(file.name[:5] + file.suffix))
    with pytest.raises(StoreError, match=r"has format 1, from an earlier version of tlkit; this one reads format 2"):
        FeatureStore(tmp_path)
    store, compute = fill(tmp_path)
    assert compute.asked == list(range(SHARDS))
    assert store.reasons == ("it was written by an earlier version of tlkit, in another format",)
    assert stems(tmp_path) == planned(make_spec())


def empty_folder(file):
    file.unlink()
    file.mkdir()


def full_folder(file):
    empty_folder(file)
    (file / "kept.txt").write_text("kept")


def loop(file):
    file.unlink()
    file.symlink_to(file.name)


@pytest.mark.parametrize("harm", [empty_folder, full_folder, loop])
@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_a_folder_or_a_loop_in_place_of_a_file_is_damage_and_mended(tmp_path, harm, suffix):
    opened, _ = fill(tmp_path)
    whole = shard_bytes(tmp_path)
    harm(shard_file(tmp_path, 2, suffix))
    assert len(opened.verify()) == 1
    with pytest.raises(StoreError, match=r"damaged \(shard 2: "):
        FeatureStore(tmp_path)
    store, compute = fill(tmp_path)
    assert compute.asked == [2]
    assert len(store.reasons) == 1
    assert shard_bytes(tmp_path) == whole
    assert len(list(tmp_path.rglob("kept.txt"))) == (harm is full_folder)


@pytest.mark.parametrize("harm", [empty_folder, full_folder, loop])
def test_a_folder_or_a_loop_in_place_of_the_plan_costs_no_shard(tmp_path, harm):
    fill(tmp_path)
    harm(tmp_path / "spec.json")
    with pytest.raises(StoreError, match=r"spec.json' is damaged .*whole shards are kept"):
        FeatureStore(tmp_path)
    assert fill(tmp_path)[1].asked == []
    assert FeatureStore(tmp_path).classes == CLASSES


def test_what_nobody_needs_makes_room_before_a_disk_is_called_too_small(tmp_path, monkeypatch):
    fill(tmp_path)
    monkeypatch.setattr(filling, "free_space", lambda folder: SIZE * make_spec().row_bytes * 2)
    fill(tmp_path, changed_key(graph="conv gelu"))
    relabeled = replace(changed_key(graph="conv gelu"), labels=2 - make_spec().labels)
    with pytest.raises(OSError, match="The features need"):  # its rows are to be copied, so the old shards must stay
        fill(tmp_path, relabeled)
