"""Where stores and pictures lie: a folder of this machine, or object storage behind an address such as s3://bucket/x.

A `RemotePath` is for an object what `pathlib.Path` is for a file, as far as stores and pictures need it, so that the
rest of the package sees paths. Objects are read and written whole: a PUT is atomic, and nothing has to be renamed.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from tlkit.errors import near_misses, printable, quoted
from tlkit.files.publishing import published
from tlkit.memory import readable_size

__all__ = ["ADDRESS", "RemotePath", "at_once", "free_space", "name_below", "on_disk", "opened", "place"]

ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")  # one letter would be a drive of Windows
REQUESTS = 16  # that wait for object storage at the same time
SPARE = 10  # copies leave at least a tenth of the disk free


def place(path: str | os.PathLike[str] | RemotePath) -> Path | RemotePath:
    """Return the path that a text, or a path itself, stands for.

    Parameters
    ----------
    path : str or path
        A folder or file of this machine, also as ``file:///folder``, or an address on object storage.

    Raises
    ------
    ImportError
        When a package for this kind of address is missing; the message says which to install.
    ValueError
        When the address is of no kind that fsspec knows.

    Examples
    --------
    >>> from tlkit.files.storage import place
    >>> place("file:///data/features").as_posix()
    '/data/features'
    """
    if isinstance(path, RemotePath):
        return path
    scheme = ADDRESS.match(path) if isinstance(path, str) else None
    if scheme is None:
        local = Path(path)
        if not local.drive and re.fullmatch(r"[a-z][a-z0-9+.-]+:", next(iter(local.parts), "")):
            msg = f"An address is given as text, since a Path takes a slash from it: '{local.as_posix()}' is no place."
            raise ValueError(msg)
        return local.expanduser()
    if scheme[1].lower() == "file":
        return Path(url2pathname(urlsplit(path).path))
    return RemotePath(path, _file_system(path, scheme[1]))


class RemotePath:
    """An object, or all objects below a common name; made by `place`.

    Nothing of it is remembered, neither listings nor sizes: other machines may be writing.
    """

    def __init__(self, address: str, file_system: Any) -> None:
        self.address = address.rstrip("/")
        self._files = file_system
        self._key = file_system._strip_protocol(self.address)

    def __reduce__(self) -> tuple[Any, ...]:
        return place, (self.address,)

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(f"{self.address}/{name}", self._files)

    def __str__(self) -> str:
        return self.address

    def __repr__(self) -> str:
        return f"RemotePath('{self.address}')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and self.address == other.address

    def __hash__(self) -> int:
        return hash(self.address)

    def __lt__(self, other: object) -> bool:
        return self.address < str(other)

    def __gt__(self, other: object) -> bool:
        return self.address > str(other)

    # -- names ------------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What stands behind the last slash."""
        return PurePosixPath(self.address).name

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.address).stem

    @property
    def suffix(self) -> str:
        """The end of the name, from its last dot on."""
        return PurePosixPath(self.address).suffix

    @property
    def parent(self) -> RemotePath:
        """The address up to the last slash."""
        return RemotePath(self.address.rpartition("/")[0], self._files)

    def absolute(self) -> RemotePath:
        """Return the address itself, which is the same everywhere."""
        return self

    def as_posix(self) -> str:
        """Return the address."""
        return self.address

    def relative_to(self, other: Any) -> PurePosixPath:
        """Return what stands behind the address of a folder."""
        start = f"{other}/"
        if not self.address.startswith(start):
            msg = f"'{self}' does not lie in '{other}'."
            raise ValueError(msg)
        return PurePosixPath(self.address.removeprefix(start))

    # -- reading ----------------------------------------------------------------------------------------------------

    def read_bytes(self) -> bytes:
        """Return the whole object."""
        with self._explained("read"):
            return self._files.cat_file(self._key)

    def open(self, mode: str = "rb") -> io.BytesIO:
        """Return the whole object as a file."""
        if mode != "rb":
            msg = f"An object is opened with mode 'rb', got '{mode}'; write_bytes replaces it."
            raise ValueError(msg)
        return io.BytesIO(self.read_bytes())

    def stat(self) -> SimpleNamespace:
        """Return its size in bytes and when it was written, under the names that a file has them."""
        facts = self._facts()
        written = facts.get("LastModified") or facts.get("mtime") or facts.get("created")
        seconds = written.timestamp() if hasattr(written, "timestamp") else float(written or 0)
        return SimpleNamespace(st_size=facts["size"], st_mtime=seconds)

    def exists(self) -> bool:
        """Say whether there is such an object, or one below it."""
        with suppress(FileNotFoundError):
            return bool(self._facts())
        return False

    def is_file(self) -> bool:
        """Say whether it is an object."""
        with suppress(FileNotFoundError):
            return self._facts()["type"] == "file"
        return False

    def is_dir(self) -> bool:
        """Say whether objects lie below it."""
        with suppress(FileNotFoundError):
            return self._facts()["type"] == "directory"
        return False

    def is_symlink(self) -> bool:
        """Say that it is no link: object storage has none."""
        return False

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """Yield the objects right below that match a pattern."""
        with self._explained("listed"), suppress(FileNotFoundError):
            names = sorted(PurePosixPath(found).name for found in self._files.ls(self._key, detail=False))
            yield from (self / name for name in names if fnmatchcase(name, pattern))

    def rglob(self, pattern: str) -> Iterator[RemotePath]:
        """Yield the objects at any depth below whose name matches a pattern."""
        with self._explained("listed"), suppress(FileNotFoundError):
            names = [found[len(self._key) + 1 :] for found in sorted(self._files.find(self._key))]
            yield from (self / name for name in names if fnmatchcase(PurePosixPath(name).name, pattern))

    # -- writing ----------------------------------------------------------------------------------------------------

    def write_bytes(self, data: bytes) -> None:
        """Put the object there as a whole, or leave what was there."""
        with self._explained("written"):
            self._files.pipe_file(self._key, data)

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Remove the object."""
        with self._explained("removed"):
            try:
                self._files.rm_file(self._key)
            except FileNotFoundError:
                if not missing_ok:
                    raise

    def mkdir(self, **_: Any) -> None:
        """Do nothing: object storage has no folders."""

    # -- copies on this machine -------------------------------------------------------------------------------------

    def copied(self, *, again: bool = False) -> Path:
        """Return a copy on this machine's disk, made unless one of this very version is there.

        Copies lie in ``TLKIT_HOME``. Those that were not used for longest make room for new ones.
        """
        while True:
            facts = self._facts()
            version = hashlib.sha256(f"{self.address} {facts}".encode()).hexdigest()
            copy = _copies() / version[:2] / f"{version[2:]}{self.suffix}"
            if copy.is_file() and not again:
                os.utime(copy)
                return copy
            data = self.read_bytes()
            if self._facts() == facts:  # it was not replaced meanwhile
                break
        _make_room(len(data))
        try:
            with published(copy, self.name) as temporary:
                temporary.write_bytes(data)
        except OSError as error:
            msg = (
                f"'{self}' is read from a copy, and its {readable_size(len(data))} cannot be kept in "
                f"'{_copies()}': {error.strerror or error}. Make room, or set TLKIT_HOME to a folder on another disk."
            )
            raise OSError(error.errno, msg) from error
        return copy

    def _facts(self) -> dict[str, Any]:
        with self._explained("read"):
            return self._files.info(self._key)

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Turn what the many packages behind fsspec raise into an OSError that names the address."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileNotFoundError(errno.ENOENT, str(error) or "there is no such object", self.address) from error
        except Exception as error:  # errors of the network and of missing credentials are no OSErrors
            text = " ".join(str(error.strerror if isinstance(error, OSError) and error.strerror else error).split())
            number = errno.EACCES if isinstance(error, PermissionError) else getattr(error, "errno", None) or errno.EIO
            msg = f"'{self}' cannot be {what}: {text or type(error).__name__}"
            kind = PermissionError if isinstance(error, PermissionError) else OSError
            raise kind(number, msg) from error


def on_disk(path: Path | RemotePath, *, again: bool = False) -> Path:
    """Return a file of this machine with the same bytes: a file itself, or a copy of an object.

    Parameters
    ----------
    path : path
    again : bool
        Whether to copy an object anew, because the copy was found to be damaged.
    """
    return path.copied(again=again) if isinstance(path, RemotePath) else path


def opened(path: Any) -> Any:
    """Return what a decoder can open: an object as a file in memory, anything else as it is."""
    return path.open() if isinstance(path, RemotePath) else path


def name_below(root: Path | RemotePath, path: Path | RemotePath) -> str:
    """Return a file's name for messages: from the root on, or as a whole where it lies elsewhere."""
    with suppress(ValueError, TypeError):
        path = path.relative_to(root)
    return printable(path.as_posix(), None)


