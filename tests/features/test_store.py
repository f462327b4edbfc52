"""Feature stores: what comes back, what a stopped run and damage cost, and what is refused."""

import errno
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from stores import CLASSES, ROWS, SHARDS, SIZE, Compute, changed_key, fill, make_spec, shard_bytes, shard_file, values

from tlkit.features import shards as shards_module
from tlkit.features import store as store_module
from tlkit.features import streaming
from tlkit.features.filling import fill_shard, prepare
from tlkit.features.rows import Features
from tlkit.features.shards import _seal
from tlkit.features.store import FeatureStore, StoreError

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

# What is stored comes back


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", torch.float16])
def test_features_come_back(tmp_path, dtype):
    shapes = {"add": (2, 3), "pool": ()}
    filled, _ = fill(tmp_path / "store", make_spec(shapes=shapes, dtype=dtype), Compute(shapes))
    opened = FeatureStore.open(tmp_path / "store")
    for store in (filled, opened):
        assert len(store) == ROWS
        assert store.names == ("add", "pool")
        assert store.shapes == shapes
        assert store.dtype == (dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype))
        assert store.classes == CLASSES
        assert torch.equal(store.labels, torch.arange(ROWS) % 3)
        assert store.key["preprocessing"] == {"resize": 256}
        assert store.verify() == []
        for x, y in store.batches(64):
            assert torch.equal(x["add"], values(range(ROWS), (2, 3)).to(store.dtype))
            assert torch.equal(x["pool"], values(range(ROWS), ()).to(store.dtype))
            assert torch.equal(y, store.labels)
    assert (filled.rows_computed, opened.rows_computed) == (ROWS, 0)
    assert filled.reasons == opened.reasons == ()


def test_load_gives_features_in_memory(tmp_path):
    features = fill(tmp_path)[0].load()
    assert isinstance(features, Features)
    assert torch.equal(features.tensors["fc2"], values(range(ROWS)))
    assert features.classes == CLASSES


def test_several_boundaries_come_from_files_too(tmp_path, monkeypatch):
    shapes = {"add": (2, 3), "pool": ()}
    fill(tmp_path, make_spec(shapes=shapes), Compute(shapes))
    monkeypatch.setattr(store_module, "available_memory", lambda: 0)
    store, order = FeatureStore(tmp_path), torch.randperm(ROWS)
    x, _ = next(store.batches(ROWS, order))
    assert torch.equal(x["add"], values(range(ROWS), (2, 3))[order])
    assert torch.equal(x["pool"], values(range(ROWS), ())[order])
    assert torch.equal(store.load().tensors["add"], values(range(ROWS), (2, 3)))


def test_the_order_of_boundaries_is_kept(tmp_path):
    shapes = {"z": (4,), "a": (4,)}
    assert fill(tmp_path, make_spec(shapes=shapes), Compute(shapes))[0].names == ("z", "a")
    assert FeatureStore(tmp_path).names == ("z", "a")
    turned = {"a": (4,), "z": (4,)}
    again, compute = fill(tmp_path, make_spec(shapes=turned), Compute(turned))
    assert again.names == ("a", "z")
    assert compute.asked == []


def test_names_with_spaces_and_accents_are_kept(tmp_path):
    name = "größe 2 (π)"
    path = tmp_path / "bilder für alle" / "ユニコード"
    fill(path, make_spec(shapes={name: (4,)}), Compute({name: (4,)}))
    store = FeatureStore(path)
    assert store.names == (name,)
    assert store.verify() == []


def test_boundaries_may_share_memory(tmp_path):
    def compute(rows):
        x = values(rows, (4,))
        return {"whole": x, "half": x[:, ::2], "repeated": x[:, :1].expand(-1, 4)}

    shapes = {"whole": (4,), "half": (2,), "repeated": (4,)}
    features = fill(tmp_path, make_spec(shapes=shapes), compute)[0].load()
    assert torch.equal(features.tensors["half"], values(range(ROWS))[:, ::2])
    assert torch.equal(features.tensors["repeated"][:, 3], values(range(ROWS))[:, 0])


