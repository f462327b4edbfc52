from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import stat
import tarfile
import threading
import time
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from tlkit.files import archives
from tlkit.files.archives import ArchiveError, extract

PHOTOS = {
    f"photos/{kind}/{number}.jpg": f"{kind} {number}".encode() * 99 for kind in ("rose", "tulip") for number in "12"
}


def tar(
    path: Path, files: dict[str, bytes], *, extra: tuple[tarfile.TarInfo, ...] = (), format=tarfile.PAX_FORMAT
) -> Path:
    mode = "w" if path.suffix == ".tar" else "w:gz"
    with tarfile.open(path, mode, format=format) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    return path


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zipped(path: Path, files: dict[str, bytes], *, mode: int = 0, packing: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.filename = name  # ZipInfo would tidy it
            info.external_attr = mode << 16
            info.compress_type = packing
            archive.writestr(info, content)
    return path


def pack(folder: Path, suffix: str, files: dict[str, bytes]) -> Path:
    path = folder / f"photos{suffix}"
    return zipped(path, files) if suffix == ".zip" else tar(path, files)


def unpacked(folder: Path) -> dict[str, bytes]:
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not path.name.startswith(".")}


def refusal(archive: Path, **options) -> str:
    """Text of the error; asserts that nothing is left, neither in the target nor beside it."""
    before = set(archive.parent.rglob("*"))
    target = archive.parent / "target"
    with pytest.raises(ArchiveError) as caught:
        extract(archive, target, **options)
    assert set(archive.parent.rglob("*")) - before <= {archive.parent / ".target.lock"}
    assert archive.name in str(caught.value)
    return str(caught.value)


@pytest.fixture
def outside(tmp_path):
    """A file that the hostile archives aim at; fails the test when it has changed."""
    folder = tmp_path / "in" / "side"
    folder.mkdir(parents=True)
    (tmp_path / "treasure").write_text("gold")
    yield folder
    assert (tmp_path / "treasure").read_text() == "gold"
    assert {path.name for path in tmp_path.iterdir()} == {"in", "treasure"}
    assert {path.name for path in (tmp_path / "in").iterdir()} == {"side"}


# Archives that are as they should be


@pytest.mark.parametrize("suffix", [".tgz", ".tar.gz", ".tar", ".zip"])
def test_the_files_come_out_as_they_went_in(tmp_path, suffix):
    archive = pack(tmp_path, suffix, PHOTOS)
    target = extract(archive, tmp_path / "deep" / "target")
    assert target == tmp_path / "deep" / "target"
    assert unpacked(target) == PHOTOS


@pytest.mark.parametrize("suffix", [".tgz", ".zip"])
def test_the_content_decides_on_the_format(tmp_path, suffix):
    archive = pack(tmp_path, suffix, PHOTOS).rename(tmp_path / "download")
    assert unpacked(extract(archive, tmp_path / "target")) == PHOTOS


def test_folders_dots_and_long_names_are_fine(tmp_path):
    long = "a/" * 30 + "ñ" * 100 + ".jpg"
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        extra = (entry("./photos/", tarfile.DIRTYPE), entry("empty", tarfile.DIRTYPE))
        archive = tar(tmp_path / f"{format}.tar", {"./photos/./1.jpg": b"1", long: b"2"}, extra=extra, format=format)
        target = extract(archive, tmp_path / str(format))
        assert unpacked(target) == {"photos/1.jpg": b"1", long: b"2"}
        assert (target / "empty").is_dir()


def test_a_zip_from_windows_has_folders(tmp_path):
    archive = zipped(tmp_path / "a.zip", {"photos\\": b"", "photos\\rose\\1.jpg": b"1"})
    assert unpacked(extract(archive, tmp_path / "target")) == {"photos/rose/1.jpg": b"1"}


def test_dot_files_and_macosx_are_left_out(tmp_path):
    junk = {"__MACOSX/photos/._1.jpg": b"x", "photos/.DS_Store": b"x", "photos/.ipynb_checkpoints/1.jpg": b"x"}
    archive = tar(tmp_path / "a.tgz", {**junk, **PHOTOS})
    assert set(extract(archive, tmp_path / "target").rglob("*")).isdisjoint(tmp_path / "target" / name for name in junk)
    assert unpacked(tmp_path / "target") == PHOTOS


