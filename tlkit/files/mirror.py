"""A server for a class: one machine has the files, the others set ``TLKIT_MIRROR`` to its address.

It answers for the names of files that tlkit knows and for nothing else. No request becomes a path on the disk, so none
can lead out of the folder; and a file is given away only after its hash was found right.
"""

from __future__ import annotations

import os
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import IO, Any, NamedTuple
from urllib.parse import quote

from tlkit import __version__
from tlkit.files.downloads import Remote, verified
from tlkit.files.web import Failed

__all__ = ["Delivery", "Mirror", "own_addresses"]

PATIENCE = 60  # seconds that a client may stay silent, or take nothing
ELSEWHERE = ("192.0.2.1", "10.254.254.254", "172.31.254.254", "192.168.254.254")


@dataclass(frozen=True)
class Delivery:
    """What one client was given.

    Parameters
    ----------
    client : str
        Its address.
    remote : Remote
        The file that it asked for.
    count : int
        Number of bytes that it took.
    outcome : {"done", "broken", "absent"}
        Whether it got what it asked for, went away before, or asked for what is not here.
    """

    client: str
    remote: Remote
    count: int
    outcome: str


class _Span(NamedTuple):
    start: int
    end: int  # behind the last byte


class Mirror(ThreadingHTTPServer):
    """Give known files away over HTTP, to many clients at once, each of which can go on where it was.

    Parameters
    ----------
    remotes : iterable of Remote
        The files that it may give away. Those that lie here are; one that comes later is, too.
    host : str
        Address to listen on; all of this machine's when it is empty.
    port : int
        Port to listen on; any free one for 0.
    report : callable, optional
        Called with each `Delivery`, from one thread at a time.

    Raises
    ------
    OSError
        When the address or the port cannot be used.

    Examples
    --------
    >>> from tlkit.files.downloads import FLOWER_PHOTOS
    >>> from tlkit.files.mirror import Mirror
    >>> with Mirror([FLOWER_PHOTOS], host="127.0.0.1") as mirror:
    ...     print(mirror.server_address[0], list(mirror.remotes))
    127.0.0.1 ['flower_photos.tgz']
    """

    daemon_threads = True
    request_queue_size = 128  # thirty people start at the same moment
    allow_reuse_address = os.name != "nt"  # there it would let two servers share a port, as the next would elsewhere
    allow_reuse_port = False

    def __init__(
        self,
        remotes: Iterable[Remote],
        *,
        host: str = "",
        port: int = 0,
        report: Callable[[Delivery], Any] | None = None,
    ) -> None:
        self.remotes = {remote.name: remote for remote in remotes}
        self._report, self._reporting = report or _unheard, threading.Lock()
        self._digests: dict[str, tuple[tuple[int, int], str]] = {}
        self._hashing = threading.Lock()
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Take the port, without asking for this machine's name, which takes long where nobody knows it."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def server_close(self) -> None:
        """Free the port, and tell of nothing more."""
        super().server_close()
        with self._reporting:
            self._report = _unheard

    def present(self) -> dict[str, str]:
        """Return the names of the files that can be given away now, with their SHA-256."""
        found = {}
        for name, remote in self.remotes.items():
            opened = self.opened(remote)
            if opened:
                opened[0].close()
                found[name] = opened[1]
        return found

    def opened(self, remote: Remote) -> tuple[IO[bytes], str] | None:
        """Open a file whose hash is right, and return it with its hash; None where there is none.

        What is opened is what was hashed: a file that takes its place later is another one.
        """
        try:
            file = remote.path.open("rb")
        except OSError:
            return None
        with suppress(Failed, OSError):
            return file, self._digest(remote, file)
        file.close()
        return None

    def _digest(self, remote: Remote, file: IO[bytes]) -> str:
        """Return the right hash of an open file."""
        mark = _mark(os.fstat(file.fileno()))
        with self._hashing:  # one thread hashes, the others wait and know
            known = self._digests.get(remote.name)
            if known is None or known[0] != mark:
                known = mark, verified(remote)
                if _mark(remote.path.stat()) != mark:
                    msg = "it was replaced meanwhile"
                    raise Failed(msg)
                self._digests[remote.name] = known
        return known[1]

    def report(self, delivery: Delivery) -> None:
        """Tell of a delivery."""
        with self._reporting:
            self._report(delivery)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let a client that vanishes go without a traceback."""


def _mark(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _unheard(delivery: Delivery) -> None:
    pass


class _Handler(BaseHTTPRequestHandler):
    server: Mirror
    timeout = PATIENCE

    def do_GET(self) -> None:
        """Answer with a file, a part of it, or the list of files."""
        place = self.path.partition("?")[0]
        if place == "/":
            self._text(200, "".join(f"{digest}  {name}\n" for name, digest in self.server.present().items()))
            return
        remote = self._remote(place)
        opened = self.server.opened(remote) if remote else None
        if opened is None:
            self._text(404, "There is no such file here.\n")
            if remote:
                self._tell(remote, 0, "absent")
            return
        file, digest = opened
        with file:
            self._file(remote, file, f'"{digest}"')

    do_HEAD = do_GET

    def _remote(self, place: str) -> Remote | None:
        """Return the file that is meant: a name alone, or behind the folder that it has below TLKIT_HOME."""
        for remote in self.server.remotes.values():
            if place in {f"/{quote(remote.name)}", f"/{quote(remote.folder)}/{quote(remote.name)}"}:
                return remote
        return None

    def _file(self, remote: Remote, file: IO[bytes], tag: str) -> None:
        size = os.fstat(file.fileno()).st_size
        span = _span(self.headers, size, tag)
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", "ETag": tag}
        if span is None:
            self._head(416, {"Content-Range": f"bytes */{size}", "Content-Length": "0"})
            return
        if (span.start, span.end) != (0, size):
            headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{size}"
        self._head(206 if "Content-Range" in headers else 200, headers | {"Content-Length": f"{span.end - span.start}"})
        if self.command == "HEAD":
            return
        with suppress(OSError):  # the client went away, or took nothing for too long
            self.connection.sendfile(file, span.start, span.end - span.start)
        count = max(0, file.tell() - span.start)
        self._tell(remote, count, "done" if file.tell() == span.end else "broken")

    def _text(self, status: int, text: str) -> None:
        content = text.encode()
        self._head(status, {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(content))})
        if self.command != "HEAD":
            self.wfile.write(content)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _tell(self, remote: Remote, count: int, outcome: str) -> None:
        self.server.report(Delivery(self.client_address[0], remote, count, outcome))

    def version_string(self) -> str:
        """Name the server, without Python's version."""
        return f"tlkit/{__version__}"

    def log_message(self, *args: Any) -> None:
        """Say nothing: a line about each file is told elsewhere, and requests may hold anything."""


def _span(headers: Any, size: int, tag: str) -> _Span | None:
    """Return the bytes that are asked for, and None when the file has none of them.

    A range that is no range, more than one, and one of another version of the file get the whole file, as HTTP has it.
    """
    asked = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", headers.get("Range", "").strip())
    whole = _Span(0, size)
    if asked is None or asked.groups() == ("", "") or headers.get("If-Range", tag) != tag:
        return whole
    first, last = asked.groups()
    if not first:
        return _Span(max(0, size - int(last)), size) if int(last) and size else None
    start, end = int(first), min(int(last) + 1 if last else size, size)
    if last and int(last) < start:
        return whole
    return _Span(start, end) if start < size else None


def own_addresses() -> list[str]:
    """Return the addresses at which other machines may find this one, the likeliest first.

    Asking for a way to an address elsewhere sends nothing; the system names the network card that it would take.
    """
    found = []
    for elsewhere in ELSEWHERE:
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.connect((elsewhere, 9))
            found.append(asking.getsockname()[0])
    if not found:
        with suppress(OSError):
            found = socket.gethostbyname_ex(socket.gethostname())[2]
    return list(dict.fromkeys(address for address in found if not address.startswith(("127.", "0."))))
