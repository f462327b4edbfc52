"""Verified downloads: every file has a pinned sha256, and a broken transfer goes on where it stopped.

pooch finds the cache folder and hashes the files. The transfer is our own, over requests, since pooch can neither
continue a download nor keep two processes from doing the same one. Three environment variables steer it:

- ``TLKIT_HOME``: the folder that keeps the files (default: the user's cache folder).
- ``TLKIT_MIRROR``: a folder or URL that is tried first: a stick with another machine's ``TLKIT_HOME``, or the address
  that ``python -m tlkit serve`` prints there.
- ``TLKIT_OFFLINE=1``: never touch the network.
"""

from __future__ import annotations

import json
import os
import re
import uuid
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pooch
from filelock import FileLock, Timeout

from tlkit.files.resuming import Part, Unreachable, bar
from tlkit.files.web import Failed
from tlkit.memory import readable_size

__all__ = [
    "FLOWER_PHOTOS",
    "VGG16",
    "DownloadError",
    "Remote",
    "describe_failure",
    "find_fault",
    "find_sources",
    "fetch",
    "home",
    "offline",
    "verify",
    "weights_remote",
]


MOST = 4 << 30  # bytes that are taken of a file of which no size is known


class DownloadError(OSError):
    """A file could not be fetched; the message says why, and how to bring it by hand."""


def home() -> Path:
    """Return the folder that keeps downloads: ``TLKIT_HOME``, or the user's cache folder."""
    return Path(os.environ.get("TLKIT_HOME") or pooch.os_cache("tlkit")).expanduser().absolute()


def offline() -> bool:
    """Say whether ``TLKIT_OFFLINE`` forbids the network."""
    return os.environ.get("TLKIT_OFFLINE", "").lower() not in {"", "0", "no", "false", "off"}