def test_modes_of_the_archive_are_not_taken_over(tmp_path):
    info = tarfile.TarInfo("run.sh")
    info.mode = 0o6777
    archive = tar(tmp_path / "a.tar", {"a": b""}, extra=(info,))
    previous = os.umask(0o027)
    try:
        target = extract(archive, tmp_path / "target")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((target / "run.sh").stat().st_mode) == 0o640
    assert stat.S_IMODE(target.stat().st_mode) == 0o750


# The second call


def test_a_second_call_does_nothing(tmp_path, monkeypatch):
    archive = tar(tmp_path / "a.tgz", PHOTOS)
    target = extract(archive, tmp_path / "target")
    times = {path: path.stat().st_ctime_ns for path in target.rglob("*")}
    monkeypatch.setattr(archives, "_sha256", lambda path: pytest.fail("hashed again"))
    extract(archive, target)
    assert {path: path.stat().st_ctime_ns for path in target.rglob("*")} == times


def test_a_touched_or_moved_archive_is_the_same(tmp_path, monkeypatch):
    archive = tar(tmp_path / "a.tgz", PHOTOS)
    target = extract(archive, tmp_path / "target")
    moved = archive.rename(tmp_path / "b.tgz")
    os.utime(moved, (1, 1))
    monkeypatch.setattr(archives, "_make", lambda *arguments: pytest.fail("unpacked again"))
    extract(moved, target)


def test_a_changed_archive_is_unpacked_again(tmp_path):
    archive = tar(tmp_path / "a.tgz", {**PHOTOS, "photos/old.jpg": b"old"})
    target = extract(archive, tmp_path / "target")
    tar(archive, {**PHOTOS, "photos/new.jpg": b"new"})
    assert unpacked(extract(archive, target)) == {**PHOTOS, "photos/new.jpg": b"new"}
    assert {path.name for path in tmp_path.iterdir()} == {"a.tgz", "target", ".target.lock"}


def test_a_changed_archive_that_is_damaged_leaves_the_old_files(tmp_path):
    archive = tar(tmp_path / "a.tgz", PHOTOS)
    target = extract(archive, tmp_path / "target")
    archive.write_bytes(archive.read_bytes()[:-20])
    with pytest.raises(ArchiveError, match="damaged or cut short"):
        extract(archive, target)
    assert unpacked(target) == PHOTOS


def test_missing_files_come_back(tmp_path):
    archive = tar(tmp_path / "a.tgz", PHOTOS)
    target = extract(archive, tmp_path / "target")
    (target / ".ipynb_checkpoints").mkdir()
    next(target.rglob("*.jpg")).rename(target / ".ipynb_checkpoints" / "1.jpg")
    assert unpacked(extract(archive, target)) == PHOTOS


def test_own_files_are_never_removed(tmp_path):
    archive = tar(tmp_path / "a.tgz", PHOTOS)
    target = extract(archive, tmp_path / "target")
    (target / "mine.jpg").write_bytes(b"mine")
    extract(archive, target)
    tar(archive, {**PHOTOS, "photos/new.jpg": b"new"})
    with pytest.raises(ArchiveError, match=r"holds 5 files, and 4 came out of its archive.*Move your own files away"):
        extract(archive, target)
    assert (target / "mine.jpg").read_bytes() == b"mine"


@pytest.mark.parametrize("stamp", [None, "", "[]", "{}", '{"files": 1}', "[" * 100_000])
def test_a_folder_with_something_else_is_refused(tmp_path, stamp):
    archive = tar(tmp_path / "a.tgz", PHOTOS)
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine.jpg").write_bytes(b"mine")
    if stamp is not None:
        (target / archives.STAMP).write_text(stamp)
    with pytest.raises(ArchiveError, match=r"did not come out of an archive\. Name another folder"):
        extract(archive, target)
    assert unpacked(target) == {"mine.jpg": b"mine"}


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "target").mkdir()
    assert unpacked(extract(tar(tmp_path / "a.tgz", PHOTOS), tmp_path / "target")) == PHOTOS


def test_the_leftover_of_a_killed_process_is_swept(tmp_path):
    leftover = tmp_path / ".target.part" / "photos"
    leftover.mkdir(parents=True)
    (leftover / "half.jpg").write_bytes(b"half")
    assert unpacked(extract(tar(tmp_path / "a.tgz", PHOTOS), tmp_path / "target")) == PHOTOS
    assert not leftover.exists()