def test_the_representation_is_short_and_stable(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store, _ = fill("features/train")
    facts = "50 rows of 'fc2' (4,), float32, 3 classes, 800 bytes, 7 shards"
    assert repr(store) == f"FeatureStore('features/train': {facts})"
    assert "FeatureStore: 50 rows, 3 classes" in store._repr_html_()


def test_the_progress_bar_counts_rows(tmp_path, capsys):
    FeatureStore.fill(tmp_path / "train", make_spec(), Compute())
    shown = capsys.readouterr().err
    assert "Featurize into train: 100%" in shown
    assert "50/50" in shown
    FeatureStore.fill(tmp_path / "train", make_spec(), Compute())
    assert capsys.readouterr().err == ""


# Stop and go on


def test_a_stopped_run_goes_on_where_it_stopped(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "stopped", compute=Compute(stop_at=3))
    text = r"unfinished: 4 of 7 shards still to be computed \(3 to 6\).*same settings"
    with pytest.raises(StoreError, match=text):
        FeatureStore.open(tmp_path / "stopped")
    store, compute = fill(tmp_path / "stopped")
    assert compute.asked == [3, 4, 5, 6]
    assert store.rows_computed == ROWS - 3 * SIZE
    assert store.reasons == ("shards 3 to 6 were not finished yet",)
    fill(tmp_path / "undisturbed")
    assert shard_bytes(tmp_path / "stopped") == shard_bytes(tmp_path / "undisturbed")


def test_nothing_is_computed_twice(tmp_path):
    fill(tmp_path)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    store, compute = fill(tmp_path)
    assert compute.asked == []
    assert (store.rows_computed, store.reasons) == (0, ())
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def flip_a_bit(path):
    file = shard_file(path, 2)
    content = bytearray(file.read_bytes())
    content[-5] ^= 16
    file.write_bytes(content)


def cut(path):
    os.truncate(shard_file(path, 2), shard_file(path, 2).stat().st_size - 10)


def empty(path):
    shard_file(path, 2).write_bytes(b"")


def remove_data(path):
    shard_file(path, 2).unlink()


def remove_record(path):
    shard_file(path, 2, "json").unlink()


def break_record(path):
    shard_file(path, 2, "json").write_text('{"bytes": 12')


def shorten_record(path):
    shard_file(path, 2, "json").write_text("{}")


@pytest.mark.parametrize(
    ("harm", "text"),
    [
        (flip_a_bit, r"damaged \(shard 2: the bytes of 00002-\w+.safetensors have changed"),
        (cut, r"damaged \(shard 2: 00002-\w+.safetensors has \d+ bytes instead of \d+"),
        (empty, r"damaged \(shard 2: 00002-\w+.safetensors has 0 bytes"),
        (remove_data, r"damaged \(shard 2: 00002-\w+.safetensors is gone"),
        (remove_record, r"unfinished: 1 of 7 shards still to be computed \(2\)"),
        (break_record, r"damaged \(shard 2: its record cannot be read"),
        (shorten_record, r"damaged \(shard 2: its record cannot be read"),
    ],
)
def test_damage_is_noticed_and_only_that_shard_computed_again(tmp_path, harm, text):
    before = fill(tmp_path)[0]
    whole = shard_bytes(tmp_path)
    harm(tmp_path)
    assert len(before.verify()) == 1
    assert before.verify()[0].startswith("Shard 2 is ")
    with pytest.raises(StoreError, match=text):
        FeatureStore(tmp_path)
    store, compute = fill(tmp_path)
    assert compute.asked == [2]
    assert len(store.reasons) == 1
    assert "shard 2 was" in store.reasons[0]
    assert shard_bytes(tmp_path) == whole


@pytest.mark.parametrize("suffixes", [("safetensors",), ("json",), ("safetensors", "json")])
def test_swapped_shards_are_noticed(tmp_path, suffixes):
    spec = make_spec(images=(), labels=torch.zeros(ROWS, dtype=torch.long))
    fill(tmp_path, spec)
    whole = shard_bytes(tmp_path)
    for suffix in suffixes:
        one, two = (shard_file(tmp_path, number, suffix, spec) for number in (1, 4))
        content = one.read_bytes()
        one.write_bytes(two.read_bytes())
        two.write_bytes(content)
    with pytest.raises(StoreError):
        FeatureStore(tmp_path)
    _, compute = fill(tmp_path, spec)
    assert compute.asked == [1, 4]
    assert shard_bytes(tmp_path) == whole


def test_verify_reads_what_crc32_cannot_tell(tmp_path):
    store, _ = fill(tmp_path)
    file = shard_file(tmp_path, 3, "json")
    record = json.loads(file.read_text())
    del record["record_crc32"]
    file.write_bytes(_seal(json.dumps({**record, "sha256": "0" * 64}, indent=1).encode()))
    assert store.verify() == ["Shard 3 is damaged: its sha256 is not the one in its record."]
    record["images"]["path"][0] = "other.jpg"
    file.write_bytes(_seal(json.dumps(record, indent=1).encode()))
    assert store.verify() == ["Shard 3 is damaged: its record is one of other pictures, labels or rows."]


@pytest.fixture
def large(monkeypatch):
    """Stores count as too large to be read when they are opened, and for memory."""
    monkeypatch.setattr(store_module, "CHECKED_AT_ONCE", 0)
    monkeypatch.setattr(store_module, "available_memory", lambda: 0)
    monkeypatch.setattr(streaming, "BLOCK_BYTES", 100)


def note_checksums(monkeypatch):
    files, crc32 = [], shards_module.compute_crc32
    monkeypatch.setattr(shards_module, "compute_crc32", lambda file: files.append(int(file.stem[:5])) or crc32(file))
    return files


def test_opening_a_large_store_reads_its_records_and_its_first_epoch_each_shard_s_checksum(
    tmp_path, large, monkeypatch
):
    fill(tmp_path)
    checked = note_checksums(monkeypatch)
    store = FeatureStore(tmp_path)
    assert store.labels.tolist() == make_spec().labels.tolist()
    assert checked == []
    for seed in range(3):
        assert sum(len(y) for _, y in store.batches(SIZE, store.shuffled(torch.Generator().manual_seed(seed)))) == ROWS
    assert sorted(checked) == list(range(SHARDS))
    assert FeatureStore(tmp_path).load().tensors["fc2"].equal(values(range(ROWS)))
    assert sorted(checked) == sorted(2 * [*range(SHARDS)])


def test_opening_a_small_store_compares_all_its_checksums(tmp_path, monkeypatch):
    fill(tmp_path)
    checked = note_checksums(monkeypatch)
    list(FeatureStore(tmp_path).batches(SIZE))
    assert sorted(checked) == list(range(SHARDS))


def test_damage_in_a_large_store_is_told_as_that_in_a_small_one(tmp_path, large, monkeypatch):
    fill(tmp_path)
    file = shard_file(tmp_path, 3)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    store = FeatureStore(tmp_path)
    with pytest.raises(StoreError) as late:
        list(store.batches(SIZE))
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "CHECKED_AT_ONCE", 10**9)
        with pytest.raises(StoreError) as early:
            FeatureStore(tmp_path)
    assert str(late.value) == str(early.value)
    assert fill(tmp_path)[1].asked == [3]


