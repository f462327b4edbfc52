"""Files of a feature store, written so that a crash at any moment leaves whole files only."""

from __future__ import annotations

import errno
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tlkit.files.storage import RemotePath
from tlkit.memory import readable_size

__all__ = ["explain_failed_writes", "publish", "sweep"]

DAY = 24 * 60 * 60


def publish(file: Path | RemotePath, data: bytes) -> None:
    """Write a file so that its name holds either the old bytes or all the new ones, even after a power cut."""
    try:
        if isinstance(file, RemotePath):
            file.write_bytes(data)
        else:
            _replace(file, data)
    except OSError as error:
        name = file if isinstance(file, RemotePath) else file.name
        error.unwritten = f"'{name}', takes {readable_size(len(data))}"
        raise


def _replace(file: Path, data: bytes) -> None:
    host = socket.gethostname().replace(os.sep, "_")[:40]
    temporary = file.with_name(f".{host}.{os.getpid()}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as stream:  # a plain open: the mode follows the umask
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if file.is_dir() and not file.is_symlink():
            _set_aside(file)
        temporary.replace(file)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    if os.name == "posix":  # Windows cannot open a folder
        descriptor = os.open(file.parent, os.O_RDONLY)
        try:
            with suppress(OSError):  # some network file systems refuse, and need no such thing
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _set_aside(folder: Path) -> None:
    """Take a folder out of the way of a file; nothing that somebody may have put into it is lost."""
    try:
        folder.rmdir()
    except OSError:
        folder.replace(folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}"))


def sweep(folder: Path | RemotePath) -> None:
    """Remove what writers that died more than a day ago have left in a folder."""
    for file in folder.glob(".*.tmp"):
        with suppress(OSError):  # a read-only folder stays as it is
            if time.time() - file.stat().st_mtime > DAY:
                file.unlink()


@contextmanager
def explain_failed_writes(folder: Path | RemotePath) -> Iterator[None]:
    """Say in a sentence why nothing could be written, under the same type of error."""
    try:
        yield
    except OSError as error:
        why = {
            errno.EACCES: "you may not write there",
            errno.EPERM: "you may not write there",
            errno.EROFS: "it is read-only",
            errno.ENOSPC: "the disk is full",
            errno.EDQUOT: "your disk quota is used up",
            errno.EFBIG: "a file may not grow so large",
            errno.ENOTDIR: "a file is in its place",
            errno.EEXIST: "a file is in its place",
        }.get(error.errno or 0, error.strerror or str(error))
        unwritten = getattr(error, "unwritten", "")
        which = f"The file that could not be written, {unwritten}. " if unwritten else ""
        msg = (
            f"The feature store in '{folder}' cannot be written: {why}. What was finished stays. {which}"
            "Mend that and featurize again, or choose another folder."
        )
        raise type(error)(error.errno, msg) from error