@dataclass(frozen=True)
class Remote:
    """A file on the network, known by its hash.

    Parameters
    ----------
    name : str
        File name, also on the disk.
    urls : tuple of str
        Addresses, tried in this order.
    sha256 : str
        The 64 hexadecimal digits, or the first 8 or more of them where no more is published. A shortened hash
        is completed by the first download: later checks compare all digits.
    size : int, optional
        Exact size in bytes, where it is known.
    folder : str
        Folder below `home()`.
    about : int, optional
        Size in bytes to a few digits, where the exact one is not published.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str
    size: int | None = None
    folder: str = ""
    about: int | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{8,64}", self.sha256):
            msg = f"The sha256 of {self.name} is {self.sha256!r}; expected 8 to 64 lower-case hexadecimal digits."
            raise ValueError(msg)

    @property
    def path(self) -> Path:
        """Where the file lies, or will lie."""
        return home() / self.folder / self.name

    @property
    def part(self) -> Path:
        """Where its first bytes lie as long as the others have not come."""
        return self.path.with_name(f"{self.name}.{self.sha256[:8]}.part")

    @property
    def most(self) -> int:
        """Most bytes that are taken from a server."""
        return self.size or 2 * (self.about or 0) or MOST

    @property
    def size_in_words(self) -> str:
        """The size for people."""
        if self.size is None:
            return f"about {readable_size(self.about)}" if self.about else "size unknown"
        return readable_size(self.size)


FLOWER_PHOTOS = Remote(
    "flower_photos.tgz",
    (
        "https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz",
        "http://download.tensorflow.org/example_images/flower_photos.tgz",
    ),
    sha256="4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c",
    size=228_813_984,
    folder="images",
)
VGG16 = Remote(
    "vgg16-397923af.pth",
    ("https://download.pytorch.org/models/vgg16-397923af.pth",),
    sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    size=553_433_881,
    folder="weights",
)


def weights_remote(weights: Any) -> Remote:
    """Return the file of a member of a torchvision weights enum.

    torchvision publishes the first eight digits of the sha256, in the file's name, and the size in MiB.

    Examples
    --------
    >>> from tlkit.files.downloads import weights_remote
    >>> from torchvision.models import ResNet18_Weights
    >>> weights_remote(ResNet18_Weights.IMAGENET1K_V1).sha256
    'f37072fd'
    """
    name = urlsplit(weights.url).path.rpartition("/")[2]
    if name == VGG16.name:
        return VGG16
    digits = re.search(r"[-_]([0-9a-f]{8,64})\.\w+$", name)
    if digits is None:
        msg = f"The file name in {weights.url} has no hash to verify a download with; expected NAME-HASH.pth."
        raise ValueError(msg)
    about = round(weights.meta.get("_file_size", 0) * 2**20) or None
    return Remote(name, (weights.url,), digits[1], folder="weights", about=about)


def fetch(remote: Remote, *, progress: bool = True) -> Path:
    """Return the path of a verified file, downloading it when it is not there yet.

    A file that already lies there is accepted when its hash is right, also when it was put there by hand. It is
    hashed again only after its size or time has changed.

    Parameters
    ----------
    remote : Remote
        What to fetch, for instance `FLOWER_PHOTOS`.
    progress : bool
        Show a bar.

    Raises
    ------
    DownloadError
        When no source has the file, or not the right one. Nothing is left under the file's name; a part that
        can be continued stays beside it as ``*.part``.
    """
    if find_fault(remote) is None:
        return remote.path
    try:
        remote.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{remote.path}.lock")
        try:
            lock.acquire(timeout=1)
        except Timeout:
            with bar(progress, f"{remote.name}: waiting for another download of it"):
                lock.acquire()
        try:
            problem = find_fault(remote)
            if problem is not None:
                _obtain(remote, problem, progress)
        finally:
            lock.release()
    except DownloadError:
        raise
    except OSError as error:
        problem = f"{remote.path.parent} cannot be used: {error.strerror or error} (TLKIT_HOME can name another folder)"
        raise _failure(remote, [problem]) from error
    return remote.path


def find_fault(remote: Remote) -> str | None:
    """Return None for a file that lies there verified, else what is wrong; an empty string where there is no file."""
    if not remote.path.is_file():
        return ""
    try:
        verify(remote)
    except Failed as wrong:
        return str(wrong)
    return None


def verify(remote: Remote) -> str:
    """Return the sha256 of a file that lies there; it is hashed again only after its size or time has changed.

    Raises
    ------
    Failed
        When it has another size or hash than it should have.
    """
    path = remote.path
    record = _read_record(path)
    stat = path.stat()
    if record.get("sha256", "").startswith(remote.sha256) and (stat.st_size, stat.st_mtime_ns) == record["stat"]:
        return record["sha256"]
    digest = _check(path, remote)
    with suppress(OSError):  # in a read-only folder the file is hashed each time
        _write_record(path, digest)
    return digest


def _obtain(remote: Remote, wrong: str, progress: bool) -> None:
    """Try all sources and publish the first right file."""
    part = Part(remote.part, remote.size, remote.most, partial(_check, remote=remote), remote.name, progress)
    problems = [f"{remote.path}: {wrong}"] if wrong else []
    mirrors, urls = find_sources(remote)
    if _mirror() and not mirrors:
        problems.append(f"TLKIT_MIRROR={_mirror()}: {_why_not()}")
    silent = set()
    for source in [*mirrors, *urls]:
        host = "" if isinstance(source, Path) else urlsplit(source).netloc
        if host and host in silent:
            continue
        try:
            digest = part.copy(source) if isinstance(source, Path) else part.download(source)
        except Failed as failure:
            problems.append(f"{source}: {failure}")
            if isinstance(failure, Unreachable):
                silent.add(host)
            continue
        os.replace(part.path, remote.path)
        part.discard()
        with suppress(OSError):  # without its record the file is hashed each time
            _write_record(remote.path, digest)
        if problems and source not in mirrors:
            warnings.warn(f"{remote.name} came from {source}, since\n  " + "\n  ".join(problems), stacklevel=3)
        return
    if not urls:
        problems.append(f"{remote.urls[0]}: not tried, since TLKIT_OFFLINE={os.environ['TLKIT_OFFLINE']}")
    raise _failure(remote, problems, kept=part.have)


def _mirror() -> str:
    """Return TLKIT_MIRROR, without the quotation marks that a Windows prompt would make part of it."""
    return os.environ.get("TLKIT_MIRROR", "").strip(" \t\"'")


def _is_address(mirror: str) -> bool:
    return re.match("https?://", mirror) is not None


def find_sources(remote: Remote) -> tuple[list[Path | str], list[str]]:
    """Return the places on the mirror, and the addresses; without those that need a network when offline."""
    mirror = _mirror()
    places = dict.fromkeys([remote.name, f"{remote.folder}/{remote.name}".lstrip("/")])
    mirrors: list[Path | str] = []
    if _is_address(mirror):
        mirrors = [] if offline() else [f"{mirror.rstrip('/')}/{quote(place)}" for place in places]
    elif mirror and Path(mirror).expanduser().is_dir():
        mirrors = [Path(mirror).expanduser() / place for place in places]
    return mirrors, [] if offline() else list(remote.urls)


def _why_not() -> str:
    """Say why the mirror is not asked."""
    if _is_address(_mirror()):
        return f"not asked, since TLKIT_OFFLINE={os.environ['TLKIT_OFFLINE']}"
    return "there is no such folder, and an address begins with http:// or https://"


def _check(path: Path, remote: Remote) -> str:
    """Return the sha256 of a file that has the right size and hash."""
    size = path.stat().st_size
    if remote.size not in {None, size}:
        msg = f"{size:,} bytes, expected {remote.size:,}"
        raise Failed(msg)
    digest = pooch.file_hash(str(path), alg="sha256")
    recorded = _read_record(remote.path).get("sha256", "")
    expected = recorded if recorded.startswith(remote.sha256) else remote.sha256
    if not digest.startswith(expected):
        msg = f"wrong content: sha256 {digest}, expected {expected}{'' if len(expected) == 64 else '...'}"
        raise Failed(msg)
    return digest


def _read_record(path: Path) -> dict[str, Any]:
    """Return the digest of a verified file, and the size and time that the file had then."""
    try:
        line, stat = path.with_name(f"{path.name}.sha256").read_text(encoding="utf-8").splitlines()
        return {"sha256": line.split()[0], "stat": tuple(json.loads(stat.lstrip("# ")))}
    except (OSError, ValueError, IndexError, TypeError, RecursionError):
        return {}


def _write_record(path: Path, digest: str) -> None:
    """Write the record in the format of ``sha256sum --check``, which skips comments."""
    stat = path.stat()
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    temporary.write_text(f"{digest}  {path.name}\n# [{stat.st_size}, {stat.st_mtime_ns}]\n", encoding="utf-8")
    os.replace(temporary, path.with_name(f"{path.name}.sha256"))


def _failure(remote: Remote, problems: list[str], kept: int = 0) -> DownloadError:
    digits = f"is {remote.sha256}" if len(remote.sha256) == 64 else f"begins with {remote.sha256}"
    what = f"{remote.name} ({remote.size_in_words})"
    text = describe_failure(what, problems, remote.urls[0], f"save it as {remote.path} (its sha256 {digits})")
    if kept:
        text += f"\nThe {kept:,} bytes that came are kept; the next call continues from there."
    return DownloadError(text)


def describe_failure(what: str, problems: Iterable[str], url: str, by_hand: str) -> str:
    """Say what could not be fetched and why, one problem in a line, and what to do with it when it came by hand."""
    lines = [f"{what} could not be fetched:", *(f"  {problem}" for problem in problems)]
    return "\n".join([*lines, f"To bring it by hand, download {url} and {by_hand}."])