def test_threads_unpack_once(tmp_path, monkeypatch):
    archive = tar(tmp_path / "a.tgz", PHOTOS)
    calls = []
    real = archives._unpack
    monkeypatch.setattr(archives, "_unpack", lambda *rest: calls.append(time.sleep(0.2)) or real(*rest))
    threads = [threading.Thread(target=extract, args=(archive, tmp_path / "target")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert unpacked(tmp_path / "target") == PHOTOS
    assert len(calls) == 1


# Archives that lead out of the folder


@pytest.mark.parametrize("suffix", [".tgz", ".tar", ".zip"])
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("../../treasure", "leads out of the folder"),
        ("photos/../../../treasure", "leads out of the folder"),
        ("..\\..\\treasure", "leads out of the folder"),
        ("photos/.. /treasure", "leads out of the folder"),
        ("/tmp/treasure", "is an absolute path"),
        ("//host/share/treasure", "is an absolute path"),
        ("C:\\treasure", "is an absolute path"),
        ("photos/c:treasure", "is an absolute path"),
    ],
)
def test_a_path_out_of_the_folder_is_refused(outside, suffix, name, problem):
    assert problem in refusal(pack(outside, suffix, {**PHOTOS, name: b"lead"}))


def test_what_steers_a_terminal_does_not_get_into_file_names(outside):
    names = ["ro\x1b[31mse/1\n.jpg", "tu\u202elip/2\x7f.jpg", "na\u200dme\u00e9\u3000/3.jpg"]
    archive = tar(outside / "a.tar", dict.fromkeys(names, b"x"))
    expected = {"ro_[31mse/1_.jpg", "tu_lip/2_.jpg", "na\u200dme\u00e9\u3000/3.jpg"}
    assert unpacked(extract(archive, outside / "target")).keys() == expected
    zipped(outside / "b.zip", {"rose_1.jpg": b"x"})
    content = (outside / "b.zip").read_bytes().replace(b"rose_1.jpg", b"rose\x001.jpg")
    (outside / "b.zip").write_bytes(content)
    assert unpacked(extract(outside / "b.zip", outside / "zip")).keys() == {"rose_1.jpg"}


@pytest.mark.parametrize("suffix", [".tgz", ".zip"])
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("c/" * 30_000 + "1.jpg", "has a name of 60,005 characters, more than 1,000"),
        ("c/" * 40 + "1.jpg", "lies more than 32 folders deep"),
        ("c\\" * 40 + "1.jpg", "lies more than 32 folders deep"),
    ],
)
def test_a_long_or_deep_name_is_refused_before_it_is_split(outside, suffix, name, problem):
    archive = pack(outside, suffix, {name: b"x"})
    tracemalloc.start()
    text = refusal(archive)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()
    assert problem in text
    assert len(text) < len(str(archive)) + 400


def test_a_refused_name_is_shown_without_what_steers_a_terminal(outside):
    text = refusal(tar(outside / "a.tar", {"../\x1b]0;mine\x07\n\u202e": b"x"}))
    assert r"its entry '../\x1b]0;mine\x07\n\u202e' leads out of the folder" in text


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (tarfile.SYMTYPE, "is a link"),
        (tarfile.LNKTYPE, "is a link"),
        (tarfile.CHRTYPE, "is a device"),
        (tarfile.BLKTYPE, "is a device"),
        (tarfile.FIFOTYPE, "is a device"),
    ],
)
def test_links_and_devices_are_refused(outside, kind, problem):
    extra = (entry("photos/lnk", kind, "../../../treasure"),)
    assert problem in refusal(tar(outside / "a.tgz", PHOTOS, extra=extra))


def test_writing_through_a_link_is_refused(outside):
    with tarfile.open(outside / "a.tgz", "w:gz") as archive:
        archive.addfile(entry("lnk", tarfile.SYMTYPE, "../../.."))
        archive.addfile(tarfile.TarInfo("lnk/treasure"))
    assert "'lnk' is a link" in refusal(outside / "a.tgz")


@pytest.mark.parametrize(("mode", "problem"), [(stat.S_IFLNK, "is a link"), (stat.S_IFCHR, "is a device")])
def test_links_and_devices_in_a_zip_are_refused(outside, mode, problem):
    assert problem in refusal(zipped(outside / "a.zip", {"lnk": b"../../../treasure"}, mode=mode | 0o777))