def test_labels_of_a_store_replaced_while_open_are_refused(tmp_path, large):
    fill(tmp_path)
    store = FeatureStore(tmp_path)
    fill(tmp_path, make_spec(labels=2 - make_spec().labels))
    with pytest.raises(StoreError, match=r"Shard 0 of .* was replaced after the store was opened"):
        store.labels  # noqa: B018


def test_a_store_replaced_while_open_is_never_mixed_with_the_new_one(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "available_memory", lambda: 0)
    monkeypatch.setattr(streaming, "BLOCK_BYTES", 100)
    fill(tmp_path)
    store = FeatureStore(tmp_path)
    next(store.batches(4))
    fill(tmp_path, make_spec(key={"graph": "another"}))
    with pytest.raises(StoreError, match=r"Shard \d of .* was replaced after the store was opened"):
        list(store.batches(4))
    assert "was replaced after it was opened" in store.verify()[0]


# Another key, other images


def test_a_key_change_that_stopped_halfway_never_mixes_rows(tmp_path):
    fill(tmp_path)
    spec = changed_key(graph="conv gelu")
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, spec, Compute(stop_at=2))
    with pytest.raises(StoreError, match=r"5 of 7 shards still to be computed \(2 to 6\)"):
        FeatureStore(tmp_path)
    store, compute = fill(tmp_path, spec)
    assert compute.asked == [2, 3, 4, 5, 6]
    assert store.reasons == ("shards 2 to 6 were not finished yet",)


