"""Stores on object storage: in fsspec's memory, which is everywhere, and on a server that speaks S3."""

from __future__ import annotations

import errno
import importlib
import os
import pickle
import re
import sys
import threading
import uuid
from pathlib import Path

import pytest
import samples

import tlkit as tl
from tlkit.commands import main
from tlkit.features import store as store_module
from tlkit.features.filling import check_shards
from tlkit.features.store import FeatureStore, StoreError
from tlkit.files import storage
from tlkit.files.storage import RemotePath, place

ROWS, SHARDS = 24, 6


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """A folder of its own for copies."""
    monkeypatch.setenv("TLKIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.s3)])
def address(request) -> str:
    """An address below which there is nothing yet."""
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}/features"
    return f"{request.getfixturevalue('s3').bucket()}/features"


def remote_bytes(address: str) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (place(address) / "shards").glob("*.safetensors")}


def copies(home: Path) -> list[Path]:
    return sorted((home / "copies").glob("*/*"))


def stop_at(number: int):
    compute = samples.Compute()

    def stopping(rows):
        if rows.start == number * samples.ROWS_PER_SHARD:
            raise KeyboardInterrupt
        return compute(rows)

    return stopping


# paths


def test_a_text_without_an_address_is_a_path_of_this_machine():
    assert place("features") == Path("features")
    assert place("~/features") == Path.home() / "features"
    assert place(Path("C:/features")) == Path("C:/features")


def test_an_address_in_a_path_is_refused_for_its_lost_slash():
    with pytest.raises(ValueError, match="An address is given as text"):
        place(Path("s3://bucket/features"))


def test_a_file_address_is_a_folder_of_this_machine(tmp_path):
    folder = tmp_path / "with space"
    assert place(folder.as_uri()) == folder
    samples.fill(folder.as_uri(), samples.make_spec(ROWS))
    assert FeatureStore(folder).path == folder
    assert not list(folder.glob(".*"))


def test_an_address_survives_pickling():
    path = place("memory://pond/x") / "y.json"
    again = pickle.loads(pickle.dumps(path))
    assert (again, again.name, again.stem, again.suffix) == (path, "y.json", "y", ".json")
    assert again.parent == place("memory://pond/x/")
    assert again.relative_to("memory://pond").as_posix() == "x/y.json"


