"""Files that appear under their name as a whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["publish"]


@contextmanager
def publish(path: Path, example: str) -> Iterator[Path]:
    """Give a file to write to; when all went well it takes the place of `path`, else nothing is left of it.

    A reader of `path` sees the old file or the whole new one, even after a power cut.

    Parameters
    ----------
    path : Path
        Where the file shall be; its folder is made.
    example : str
        Name of such a file, for the message to someone who gave a folder.

    Raises
    ------
    IsADirectoryError
        When `path` is a folder.
    """
    if path.is_dir():
        msg = f"{path} is a folder. Give the name of a file in it, such as {path / example}."
        raise IsADirectoryError(msg)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # of any new file here; some writers make one that only its owner reads
        yield temporary
        temporary.chmod(mode)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