def free_space(folder: Path | RemotePath) -> int | None:
    """Return the bytes that are free on a folder's disk; None for object storage, which has no end."""
    if isinstance(folder, RemotePath):
        return None
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    return shutil.disk_usage(existing).free


def at_once(folder: Path | RemotePath) -> int:
    """Return how many files are looked at together: a disk keeps processors busy, object storage makes them wait."""
    return REQUESTS if isinstance(folder, RemotePath) else min(8, os.cpu_count() or 1)


def _file_system(address: str, scheme: str) -> Any:
    # torch brings it; what it needs for a kind of storage is imported by it, and only then
    from fsspec.core import url_to_fs
    from fsspec.registry import known_implementations

    try:
        return url_to_fs(address, use_listings_cache=False)[0]
    except ImportError as error:
        home = known_implementations[scheme]["class"].partition(".")[0]
        command = "pip install 'tlkit[cloud]'" if home == "s3fs" else f"pip install {home}"
        msg = f"'{address}' needs {home}, which is not installed here. Install it with: {command}"
        raise ImportError(msg) from error
    except ValueError as error:
        known = ("s3", "gs", "file")
        hint = near_misses(scheme, [*known, *known_implementations])
        begins = quoted((f"{kind}://" for kind in known), "or")
        msg = f"'{address}' cannot be used: {error}. Addresses begin with {begins}, for example.{hint}"
        raise ValueError(msg) from error


def _copies() -> Path:
    from tlkit.files.downloads import home

    return home() / "copies"


def _make_room(size: int) -> None:
    """Remove the copies that were not used for longest until another one leaves some of the disk free."""
    folder = _copies()
    folder.mkdir(parents=True, exist_ok=True)
    total = shutil.disk_usage(folder).total
    if shutil.disk_usage(folder).free - size > total // SPARE:
        return
    for copy in sorted(folder.glob("*/*"), key=_used):
        with suppress(OSError):  # another process was faster, or it is in use under Windows
            copy.unlink()
        if shutil.disk_usage(folder).free - size > total // SPARE:
            return


def _used(copy: Path) -> float:
    with suppress(OSError):
        return copy.stat().st_mtime
    return 0.0