@pytest.mark.parametrize(
    ("address", "error", "text"),
    [
        ("s4://bucket/x", ValueError, r"Protocol not known.*begin with 's3://', 'gs://' or 'file://'"),
        ("s3://bucket/x", ImportError, r"needs s3fs.*pip install 'tlkit\[cloud\]'"),
        ("gs://bucket/x", ImportError, r"needs gcsfs.*pip install gcsfs"),
    ],
)
def test_what_is_missing_is_said_with_what_to_install(address, error, text, monkeypatch):
    for name in ("s3fs", "gcsfs"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(importlib.import_module("fsspec.registry"), "_registry", {})  # what was imported before
    with pytest.raises(error, match=text):
        place(address)


def test_paths_of_this_machine_import_nothing_for_others():
    code = "import sys, tlkit.files.storage as s; s.place('x'); s.place('file:///x'); print('fsspec' in sys.modules)"
    read = os.popen(f'"{sys.executable}" -c "{code}"').read()
    assert read.split() == ["False"]


# a store is what it is on a disk


def test_a_store_is_filled_opened_and_equals_the_one_on_a_disk(address, tmp_path):
    spec = samples.make_spec(ROWS)
    local, _ = samples.fill(tmp_path / "local", spec)
    filled, compute = samples.fill(address, spec)
    assert compute.asked == list(range(SHARDS))
    assert remote_bytes(address) == samples.shard_bytes(tmp_path / "local")
    assert (place(address) / "spec.json").read_bytes() == (tmp_path / "local" / "spec.json").read_bytes()
    for store in (filled, FeatureStore(address)):
        assert store.load().tensors["fc2"].equal(local.load().tensors["fc2"])
        assert store.labels.equal(local.labels)
        assert store.verify() == []
    assert repr(filled).startswith(f"FeatureStore('{address}': 24 rows")
    again, compute = samples.fill(address, spec)
    assert (compute.asked, again.rows_computed, again.reasons) == ([], 0, ())


def test_a_stopped_run_goes_on_and_a_changed_key_is_told(address):
    with pytest.raises(KeyboardInterrupt):
        FeatureStore.fill(address, samples.make_spec(ROWS), stop_at(4), progress=False)
    with pytest.raises(StoreError, match=r"unfinished: 2 of 6 shards still to be computed \(4 to 5\)"):
        FeatureStore(address)
    store, compute = samples.fill(address, samples.make_spec(ROWS))
    assert (compute.asked, store.reasons) == ([4, 5], ("shards 4 to 5 were not finished yet",))
    changed = samples.make_spec(12, key={"graph": "conv relu", "weights": {"conv.weight": "2"}})
    store, compute = samples.fill(address, changed)
    assert compute.asked == [0, 1, 2]
    assert any("weights" in reason or "weight" in reason for reason in store.reasons)
    assert len(remote_bytes(address)) == 3


def test_damage_is_found_and_only_that_shard_computed_again(address):
    spec = samples.make_spec(ROWS)
    samples.fill(address, spec)
    shards = place(address) / "shards"
    stems = [shard.stem for shard in spec.layout.shards]
    content = bytearray((shards / f"{stems[2]}.safetensors").read_bytes())
    content[-3] ^= 1
    (shards / f"{stems[2]}.safetensors").write_bytes(bytes(content))
    (shards / f"{stems[3]}.safetensors").write_bytes(b"")
    (shards / f"{stems[4]}.safetensors").unlink()
    (shards / f"{stems[5]}.json").unlink()
    with pytest.raises(StoreError, match=r"shard 2: the bytes.*shard 3: .* has 0 bytes.*shard 4: .* is gone"):
        FeatureStore(address)
    store, compute = samples.fill(address, spec)
    assert compute.asked == [2, 3, 4, 5]
    assert store.verify() == []


def test_a_shard_of_a_large_store_is_compared_before_its_first_use(address, monkeypatch):
    monkeypatch.setattr(store_module, "CHECKED_AT_ONCE", 0)
    monkeypatch.setattr(store_module, "available_memory", lambda: 0)
    samples.fill(address, samples.make_spec(ROWS))
    file = samples.make_spec(ROWS).layout.shards[1].data(place(address))
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    store = FeatureStore(address)
    next(iter(store.batches(4, [0, 1])))
    with pytest.raises(StoreError, match="shard 1: the bytes"):
        next(iter(store.batches(4, [5])))


def test_the_commands_read_an_address(address, capsys):
    samples.fill(address, samples.make_spec(ROWS))
    assert main(["info", address]) == 0
    assert "24" in capsys.readouterr().out
    assert main(["verify", address]) == 0
    samples.make_spec(ROWS).layout.shards[1].data(place(address)).write_bytes(b"x")
    assert main(["verify", address]) == 1
    assert "Shard 1 is damaged" in capsys.readouterr().out
    assert main(["info", address + "2"]) == 1
    assert "There is no feature store in" in capsys.readouterr().err


# copies


def test_copies_are_used_again_and_a_damaged_copy_is_replaced(address, home, monkeypatch):
    samples.fill(address, samples.make_spec(ROWS))
    FeatureStore(address)
    made = copies(home)
    assert len(made) == SHARDS
    with monkeypatch.context() as patch:
        patch.setattr(storage, "publish", None)  # no copy is made
        FeatureStore(address).load()
    whole = made[0].read_bytes()
    made[0].write_bytes(whole[:-1] + b"?")
    store, compute = samples.fill(address, samples.make_spec(ROWS))
    assert (compute.asked, store.reasons) == ([], ())
    assert made[0].read_bytes() == whole


def test_old_copies_make_room_and_a_full_disk_is_told(address, home, monkeypatch):
    samples.fill(address, samples.make_spec(ROWS))
    usage = type(storage.shutil.disk_usage(home))
    with monkeypatch.context() as patch:
        patch.setattr(storage.shutil, "disk_usage", lambda path: usage(10**6, 10**6, 0))
        samples.make_spec(ROWS).layout.shards[0].data(place(address)).copied(again=True)
    assert len(copies(home)) == 1

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage, "publish", full)
    with pytest.raises(OSError, match=r"is read from a copy.*No space left.*TLKIT_HOME"):
        samples.make_spec(ROWS).layout.shards[1].data(place(address)).copied()


# a server that fails, and several at work


@pytest.mark.s3
def test_a_failed_put_leaves_what_was_there_and_names_address_and_size(s3):
    address = f"{s3.bucket()}/features"
    fails = [True]

    def third_record(method, key):
        failing = fails and method == "PUT" and re.search(r"00002-\w+\.json$", key)
        return ("500 Internal Server Error", "InternalError") if failing else None

    s3.fails = third_record
    with pytest.raises(
        OSError, match=rf"'{address}' cannot be written: .*'{address}/shards/00002-\w+\.json', takes [\d.]+ (kB|bytes)"
    ):
        samples.fill(address, samples.make_spec(ROWS))
    fails.clear()
    with pytest.raises(StoreError, match=r"unfinished: 4 of 6 shards still to be computed \(2 to 5\)"):
        FeatureStore(address)
    _, compute = samples.fill(address, samples.make_spec(ROWS))
    assert compute.asked == [2, 3, 4, 5]


