"""One answer over HTTP from a server that nobody vouches for: in bounded time, not decoded, redirected by hand.

requests would read the body of a redirect whole, decode it, and wait as long as a byte comes now and then.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter

from tlkit.errors import printable

__all__ = ["TIMEOUT", "Failed", "open_answer", "read_some"]

TIMEOUT = (10, 30)  # seconds for the connection, and between two arrivals
MOST_REDIRECTS = 5
REDIRECTS = {301, 302, 303, 307, 308}


class Failed(Exception):
    """A source that will not do; the message says why."""


@contextmanager
def open_answer(url: str, headers: Mapping[str, str], seconds: float) -> Iterator[requests.Response]:
    """Ask for what lies at an address, or where that leads, and give the answer before its body is read.

    Parameters
    ----------
    url : str
        Where to ask.
    headers : mapping
        What to ask with.
    seconds : float
        The connections are cut after so long, whatever still comes.

    Raises
    ------
    Failed
        When it leads to no address, or on and on.
    requests.RequestException, ValueError
        What requests raises for a connection or an address that will not do.
    """
    with _Session() as session:
        watch = threading.Timer(max(0, seconds), session.cut)
        watch.daemon = True
        watch.start()
        try:
            with _follow(session, url, {"Accept-Encoding": "identity", **headers}) as response:
                yield response
        finally:
            watch.cancel()


def read_some(response: requests.Response, most: int) -> bytes:
    """Return what has come of an answer's body, as it came: some servers call a .tgz "Content-Encoding: gzip"."""
    read = getattr(response.raw, "read1", response.raw.read)  # older versions of urllib3 wait for all of `most`
    return read(most, decode_content=False)


def _follow(session: requests.Session, url: str, headers: Mapping[str, str]) -> requests.Response:
    for _ in range(MOST_REDIRECTS + 1):
        response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT, allow_redirects=False)
        if response.status_code not in REDIRECTS or "Location" not in response.headers:
            return response
        response.close()  # without reading its body
        url = _next_address(url, response)
    msg = f"more than {MOST_REDIRECTS} redirects"
    raise Failed(msg)


def _next_address(url: str, response: requests.Response) -> str:
    place = response.headers["Location"]
    with suppress(ValueError):
        url = urljoin(url, place)
        if urlsplit(url).scheme in {"http", "https"}:
            return url
    msg = f"{response.status_code} leads to '{printable(place)}', expected an address with http:// or https://"
    raise Failed(msg)


class _Session(requests.Session):
    """Follows no redirect, and can cut its connections from another thread."""

    def __init__(self) -> None:
        super().__init__()
        self._sockets: list[socket.socket] = []
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(self._sockets))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Name no target: requests prepares the next request, and reads the body for that, even if told not to go."""

    def cut(self) -> None:
        for each in self._sockets:
            with suppress(OSError):  # it is closed already
                each.shutdown(socket.SHUT_RDWR)


class _Adapter(HTTPAdapter):
    """Notes the sockets of its connections."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self._sockets = sockets
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self._watch(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        self._watch(manager)
        return manager

    def _watch(self, manager: Any) -> None:
        pools = manager.pool_classes_by_scheme
        manager.pool_classes_by_scheme = {scheme: _watched(pool, self._sockets) for scheme, pool in pools.items()}


def _watched(pool: Any, sockets: list[socket.socket]) -> Any:
    """Return a kind of connection pool that notes the sockets of its connections."""

    class Connection(pool.ConnectionCls):
        def connect(self) -> None:
            super().connect()
            sockets.append(self.sock)

    class Pool(pool):
        ConnectionCls = Connection

    return Pool