@pytest.mark.parametrize("suffix", [".tgz", ".zip"])
@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (("photos/a.jpg", "photos//./a.jpg"), "'photos//./a.jpg', or what it lies in, twice"),
        (("photos", "photos/a.jpg"), "'photos/a.jpg', or what it lies in, twice"),
        (("photos/a.jpg", "photos"), "'photos', or what it lies in, twice"),
    ],
)
def test_two_names_for_one_file_are_refused(outside, suffix, names, problem):
    assert problem in refusal(pack(outside, suffix, dict.fromkeys(names, b"x")))


# Archives that are too large, damaged, or none


@pytest.mark.parametrize("suffix", [".tgz", ".tar", ".zip"])
def test_more_bytes_than_allowed_are_refused(outside, suffix):
    archive = pack(outside, suffix, {"zeros": bytes(3_000_000)})
    assert "holds more than 2,999,999 bytes; max_bytes=2999999" in refusal(archive, max_bytes=2_999_999)
    assert unpacked(extract(archive, outside / "target", max_bytes=3_000_000)) == {"zeros": bytes(3_000_000)}


@pytest.mark.slow
def test_a_bomb_writes_hardly_more_than_is_allowed(outside, monkeypatch):
    written = []
    real = archives._write
    monkeypatch.setattr(archives, "_write", lambda *arguments: written.append(real(*arguments)) or written[-1])
    bomb = pack(outside, ".tgz", {f"{number}.bmp": bytes(40_000_000) for number in range(2)})
    assert bomb.stat().st_size < 100_000
    refusal(bomb, max_bytes=1_000_000)
    assert sum(written) <= 1_000_000 + archives.CHUNK


def test_left_out_files_count_too(outside):
    assert "holds more than 1,000 bytes" in refusal(tar(outside / "a.tgz", {".x": bytes(9_000)}), max_bytes=1_000)


def test_a_sparse_file_is_counted_as_it_unpacks(outside):
    name = b"GNU.sparse.map"
    info = tarfile.TarInfo("sparse")
    info.pax_headers = {name.decode(): "0,0", "GNU.sparse.size": "5000000", "GNU.sparse.numblocks": "1"}
    assert "holds more than 1,000 bytes" in refusal(tar(outside / "a.tar", {}, extra=(info,)), max_bytes=1_000)


def test_the_default_limit_follows_the_archives_size(outside, monkeypatch):
    limits = []
    monkeypatch.setattr(archives, "_unpack", lambda archive, folder, max_bytes, max_files: limits.append(max_bytes))
    archive = tar(outside / "a.tar", PHOTOS)
    extract(archive, outside / "target")
    assert limits == [2**30 + 20 * archive.stat().st_size]


@pytest.mark.parametrize("suffix", [".tgz", ".zip"])
def test_more_entries_than_allowed_are_refused(outside, suffix):
    assert "more than 3 entries; max_files=3" in refusal(pack(outside, suffix, PHOTOS), max_files=3)


def test_a_header_of_absurd_size_is_not_loaded(outside):
    archive = tar(outside / "a.tar", PHOTOS)
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    archive.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + archive.read_bytes())
    assert "a header of 1,099,511,627,776 bytes" in refusal(archive)


def test_a_negative_size_does_not_loop(outside):
    again = tarfile.TarInfo(".again")
    again.size = -512  # the next header would be this one
    (outside / "a.tar").write_bytes(tarfile.TarInfo("b").tobuf() + again.tobuf(tarfile.GNU_FORMAT))
    assert "damaged or cut short (a negative size)" in refusal(outside / "a.tar", max_files=1000)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".tgz", ".tar", ".zip"])
def test_an_archive_cut_anywhere_is_refused_or_whole(outside, suffix):
    files = {"a/1.jpg": random.Random(0).randbytes(700), "a/2.jpg": b"2" * 512, "b/3.jpg": b""}
    whole = pack(outside, suffix, files).read_bytes()
    archive = outside / f"cut{suffix}"
    refused = 0
    lengths = sorted({*range(0, len(whole), 64 if suffix == ".tar" else 9), len(whole) - 1})
    for length in lengths:
        archive.write_bytes(whole[:length])
        try:
            target = extract(archive, outside / "target")
        except ArchiveError:
            assert not (outside / "target").exists()
            refused += 1
        else:  # only the padding after a .tar's end mark can be missing
            assert suffix == ".tar"
            assert unpacked(target) == files
            assert length >= len(whole.rstrip(b"\0"))
            archives.shutil.rmtree(target)
    assert refused >= sum(length < len(whole.rstrip(b"\0")) for length in lengths)