@pytest.mark.s3
def test_a_failed_put_over_an_older_shard_leaves_the_older_one(s3):
    file = place(f"{s3.bucket()}/x")
    file.write_bytes(b"old")
    s3.fails = lambda method, key: ("503 Service Unavailable", "SlowDown") if method == "PUT" else None
    with pytest.raises(OSError, match=rf"'{file}' cannot be written: "):
        file.write_bytes(b"new")
    assert file.read_bytes() == b"old"


@pytest.mark.s3
@pytest.mark.parametrize("method", ["PUT", "GET", "HEAD"])
def test_a_503_now_and_then_is_tried_again(s3, method):
    address, seen = f"{s3.bucket()}/features", set()

    def first_time(how, key):
        new = how == method and "shards" in key and key not in seen
        seen.add(key)
        return ("503 Service Unavailable", "SlowDown") if new else None

    s3.fails = first_time
    store, _ = samples.fill(address, samples.make_spec(8))
    assert seen
    assert store.verify() == []


@pytest.mark.s3
def test_a_server_that_cannot_be_read_is_no_missing_shard(s3):
    address = f"{s3.bucket()}/features"
    samples.fill(address, samples.make_spec(8))
    s3.fails = lambda method, key: (
        ("503 Service Unavailable", "SlowDown") if re.search(r"00001-\w+\.json$", key) else None
    )
    with pytest.raises(OSError, match=rf"'{address}/shards/00001-\w+\.json' cannot be read"):
        FeatureStore(address)
    s3.fails = lambda method, key: ("403 Forbidden", "AccessDenied") if method == "PUT" else None
    with pytest.raises(PermissionError, match="cannot be written: you may not write there"):
        samples.fill(address, samples.make_spec(12))


@pytest.mark.s3
def test_each_file_is_one_put_and_the_record_comes_last(s3):
    bucket = s3.bucket()
    s3.asked.clear()
    samples.fill(f"{bucket}/features", samples.make_spec(8))
    puts = [key.rpartition("/")[2] for method, key in s3.asked if method == "PUT"]
    stems = [shard.stem for shard in samples.make_spec(8).layout.shards]
    assert puts == ["spec.json", *(f"{stem}.{suffix}" for stem in stems for suffix in ("safetensors", "json"))]
    assert not [method for method, _ in s3.asked if method in ("POST", "DELETE")]


@pytest.mark.s3
def test_a_reader_during_a_write_sees_whole_shards_only(s3):
    address, seen = f"{s3.bucket()}/features", []
    spec = samples.make_spec(ROWS)

    def look(method, key):
        if method == "PUT" and key.endswith((".json", ".safetensors")) and "shards" in key:
            s3.before = lambda method, key: None  # the reader's own requests
            faults = check_shards(place(address), spec.layout.shards)
            seen.append([fault.kind for fault in faults])
            s3.before = look

    s3.before = look
    samples.fill(address, spec)
    s3.before = lambda method, key: None
    assert seen == [["missing"] * (SHARDS - number) for number in range(SHARDS) for _ in range(2)]


@pytest.mark.s3
def test_two_writers_at_once_end_in_a_valid_store(s3):
    address, stores = f"{s3.bucket()}/features", []
    both = threading.Barrier(2, timeout=30)

    def write():
        compute = samples.Compute()

        def together(rows):
            if rows.start == 0:
                both.wait()
            return compute(rows)

        stores.append(FeatureStore.fill(address, samples.make_spec(ROWS), together, progress=False))

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores) == 2
    assert FeatureStore(address).verify() == []


# pictures


def test_photos_are_featurized_into_a_store_at_an_address(address, tmp_path, monkeypatch):
    monkeypatch.setattr("tlkit.features.spec.MOST_ROWS", samples.ROWS_PER_SHARD)
    helper = samples.make_helper()
    pictures = samples.read_photos(samples.make_photos(tmp_path / "photos", 8), helper)
    local = helper.featurize(pictures, to=tmp_path / "local", progress=False)
    store = helper.featurize(pictures, to=address, progress=False)
    assert isinstance(store, tl.FeatureStore)
    assert isinstance(store.path, RemotePath)
    assert remote_bytes(address) == samples.shard_bytes(local.path)
    assert helper.featurize(pictures, to=address, progress=False).rows_computed == 0
