import errno
import os
import stat
import time

import pytest
import torch

from tlkit.features import writing
from tlkit.features.shards import Shard, check_shard, digest, write_shard
from tlkit.features.writing import explain_failed_writes, publish, sweep


def test_the_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


@pytest.mark.skipif(os.name != "posix", reason="modes are a POSIX matter")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_published_file_follows_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        publish(tmp_path / "file", b"bytes")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


@pytest.mark.skipif(os.name != "posix", reason="Windows cannot open a folder")
def test_a_file_reaches_the_disk_before_its_name_does(tmp_path, monkeypatch):
    steps = []
    fsync, rename = os.fsync, writing.Path.replace

    def note_fsync(descriptor):
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def note_rename(source, target):
        steps.append("rename")
        return rename(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(writing.Path, "replace", note_rename)
    publish(tmp_path / "file", b"bytes")
    assert steps == ["file", "rename", "folder"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_bytes_and_nothing_else(tmp_path, monkeypatch, step):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    file = tmp_path / "file"
    publish(file, b"old")
    monkeypatch.setattr(writing.os if step == "fsync" else writing.Path, step, fail)
    with pytest.raises(OSError, match="No space left"):
        publish(file, b"new")
    assert file.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_only_old_leftovers_are_swept(tmp_path):
    old, young, other = tmp_path / ".host.1.a.tmp", tmp_path / ".host.2.b.tmp", tmp_path / "notes.tmp"
    for file in (old, young, other):
        file.write_bytes(b"")
    for file in (old, other):
        os.utime(file, (0, time.time() - 2 * writing.DAY))
    sweep(tmp_path)
    assert not old.exists()
    assert young.exists()
    assert other.exists()


def test_a_failed_write_is_explained_under_its_own_type(tmp_path):
    text = r"cannot be written: the disk is full\. What was finished stays"
    with pytest.raises(OSError, match=text) as caught, explain_failed_writes(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(PermissionError, match="you may not write there"), explain_failed_writes(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_equal_rows_give_equal_bytes(tmp_path, dtype):
    labels, images = [0, 1, 0], [{"path": str(k)} for k in range(3)]
    shard = Shard.plan(0, range(3), key_digest="k", labels=labels, images=images)
    tensors = {name: torch.rand(3, 2).to(dtype) for name in ("b", "a", "fc 2")}
    written = []
    for name in ("one", "two"):
        folder = tmp_path / name
        (folder / "shards").mkdir(parents=True)
        write_shard(folder, shard, tensors, labels=labels, images=images, seconds=0.1)
        assert check_shard(folder, shard) is None
        written.append(shard.data(folder).read_bytes())
        tensors = dict(reversed(tensors.items()))
    assert written[0] == written[1]