def test_removed_images_leave_no_files_behind(tmp_path):
    fill(tmp_path)
    store, compute = fill(tmp_path, make_spec(3 * SIZE))
    assert (compute.asked, store.reasons) == ([], ("26 images removed, nothing computed",))
    assert len(FeatureStore(tmp_path)) == 3 * SIZE
    assert len(list((tmp_path / "shards").iterdir())) == 2 * 3


# What cannot be stored


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (lambda rows: values(rows), "the boundary tensors 'fc2' by name; got Tensor"),
        (lambda rows: {"fc1": values(rows)}, "the boundary tensors 'fc2' by name; got 'fc1'"),
        (
            lambda rows: {"fc2": values(rows)[1:]},
            r"rows 0 to 7, 'fc2' must be .* shape \(8, 4\); got float32 .*\(7, 4\)",
        ),
        (lambda rows: {"fc2": values(rows).long()}, "must be floating-point numbers .* got int64"),
    ],
)
def test_what_compute_returns_is_checked(tmp_path, result, text):
    with pytest.raises(StoreError, match=text):
        fill(tmp_path, compute=result)


def test_values_beyond_float16_are_refused(tmp_path):
    def compute(rows):
        return {"fc2": values(rows) * 2000}

    with pytest.raises(StoreError, match=r"'fc2' has values up to 78,047 in rows 32 to 39; float16 ends at 65,504"):
        fill(tmp_path, make_spec(dtype="float16"), compute)
    assert fill(tmp_path, make_spec(dtype="bfloat16"), compute)[0].load().tensors["fc2"].isfinite().all()


def test_a_disk_that_is_too_small_is_told_before_the_work(tmp_path, monkeypatch):
    spec, compute = make_spec(shapes={"pool": (512, 7, 7)}), Compute({"pool": (512, 7, 7)})
    usage = type(shutil.disk_usage(tmp_path))
    assert spec.nbytes == ROWS * (512 * 49 * 4 + 16)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, int(spec.nbytes * 1.09)))
    with pytest.raises(OSError, match=r"features need 5\.5 MB in .*the disk has 5\.5 MB free.*float16"):
        fill(tmp_path / "new" / "store", spec, compute)
    assert compute.asked == []
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, int(spec.nbytes * 1.11)))
    fill(tmp_path / "new" / "store", spec, compute)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 2 * SIZE * spec.row_bytes))
    again = replace(spec, key={"graph": "another"})
    assert fill(tmp_path / "new" / "store", again, compute)[0].rows_computed == ROWS  # takes the place of the old ones


