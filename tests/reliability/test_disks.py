"""Disks that are full, read-only, moved, or reached by unusual paths."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import resource
import shutil
import stat
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import samples

from tlkit.features.store import FeatureStore

pytestmark = pytest.mark.slow  # stores on disks that are full or slow

SHARDS, WIDTH = 6, 4096  # 64 kB a shard
ROWS = SHARDS * samples.ROWS_PER_SHARD
FULL = r"cannot be written: the disk is full\. What was finished stays\..*"


def wide_spec(rows=ROWS, **changes):
    return samples.make_spec(rows, shapes={"fc2": (WIDTH,)}, **changes)


def fill(path, spec=None, compute=None):
    return samples.fill(path, spec or wide_spec(), compute or samples.Compute(WIDTH))


def no_torn_file(path):
    """Every file under its own name is whole, and there are no others."""
    whole = [file for file in path.rglob("*") if file.is_file()]
    assert not [file for file in whole if file.suffix == ".tmp"]
    for file in (path / "shards").glob("*.json"):
        assert file.with_suffix(".safetensors").stat().st_size > 4 * samples.ROWS_PER_SHARD * WIDTH


class Filling(samples.Compute):
    """Computes, and calls a function before a shard."""

    def __init__(self, at, call):
        super().__init__(WIDTH)
        self.at, self.call = at, call

    def __call__(self, rows):
        if rows[0] == self.at * samples.ROWS_PER_SHARD:
            self.call()
        return super().__call__(rows)


# A full disk


def limited_to_small_files(send, path):
    """Fill a store where no file may grow beyond 32 kB, then without that limit."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (32 * 1024, most))
    with pytest.raises(OSError) as caught:  # noqa: PT011, the parent compares the text
        fill(path)
    no_torn_file(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    store, compute = fill(path)
    return caught.value.errno, str(caught.value), compute.asked, store.verify()


def test_a_file_that_may_not_grow_so_large_is_an_error_that_names_it_and_the_process_goes_on(tmp_path, apart):
    number, text, asked, problems = apart(limited_to_small_files, tmp_path / "store").result()
    assert number == errno.EFBIG
    assert str(tmp_path / "store") in text
    assert "a file may not grow so large" in text
    assert re.search(r"'00000-\w+.safetensors', takes 65.9 kB", text)
    assert (asked, problems) == (list(range(SHARDS)), [])


def on_a_small_disk(send, folder):
    """Fill a store on a disk of 1 MB that something else fills up meanwhile, then with room again."""
    mount(folder, "size=1m")
    ballast, store = folder / "ballast", folder / "store"

    def fill_up():
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    with pytest.raises(OSError) as caught:  # noqa: PT011, the parent compares the text
        fill(store, compute=Filling(3, fill_up))
    assert not list(folder.rglob("*.tmp"))
    finished = sorted(file.name for file in (store / "shards").iterdir())
    ballast.unlink()
    mended, again = fill(store)
    return caught.value.errno, str(caught.value), finished, again.asked, mended.verify()


def test_a_disk_that_fills_up_while_we_write_keeps_what_was_finished_and_takes_the_rest_later(tmp_path, apart):
    number, text, finished, asked, problems = apart(on_a_small_disk, tmp_path).result()
    assert number == errno.ENOSPC
    assert str(tmp_path / "store") in text
    assert "the disk is full" in text
    assert re.search(r"'00003-\w+.safetensors', takes 65.9 kB", text)
    assert [name[:5] + name[18:] for name in finished] == [
        f"{k:05d}.{suffix}" for k in range(3) for suffix in ("json", "safetensors")
    ]
    assert (asked, problems) == ([3, 4, 5], [])


@pytest.mark.parametrize(("suffix", "size"), [("safetensors", r"65\.9 kB"), ("json", r"[\d.]+ (kB|bytes)")])
def test_any_file_that_does_not_fit_is_named_with_its_size_and_leaves_nothing(tmp_path, monkeypatch, suffix, size):
    shard = wide_spec().layout.shards[2]
    target = shard.record(tmp_path) if suffix == "json" else shard.data(tmp_path)
    replaced = Path.replace

    def full(source, name):
        if name == target:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replaced(source, name)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match=FULL + rf"'{target.name}', takes {size}") as caught:
        fill(tmp_path)
    assert caught.value.errno == errno.ENOSPC
    no_torn_file(tmp_path)
    monkeypatch.setattr(Path, "replace", replaced)
    store, compute = fill(tmp_path)
    assert compute.asked == [2, 3, 4, 5]
    assert store.verify() == []


def test_a_full_disk_while_featurizing_leaves_the_helper_able_to_go_on(tmp_path, photos, small_shards, monkeypatch):
    helper = samples.make_helper()
    pictures = samples.read_photos(photos, helper)
    synced = os.fsync

    def full(descriptor):
        if list((tmp_path / "store" / "shards").glob("00003-*.json")):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=FULL):
        helper.featurize(pictures, to=tmp_path / "store", progress=False)
    monkeypatch.setattr(os, "fsync", synced)
    store = helper.featurize(pictures, to=tmp_path / "store", progress=False)
    assert store.rows_computed == 2 * samples.ROWS_PER_SHARD
    assert store.reasons == ("shards 4 to 5 were not finished yet",)
    assert store.verify() == []