@pytest.mark.slow
@pytest.mark.parametrize("packing", ["gzip", "deflate", "bzip2", "lzma"])
def test_a_flipped_bit_is_refused_or_harmless(outside, packing):
    files = {"a/1.jpg": random.Random(0).randbytes(300), "b/2.jpg": b"2" * 99}
    kinds = {"deflate": zipfile.ZIP_DEFLATED, "bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}
    if packing == "gzip":
        whole = tar(outside / "photos.tgz", files).read_bytes()
    else:
        whole = zipped(outside / "photos.zip", files, packing=kinds[packing]).read_bytes()
    archive = outside / "flipped"
    for position in range(3, len(whole) * 8, 43):
        content = bytearray(whole)
        content[position // 8] ^= 1 << position % 8
        archive.write_bytes(content)
        try:
            target = extract(archive, outside / "target")
        except ArchiveError:
            assert not (outside / "target").exists()
        else:
            came = unpacked(target)
            # A zip's own names and its list of entries carry no checksum; its contents do.
            assert came == files if packing == "gzip" else set(came.values()) <= set(files.values())
            archives.shutil.rmtree(target)


def test_a_garbled_header_in_the_middle_is_not_taken_for_the_end(outside):
    archive = tar(outside / "a.tar", {"1.jpg": b"1", "2.jpg": b"2"})
    content = bytearray(archive.read_bytes())
    content[1024:1034] = b"x" * 10
    archive.write_bytes(content)
    assert "damaged or cut short (no end mark)" in refusal(archive)


@pytest.mark.parametrize(
    "content", [b"", b"<html>Please log in</html>", bytes(600), gzip.compress(b"text", mtime=0), b"PK\3\4" * 9]
)
def test_what_is_no_archive_is_refused(outside, content):
    (outside / "a.tgz").write_bytes(content)
    assert any(words in refusal(outside / "a.tgz") for words in ("is no .tgz", "holds no files", "is damaged"))


@pytest.mark.parametrize("suffix", [".tgz", ".zip"])
def test_an_archive_without_files_is_refused(outside, suffix):
    assert "holds no files" in refusal(pack(outside, suffix, {}))
    assert "holds no files" in refusal(pack(outside, suffix, {".DS_Store": b"x"}))


def test_an_encrypted_zip_is_refused(outside):
    archive = zipped(outside / "a.zip", {"1.jpg": b"1"})
    content = bytearray(archive.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(content)
    assert "encrypted" in refusal(archive)


def test_a_damaged_lzma_zip_is_a_sentence(outside):
    archive = zipped(outside / "a.zip", {"1.jpg": random.Random(0).randbytes(3000)}, packing=zipfile.ZIP_LZMA)
    content = bytearray(archive.read_bytes())
    content[60:1000] = b"\xff" * 940
    archive.write_bytes(content)
    assert "is damaged or cut short (" in refusal(archive)


def test_a_missing_archive_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no archive .*nothing\.tgz"):
        extract(tmp_path / "nothing.tgz", tmp_path / "target")


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_looping_links_are_sentences(tmp_path):
    for name in ("a.tgz", "target"):
        (tmp_path / name).symlink_to(name)
    with pytest.raises(FileNotFoundError, match=r"There is no archive .*a\.tgz"):
        extract(tmp_path / "a.tgz", tmp_path / "target")
    with pytest.raises(ArchiveError, match="could not be unpacked into"):
        extract(tar(tmp_path / "b.tgz", PHOTOS), tmp_path / "target")


def test_a_disk_that_fills_up_leaves_nothing(outside, monkeypatch):
    def full(member, path, left):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives, "_write", full)
    assert "could not be unpacked into" in refusal(tar(outside / "a.tgz", PHOTOS))


def test_an_interrupt_leaves_nothing(outside, monkeypatch):
    def interrupted(member, path, left):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    archive = tar(outside / "a.tgz", PHOTOS)
    with monkeypatch.context() as patch:
        patch.setattr(archives, "_write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            extract(archive, outside / "target")
    assert {path.name for path in outside.iterdir()} == {"a.tgz", ".target.lock"}
    assert unpacked(extract(archive, outside / "target")) == PHOTOS


def test_the_stamp_says_what_came(tmp_path):
    archive = tar(tmp_path / "a.tgz", PHOTOS)
    stamp = archives._read_stamp(extract(archive, tmp_path / "target"))
    assert stamp["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert stamp["files"] == len(PHOTOS)