def test_a_full_disk_keeps_what_was_finished(tmp_path, monkeypatch):
    def full(descriptor):
        if shard_file(tmp_path, 2, "json").exists():
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot be written: the disk is full\. What was finished stays"):
        fill(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    assert not list(tmp_path.rglob("*.tmp"))
    assert fill(tmp_path)[1].asked == [3, 4, 5, 6]


# Folders that are something else


def test_no_store_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no feature store in '.*nowhere'\. Make one with"):
        FeatureStore(tmp_path / "nowhere")


def test_a_file_in_the_way_is_told(tmp_path):
    (tmp_path / "store").write_text("")
    with pytest.raises(OSError, match="cannot be written: a file is in its place"):
        fill(tmp_path / "store")


def test_old_leftovers_are_swept(tmp_path):
    fill(tmp_path)
    leftover = tmp_path / "shards" / ".host.1.a.tmp"
    leftover.write_bytes(b"")
    os.utime(leftover, (0, time.time() - 2 * 24 * 60 * 60))
    fill(tmp_path)
    assert not leftover.exists()


# Several processes, and processes that die

needs_fork = pytest.mark.skipif(sys.platform != "linux", reason="forking a process that uses torch is safe on Linux")


def start(work, *arguments):
    def alone():
        torch.set_num_threads(1)
        work(*arguments)

    process = multiprocessing.get_context("fork").Process(target=alone)
    process.start()
    return process


def fill_slowly(path):
    compute = Compute()

    def slow(rows):
        time.sleep(0.02)
        return compute(rows)

    fill(path, compute=slow)


@needs_fork
def test_two_processes_may_fill_one_store(tmp_path):
    processes = [start(fill_slowly, tmp_path / "both") for _ in range(2)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    fill(tmp_path / "alone")
    assert shard_bytes(tmp_path / "both") == shard_bytes(tmp_path / "alone")
    assert FeatureStore(tmp_path / "both").verify() == []


@needs_fork
def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    process = start(fill_slowly, tmp_path / "killed")
    deadline = time.monotonic() + 60
    while not shard_file(tmp_path / "killed", 2).exists():
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    process.join()
    store, compute = fill(tmp_path / "killed")
    assert compute.asked[-1] == SHARDS - 1
    assert 0 < store.rows_computed < ROWS
    fill(tmp_path / "undisturbed")
    assert shard_bytes(tmp_path / "killed") == shard_bytes(tmp_path / "undisturbed")


def use_without_writing(path):
    if os.geteuid() == 0:
        os.setuid(65534)  # modes do not bind the administrator
    store, compute = fill(path)
    assert compute.asked == []
    assert store.verify() == []
    with pytest.raises(PermissionError, match="cannot be written: you may not write there"):
        fill(path, make_spec(rows=ROWS + 1))


@needs_fork
def test_a_read_only_folder_can_be_read_and_is_told_when_work_is_left():
    with tempfile.TemporaryDirectory() as folder:  # unlike pytest's, one that another user may enter
        path = Path(folder) / "store"
        fill(path)
        path.parent.chmod(0o755)
        for entry in (path / "shards", path):
            entry.chmod(0o555)
        process = start(use_without_writing, path)
        process.join(60)
        for entry in (path, path / "shards"):
            entry.chmod(0o755)
    assert process.exitcode == 0


def test_other_features_written_by_another_process_are_noticed(tmp_path):
    def compute(rows):
        if rows.start == 0:
            fill(tmp_path, make_spec(key={"graph": "another"}))
        return {"fc2": values(rows)}

    with pytest.raises(StoreError, match="Another process writes other features into"):
        fill(tmp_path, compute=compute)


def test_engines_fill_shards_in_any_order(tmp_path):
    spec, compute = make_spec(), Compute()
    assert prepare(tmp_path / "engine", spec).shards == tuple(map(spec.shard, range(SHARDS)))
    assert all(fill_shard(tmp_path / "engine", spec.shard(number), compute) for number in reversed(range(SHARDS)))
    assert not fill_shard(tmp_path / "engine", spec.shard(3), compute)
    assert compute.asked == list(reversed(range(SHARDS)))
    fill(tmp_path / "loop")
    assert shard_bytes(tmp_path / "engine") == shard_bytes(tmp_path / "loop")
    assert torch.equal(FeatureStore(tmp_path / "engine").labels, spec.labels)