# A read-only folder


def on_a_read_only_disk(send, folder):
    """Fill a store, then use it where the administrator cannot write either."""
    mount(folder, "size=4m")
    fill(folder / "store")
    mount(folder, "size=4m", flags=READ_ONLY | REMOUNT)
    store, compute = fill(folder / "store")
    assert (compute.asked, store.verify()) == ([], [])
    with pytest.raises(OSError) as longer:  # noqa: PT011, the parent compares the text
        fill(folder / "store", wide_spec(ROWS + 1))
    with pytest.raises(OSError) as new:  # noqa: PT011
        fill(folder / "new")
    return [(error.value.errno, str(error.value)) for error in (longer, new)]


def test_a_store_on_a_read_only_disk_can_be_used_and_says_so_when_there_is_work(tmp_path, apart):
    for number, text in apart(on_a_read_only_disk, tmp_path).result():
        assert number == errno.EROFS
        assert "cannot be written: it is read-only" in text
        assert "choose another folder" in text


def test_a_read_only_folder_is_told_even_where_nothing_can_be_mounted(tmp_path, monkeypatch):
    fill(tmp_path / "store")
    opened = Path.open

    def refuse(path, mode="r", *options, **named):
        if set(mode) & set("wxa+"):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return opened(path, mode, *options, **named)

    monkeypatch.setattr(Path, "open", refuse)
    store, compute = fill(tmp_path / "store")
    assert (compute.asked, store.verify()) == ([], [])
    with pytest.raises(OSError, match="cannot be written: it is read-only") as caught:
        fill(tmp_path / "store", wide_spec(key={"graph": "another"}))
    assert caught.value.errno == errno.EROFS
    assert FeatureStore(tmp_path / "store").verify() == []


# Modes and paths


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o027])
def test_files_and_folders_of_a_store_follow_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        fill(tmp_path / "a" / "store")
    finally:
        os.umask(before)
    made = [tmp_path / "a", *(tmp_path / "a").rglob("*")]
    assert len(made) == 4 + 2 * SHARDS
    for entry in made:
        assert stat.S_IMODE(entry.stat().st_mode) == (0o777 if entry.is_dir() else 0o666) & ~umask


@pytest.mark.parametrize(
    "name", ["with  two spaces", "花 größe", "e\u0301 é", "'quoted' \"twice\"", "100%s {0}", "-dash", "x" * 255]
)
def test_a_store_may_have_any_name_that_the_disk_takes(tmp_path, name):
    store, _ = fill(tmp_path / name / "store")
    again, compute = fill(os.fspath(tmp_path / name / "store"))
    assert (compute.asked, store.verify(), again.verify()) == ([], [], [])
    assert name in repr(again)


def test_a_store_behind_a_link_is_the_store_itself_and_the_link_stays(tmp_path):
    (tmp_path / "disk" / "features").mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "disk", target_is_directory=True)
    fill(link / "features")
    assert link.is_symlink()
    for path in (tmp_path / "disk" / "features", link / "features"):
        store, compute = fill(path)
        assert (compute.asked, store.verify()) == ([], [])
    root = tmp_path / "root"
    root.symlink_to(tmp_path / "disk" / "features", target_is_directory=True)
    record = samples.shard_file(tmp_path / "disk" / "features", 1, "json")
    record.unlink()
    assert fill(root)[1].asked == [1]
    assert root.is_symlink()
    assert record.exists()


def test_shards_that_lie_on_another_disk_behind_a_link_are_filled_there(tmp_path):
    (tmp_path / "large disk").mkdir()
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "shards").symlink_to(tmp_path / "large disk", target_is_directory=True)
    fill(tmp_path / "store")
    assert len(list((tmp_path / "large disk").iterdir())) == 2 * SHARDS
    assert fill(tmp_path / "store")[1].asked == []


def test_a_copied_and_a_moved_store_are_as_good_as_before(tmp_path):
    fill(tmp_path / "store")
    shutil.copytree(tmp_path / "store", tmp_path / "copy")
    shutil.move(tmp_path / "store", tmp_path / "moved")
    for path in (tmp_path / "copy", tmp_path / "moved"):
        store, compute = fill(path)
        assert (compute.asked, store.reasons, store.verify()) == ([], (), [])


# A disk of one's own

READ_ONLY, REMOUNT = 1, 32  # of <sys/mount.h>
NEW_USER, NEW_MOUNTS = 0x10000000, 0x00020000  # of <linux/sched.h>


def mount(folder, options, flags=0):
    """Mount a disk in memory that this process alone sees; skip the test where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not flags:
        if sys.platform != "linux":
            pytest.skip("a disk of its own needs Linux")
        user, group = os.getuid(), os.getgid()
        if libc.unshare(NEW_USER | NEW_MOUNTS):
            pytest.skip(f"a disk of its own: {os.strerror(ctypes.get_errno())}")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", flags, options.encode()):
        pytest.skip(f"a disk of its own: {os.strerror(ctypes.get_errno())}")
