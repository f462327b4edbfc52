"""Unpack archives of images from anywhere: nothing lands outside the target, and the target is whole or absent.

Image sets need no links, owners or modes, so only the contents of regular files are taken. The tar filters of the
standard library are not enough here: Python 3.10 and 3.11 lack or don't use them by default, and they have been
got round.
"""

from __future__ import annotations

import gzip
import json
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any, NamedTuple

import pooch
from filelock import FileLock

from tlkit.errors import printable

__all__ = ["ArchiveError", "extract"]

STAMP = ".archive.json"
CHUNK = 1 << 20
LARGEST_HEADER = CHUNK
LONGEST_NAME, DEEPEST = 1000, 32  # characters, folders
DAMAGED = (
    EOFError, MemoryError, struct.error, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
    gzip.BadGzipFile,
)  # fmt: skip


class ArchiveError(OSError):
    """An archive that cannot be unpacked, or not safely; the message says why."""


class Member(NamedTuple):
    """One entry of an archive; `kind` is "file", "folder", or what else it is."""

    name: str
    kind: str
    size: int
    content: IO[bytes] | None


def extract(
    archive: str | Path, folder: str | Path, *, max_bytes: int | None = None, max_files: int = 1_000_000
) -> Path:
    """Unpack a ``.tgz``, ``.tar.gz``, ``.tar`` or ``.zip`` file into a folder of its own.

    The folder appears when all is unpacked. A second call does nothing, unless the archive has changed or files are
    missing; then it unpacks again. Dot files and ``__MACOSX`` are left out.

    Parameters
    ----------
    archive : path
        The archive; its content decides on the format.
    folder : path
        The folder to make. It must be absent, empty, or made from an archive by this function.
    max_bytes : int, optional
        Most bytes that may come out. The default is 1 GiB more than twenty times the archive's size.
    max_files : int
        Most entries that the archive may have.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ArchiveError
        For a damaged or truncated archive; one with a path that is absolute, leads out or is too long, a link or a
        device, or one file twice; one that is too large; and a folder that holds something else. Nothing is changed
        then.
    """
    archive, folder = Path(archive), Path(folder).absolute()
    if not archive.is_file():
        msg = f"There is no archive {archive}."
        raise FileNotFoundError(msg)
    if _is_done(archive, folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if not _is_done(archive, folder):
                _make(archive, folder, max_bytes, max_files)
    except ArchiveError:
        raise
    except DAMAGED as error:
        msg = f"{archive} is damaged or cut short ({error}). Get it again."
        raise ArchiveError(msg) from error
    except (OSError, ValueError, NotImplementedError, RuntimeError) as error:
        msg = f"{archive} could not be unpacked into {folder}: {error}"
        raise ArchiveError(msg) from error
    return folder


def _is_done(archive: Path, folder: Path) -> bool:
    stamp = _read_stamp(folder)
    if stamp is None or _count(folder) < stamp["files"]:
        return False
    status = archive.stat()
    return stamp["stat"] == [status.st_size, status.st_mtime_ns] or stamp["sha256"] == _sha256(archive)


def _make(archive: Path, folder: Path, max_bytes: int | None, max_files: int) -> None:
    """Unpack into a folder beside the target, then swap the two."""
    if folder.exists():
        _check_replaceable(folder)
    status = archive.stat()
    if max_bytes is None:
        max_bytes = (1 << 30) + 20 * status.st_size
    fresh, old = (folder.with_name(f".{folder.name}.{word}") for word in ("part", "old"))
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        fresh.mkdir()
        stamp = {
            "sha256": _sha256(archive),
            "stat": [status.st_size, status.st_mtime_ns],
            "files": _unpack(archive, fresh, max_bytes, max_files),
        }
        (fresh / STAMP).write_text(json.dumps(stamp))
        if folder.exists():
            os.replace(folder, old)
        os.replace(fresh, folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _check_replaceable(folder: Path) -> None:
    """Refuse to replace what did not come out of an archive."""
    stamp = _read_stamp(folder)
    if not folder.is_dir() or (stamp is None and any(folder.iterdir())):
        msg = f"{folder} exists and did not come out of an archive. Name another folder, or move that one away."
        raise ArchiveError(msg)
    if stamp is not None and _count(folder) > stamp["files"]:
        msg = (
            f"{folder} holds {_count(folder)} files, and {stamp['files']} came out of its archive, which has changed. "
            "Move your own files away, or name another folder."
        )
        raise ArchiveError(msg)


def _unpack(archive: Path, folder: Path, max_bytes: int, max_files: int) -> int:
    """Write the regular files below `folder` and return their number."""
    left, files = max_bytes, 0
    with closing(_members(archive)) as members:
        for number, member in enumerate(members, start=1):
            if number > max_files:
                msg = f"{archive} has more than {max_files:,} entries; max_files={max_files} allows no more."
                raise ArchiveError(msg)
            parts = _safe_parts(archive, member)
            if any(part.startswith(".") or part == "__MACOSX" for part in parts):
                left -= member.size
            elif parts:
                left -= _place(archive, member, folder.joinpath(*parts), left)
                files += member.kind == "file"
            if left < 0:
                msg = f"{archive} holds more than {max_bytes:,} bytes; max_bytes={max_bytes} allows no more."
                raise ArchiveError(msg)
    if not files:
        msg = f"{archive} holds no files."
        raise ArchiveError(msg)
    return files


def _place(archive: Path, member: Member, path: Path, left: int) -> int:
    """Make a folder, or write a file and return its bytes."""
    try:
        if member.kind == "folder":
            path.mkdir(parents=True, exist_ok=True)
            return 0
        path.parent.mkdir(parents=True, exist_ok=True)
        return _write(member, path, left)
    except (FileExistsError, NotADirectoryError) as error:
        msg = f"{archive} was not unpacked, since it holds '{printable(member.name)}', or what it lies in, twice."
        raise ArchiveError(msg) from error


def _write(member: Member, path: Path, left: int) -> int:
    """Write a file and return its bytes as counted, one chunk more than `left` at most."""
    count = 0
    with path.open("xb") as file:
        while count <= left and (chunk := member.content.read(CHUNK)):
            count += file.write(chunk)
    return count


def _safe_parts(archive: Path, member: Member) -> list[str]:
    """Split a member's name, with "_" for each character that steers a terminal, or refuse it."""
    problem = _too_long(member.name) or (f"is {member.kind}" if member.kind not in {"file", "folder"} else None)
    name = "" if problem else "".join(map(_harmless, member.name))
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if name.startswith("/") or any(re.match("[A-Za-z]:", part) for part in parts):
        problem = "is an absolute path"
    elif any(not part.strip(" .") for part in parts):
        problem = "leads out of the folder"
    if problem:
        entry = printable(member.name)
        msg = f"{archive} was not unpacked, since its entry '{entry}' {problem}; expected plain files and folders."
        raise ArchiveError(msg)
    return parts


def _harmless(character: str) -> str:
    if character == "\\":
        return "/"
    is_byte = "\udc80" <= character <= "\udcff"  # of a name that is not in UTF-8
    return character if is_byte or printable(character) == character else "_"


def _too_long(name: str) -> str | None:
    if len(name) > LONGEST_NAME:
        return f"has a name of {len(name):,} characters, more than {LONGEST_NAME:,}"
    if name.count("/") + name.count("\\") > DEEPEST:
        return f"lies more than {DEEPEST} folders deep"
    return None


def _members(archive: Path) -> Iterator[Member]:
    with archive.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic in {b"PK\3\4", b"PK\5\6"}:
            yield from _zip_members(file)
        elif magic[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=file) as stream:
                yield from _tar_members(archive, stream)
        else:
            yield from _tar_members(archive, file)


def _zip_members(file: IO[bytes]) -> Iterator[Member]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            mode = stat.S_IFMT(info.external_attr >> 16)
            name = info.orig_filename
            if name.endswith(("/", "\\")) or mode == stat.S_IFDIR:
                yield Member(name, "folder", 0, None)
            elif mode not in {0, stat.S_IFREG}:
                yield Member(name, "a link" if mode == stat.S_IFLNK else "a device", 0, None)
            else:
                with archive.open(info) as content:
                    yield Member(name, "file", info.file_size, content)


def _tar_members(archive: Path, file: Any) -> Iterator[Member]:
    stream = _TarStream(file)
    try:
        tar = tarfile.TarFile(fileobj=stream)
    except tarfile.ReadError as error:
        msg = f"{archive} is no .tgz, .tar.gz, .tar or .zip archive, or is damaged ({error})."
        raise ArchiveError(msg) from error
    with tar:
        while (info := tar.next()) is not None:
            tar.members.clear()  # a million of them would take a gigabyte
            if info.size < 0:
                msg = "a negative size"
                raise tarfile.ReadError(msg)
            if info.isdir():
                yield Member(info.name, "folder", 0, None)
            elif not info.isreg():
                yield Member(info.name, "a link" if info.issym() or info.islnk() else "a device", 0, None)
            else:
                yield Member(info.name, "file", info.size, tar.extractfile(info))
    # tarfile takes a cut or a garbled header for the end; the real end is a block of zeros.
    if stream.last != bytes(tarfile.BLOCKSIZE):
        msg = "no end mark"
        raise EOFError(msg)
    while stream.read(CHUNK):  # up to the checksum of gzip
        pass


class _TarStream:
    """What tarfile reads from; remembers the last block, and refuses to load a header of absurd size."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.seek, self.tell = file, file.seek, file.tell
        self.last = b""

    def read(self, size: int) -> bytes:
        if not 0 <= size <= LARGEST_HEADER:
            msg = f"a header of {size:,} bytes"
            raise tarfile.ReadError(msg)
        self.last = self.file.read(size)
        return self.last


def _read_stamp(folder: Path) -> dict[str, Any] | None:
    try:
        stamp = json.loads((folder / STAMP).read_text())
        return stamp if stamp.keys() == {"sha256", "stat", "files"} else None
    except (OSError, ValueError, AttributeError, RecursionError):
        return None


def _count(folder: Path) -> int:
    """Return the number of files below a folder; without dot files, which no archive brings."""
    count = 0
    for _, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        count += sum(not name.startswith(".") for name in names)
    return count


def _sha256(path: Path) -> str:
    return pooch.file_hash(str(path), alg="sha256")
