"""A file server on 127.0.0.1 that misbehaves on request."""

from __future__ import annotations

import hashlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["FileServer", "Reply", "endless", "refused_url"]


@dataclass
class Reply:
    """How one request is answered; the defaults describe a server that works and can resume.

    Parameters
    ----------
    status : int
        Anything but 200 is sent with a short text instead of the file.
    headers : dict
        Further headers; they win over the server's own.
    body : bytes, optional
        Sent instead of the file, or of the short text.
    drop_after : int, optional
        Close the connection after so many bytes of the body.
    stall_after : int, optional
        Send so many bytes of the body, and nothing more until the server is closed.
    drip : int, optional
        Send the body in pieces of so many bytes, with short pauses.
    ranges, if_range : bool
        Whether Range is understood, and whether If-Range is.
    etag : str, optional
        ETag; the default is one made of the body. An empty string sends none.
    length : bool
        Whether Content-Length is sent.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    drop_after: int | None = None
    stall_after: int | None = None
    drip: int | None = None
    ranges: bool = True
    if_range: bool = True
    etag: str | None = None
    length: bool = True


class FileServer:
    """Serve ``files`` (path -> bytes); ``script`` holds the replies to the next requests, ``default`` those after.

    ``requests`` lists (path, headers) of what was asked.
    """

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.files = files or {}
        self.script: list[Reply] = []
        self.default = Reply()
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.closing = threading.Event()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}{path}"

    def __enter__(self) -> FileServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    owner: FileServer

    def do_GET(self) -> None:
        self.owner.requests.append((self.path, dict(self.headers)))
        reply = self.owner.script.pop(0) if self.owner.script else self.owner.default
        body = self.owner.files.get(self.path.partition("?")[0]) if reply.body is None else reply.body
        if body is None:
            reply = Reply(status=404)
        if reply.status != 200:
            text = reply.body or b"sorry"
            self._send(reply.status, {"Content-Length": str(len(text)), **reply.headers}, text, reply)
            return
        etag = f'"{hashlib.md5(body).hexdigest()}"' if reply.etag is None else reply.etag
        headers = {"ETag": etag} if etag else {}
        status = 200
        asked = self.headers.get("Range", "") if reply.ranges else ""
        if asked and (not reply.if_range or self.headers.get("If-Range") in {None, etag}):
            start, total = int(asked.removeprefix("bytes=").rstrip("-")), len(body)
            if start >= total:
                self._send(416, {"Content-Range": f"bytes */{total}", "Content-Length": "5"}, b"sorry", reply)
                return
            headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
            status, body = 206, body[start:]
        if reply.length:
            headers["Content-Length"] = str(len(body))
        self._send(status, {**headers, **reply.headers}, body, reply)

    def _send(self, status: int, headers: dict[str, str], body: bytes, reply: Reply) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        cuts = [cut for cut in (reply.drop_after, reply.stall_after) if cut is not None]
        body = body[: min(cuts)] if cuts else body
        step = reply.drip or len(body) or 1
        try:
            for start in range(0, len(body), step):
                self.wfile.write(body[start : start + step])
                self.wfile.flush()
                self.owner.closing.wait(0.01 if reply.drip else 0)
        except ConnectionError:  # the client has seen enough
            return
        if reply.stall_after is not None:
            self.owner.closing.wait(10)

    def log_message(self, *args: Any) -> None:
        """Keep the tests quiet."""


@contextmanager
def endless(head: bytes, piece: bytes, pause: float = 0) -> Iterator[tuple[str, list[int]]]:
    """Answer each connection with a head, then with a piece again and again; give the address and what was sent."""
    sent, closing = [], threading.Event()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            with suppress(OSError):
                self.wfile.write(head)
                while not closing.wait(pause):
                    self.wfile.write(piece)
                    sent.append(len(piece))

        def finish(self) -> None:
            with suppress(OSError):
                super().finish()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/x", sent
        finally:
            closing.set()
            server.shutdown()
            thread.join()


def refused_url(path: str) -> str:
    """Return a URL on this machine where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}{path}"
