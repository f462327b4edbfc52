from __future__ import annotations

import hashlib
import http.client
import random
import socket
import threading
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import refused_url

from tlkit.files import downloads
from tlkit.files.downloads import Remote
from tlkit.files.mirror import Mirror, own_addresses

CONTENT = random.Random(5).randbytes(400_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
PHOTOS = Remote("photos.tgz", (refused_url("/photos.tgz"),), DIGEST, len(CONTENT), folder="images")
ABSENT = Remote("absent.pth", (refused_url("/absent.pth"),), "0" * 64, folder="weights")
PLACES = ("/photos.tgz", "/images/photos.tgz")


class Running(Mirror):
    """A mirror in a thread; keeps what it told."""

    def __init__(self, *remotes: Remote) -> None:
        self.told = []
        super().__init__(remotes, host="127.0.0.1", report=self.told.append)

    def __enter__(self) -> Running:
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        return super().__enter__()

    def __exit__(self, *exception: object) -> None:
        self.shutdown()
        self._thread.join()
        super().__exit__(*exception)

    def said(self, count: int) -> list:
        """What was told, once there are so many: a client has its last byte before that is noted."""
        deadline = time.monotonic() + 10
        while len(self.told) < count and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.told


@pytest.fixture(autouse=True)
def _surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_HOME", str(tmp_path / "home"))


@pytest.fixture
def mirror():
    PHOTOS.path.parent.mkdir(parents=True)
    PHOTOS.path.write_bytes(CONTENT)
    with Running(PHOTOS, ABSENT) as running:
        yield running


def ask(mirror: Mirror, place: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", mirror.server_port, timeout=10)
    connection.putrequest(method, place, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, dict(answer.headers), answer.read()
    connection.close()
    return found


def send(mirror: Mirror, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", mirror.server_port), timeout=10) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(1 << 16), b""))


# What it gives


@pytest.mark.parametrize("place", [*PLACES, "/photos.tgz?x=1"])
def test_a_file_comes_whole_under_its_name_and_in_its_folder(mirror, place):
    status, headers, content = ask(mirror, place)
    assert (status, content) == (200, CONTENT)
    assert headers["Content-Length"] == str(len(CONTENT))
    assert headers["ETag"] == f'"{DIGEST}"'
    assert headers["Accept-Ranges"] == "bytes"
    assert "Python" not in headers["Server"]


def test_only_the_head_comes_for_head(mirror):
    _, headers, content = ask(mirror, "/photos.tgz", "HEAD")
    assert headers["Content-Length"] == str(len(CONTENT))
    assert content == b""
    assert mirror.told == []


def test_the_list_has_what_is_there_in_the_format_of_sha256sum(mirror):
    assert ask(mirror, "/")[2] == f"{DIGEST}  photos.tgz\n".encode()
    assert mirror.present() == {"photos.tgz": DIGEST}


near_the_end = st.integers(len(CONTENT) - 50, len(CONTENT) + 50)
edges = st.none() | st.integers(0, 50) | near_the_end | st.integers(10**17, 10**18 - 1)


@pytest.mark.slow
def test_every_range_is_what_http_says(mirror):
    @given(edges, edges)
    def check(first, last):
        span = "-".join("" if edge is None else str(edge) for edge in (first, last))
        status, headers, content = ask(mirror, "/photos.tgz", Range=f"bytes={span}")
        if first is None:
            wanted = CONTENT if last is None else CONTENT[-last:] if last else b""
        elif last is None:
            wanted = CONTENT[first:]
        else:
            wanted = CONTENT if last < first else CONTENT[first : last + 1]
        if status == 416:
            assert wanted == b""
            assert headers["Content-Range"] == f"bytes */{len(CONTENT)}"
        else:
            assert content == wanted != b""
            assert (status == 206) == (content != CONTENT) == ("Content-Range" in headers)
        if status == 206:
            start, end = headers["Content-Range"].removeprefix("bytes ").partition("/")[0].split("-")
            assert content == CONTENT[int(start) : int(end) + 1]

    check()


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,5-6", "bytes=", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=1", "x" * 9000]
)
def test_what_is_no_single_range_gets_the_whole(mirror, asked):
    assert ask(mirror, "/photos.tgz", Range=asked)[::2] == (200, CONTENT)


def test_a_range_of_another_version_gets_the_whole(mirror):
    assert ask(mirror, "/photos.tgz", Range="bytes=9-", If_Range='"old"')[::2] == (200, CONTENT)
    assert ask(mirror, "/photos.tgz", Range="bytes=9-", If_Range=f'"{DIGEST}"')[::2] == (206, CONTENT[9:])


def test_a_file_that_comes_later_is_given_too(mirror):
    late = Remote("late.pth", ("http://127.0.0.1/x",), DIGEST[:8], folder="weights")
    mirror.remotes[late.name] = late
    assert ask(mirror, "/late.pth")[0] == 404
    late.path.parent.mkdir()
    late.path.write_bytes(CONTENT)
    assert ask(mirror, "/late.pth")[2] == CONTENT


# What it does not give


def attempts() -> list[str]:
    names = [
        "/../secret", "/images/../../secret", "/images/../images/photos.tgz", "/./photos.tgz",
        "/%2e%2e/secret", "/..%2fsecret", "/images%2fphotos.tgz", "/%70hotos.tgz", "/images\\..\\..\\secret",
        "/photos.tgz/", "/photos.tgz%00", "/PHOTOS.TGZ", "/weights/photos.tgz", "/images/", "/images", "/home/secret",
        "/images/photos.tgz.sha256", "/images/mine.jpg", "/images/photos.tgz.lock", "/secret", "secret", "*",
        f"/{PHOTOS.part.name}", "/etc/passwd", "/file:///etc/passwd", "/~root/", "http://127.0.0.1/../../secret",
    ]  # fmt: skip
    return [*names, "/" + "../" * 500 + "etc/passwd", "/" + "a" * 60_000]


@pytest.mark.parametrize("place", attempts())
def test_no_request_leads_to_another_file(mirror, tmp_path, place):
    for file in ("secret", "home/secret", "home/images/mine.jpg", "home/images/photos.tgz.lock"):
        (tmp_path / file).write_bytes(b"gold")
    PHOTOS.part.write_bytes(b"gold")
    answer = send(mirror, f"GET {place} HTTP/1.0\r\n\r\n".encode("latin-1"))
    assert b"gold" not in answer
    assert b"root:" not in answer
    assert answer.startswith(b"HTTP/1.0 404")
    assert len(answer) < 1000


def test_a_link_in_the_place_of_a_file_gives_nothing_that_has_another_hash(mirror, tmp_path):
    (tmp_path / "secret").write_bytes(b"gold")
    PHOTOS.path.unlink()
    PHOTOS.path.symlink_to(tmp_path / "secret")
    assert ask(mirror, "/photos.tgz")[0] == 404
    assert ask(mirror, "/")[2] == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "COPY"])
def test_nothing_can_be_written(mirror, method):
    def lying():
        return {path: path.stat().st_mtime_ns for path in downloads.home().rglob("*")}

    ask(mirror, "/")  # notes the hash
    before = lying()
    assert ask(mirror, "/photos.tgz", method)[0] == 501
    assert lying() == before


def test_a_damaged_file_is_not_given_away_and_a_repaired_one_is(mirror):
    assert ask(mirror, "/photos.tgz")[0] == 200
    PHOTOS.path.write_bytes(CONTENT[:-1] + b"?")
    assert ask(mirror, "/photos.tgz")[0] == 404
    assert mirror.present() == {}
    PHOTOS.path.write_bytes(CONTENT)
    assert ask(mirror, "/photos.tgz")[2] == CONTENT


def test_a_file_that_is_replaced_while_it_is_hashed_is_not_given_away(mirror, monkeypatch):
    def replaced(remote):
        other = remote.path.with_name("other")
        other.write_bytes(CONTENT)
        other.replace(remote.path)
        return DIGEST

    monkeypatch.setattr("tlkit.files.mirror.verify", replaced)
    assert ask(mirror, "/photos.tgz")[0] == 404


@pytest.mark.parametrize(
    "request_", [b"", b"\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"x" * 70_000]
)
def test_garbage_is_survived_in_silence(mirror, capfd, request_):
    send(mirror, request_)
    send(mirror, b"GET / HTTP/1.0\r\n" + b"a: b\r\n" * 200 + b"\r\n")
    assert ask(mirror, "/photos.tgz")[0] == 200
    assert capfd.readouterr() == ("", "")


# Many at once


def test_thirty_clients_get_the_file_while_others_dawdle(mirror):
    silent = [socket.create_connection(("127.0.0.1", mirror.server_port)) for _ in range(5)]
    for client in silent[:2]:
        client.sendall(b"GET /photos.tgz HTTP/1.0\r\n\r\n")  # and take nothing
    answers = []
    clients = [threading.Thread(target=lambda: answers.append(ask(mirror, "/photos.tgz")[2])) for _ in range(30)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert answers == [CONTENT] * 30
    for client in silent:
        client.close()


def test_a_file_is_hashed_once_for_all_clients_also_in_a_read_only_folder(mirror, monkeypatch):
    def refuse(path, digest):
        raise PermissionError

    hashed, real = [], downloads.pooch.file_hash
    monkeypatch.setattr(downloads, "_write_record", refuse)
    monkeypatch.setattr(downloads.pooch, "file_hash", lambda name, alg: hashed.append(name) or real(name, alg=alg))
    clients = [threading.Thread(target=ask, args=(mirror, "/photos.tgz")) for _ in range(10)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert len(hashed) == 1


def test_more_clients_than_there_are_places_for_are_asked_to_come_again(mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(mirror, "_places", threading.Semaphore(1))
    with socket.create_connection(("127.0.0.1", mirror.server_port)) as first:
        while not mirror._ends:
            time.sleep(0.005)
        for _ in range(3):
            status, headers, _ = ask(mirror, "/photos.tgz")
            assert (status, headers["Retry-After"]) == (503, "5")
        first.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert first.recv(100).startswith(b"HTTP/1.0 200")
    while mirror._ends:
        time.sleep(0.005)
    assert ask(mirror, "/photos.tgz")[0] == 200


def test_who_asks_byte_by_byte_is_let_go(mirror, monkeypatch):
    monkeypatch.setattr("tlkit.files.mirror.PATIENCE", 0.1)
    with socket.create_connection(("127.0.0.1", mirror.server_port), timeout=10) as client, suppress(OSError):
        while True:
            client.sendall(b"x")
            time.sleep(0.01)


# What it tells


def test_each_delivery_is_told(mirror):
    ask(mirror, "/photos.tgz", Range="bytes=100000-")
    (first,) = mirror.said(1)  # it is told when the client has its answer already
    ask(mirror, "/absent.pth")
    ask(mirror, "/unknown")
    second = mirror.said(2)[1]
    assert (first.client, first.remote, first.count, first.outcome) == ("127.0.0.1", PHOTOS, 300_000, "done")
    assert (second.remote, second.count, second.outcome) == (ABSENT, 0, "absent")


@pytest.fixture
def large():
    """A file that the buffers between two machines don't take at once."""
    content = bytes(30_000_000)
    remote = Remote("large.pth", (refused_url("/x"),), hashlib.sha256(content).hexdigest(), len(content), "weights")
    remote.path.parent.mkdir(parents=True)
    remote.path.write_bytes(content)
    return remote


def test_a_client_that_goes_away_is_told_and_can_go_on(large):
    with Running(large) as mirror:
        with socket.create_connection(("127.0.0.1", mirror.server_port)) as client:
            client.sendall(b"GET /large.pth HTTP/1.0\r\n\r\n")
            client.recv(1000)
        (told,) = mirror.said(1)
        assert told.outcome == "broken"
        assert told.count < large.size
        assert len(ask(mirror, "/large.pth", Range="bytes=20000000-")[2]) == 10_000_000
        assert mirror.said(2)[1].count == 10_000_000


def test_a_client_that_takes_nothing_is_let_go(large, monkeypatch):
    monkeypatch.setattr("tlkit.files.mirror._Handler.timeout", 0.1)
    with Running(large) as mirror, socket.create_connection(("127.0.0.1", mirror.server_port)) as client:
        client.sendall(b"GET /large.pth HTTP/1.0\r\n\r\n")
        assert mirror.said(1)[0].outcome == "broken"


def test_a_client_that_takes_a_little_now_and_then_is_let_go(large, monkeypatch):
    monkeypatch.setattr("tlkit.files.mirror.PATIENCE", 0.1)
    monkeypatch.setattr("tlkit.files.mirror.SLOWEST", 1e9)
    with Running(large) as mirror, socket.create_connection(("127.0.0.1", mirror.server_port)) as client:
        client.sendall(b"GET /large.pth HTTP/1.0\r\n\r\n")
        while not mirror.told:
            client.recv(100)
            time.sleep(0.01)
        assert mirror.told[0].outcome == "broken"


def test_nothing_is_told_after_the_end(mirror):
    mirror.server_close()
    mirror.report("late")
    assert mirror.told == []


def test_own_addresses_lead_from_elsewhere_to_here():
    addresses = own_addresses()
    assert len(addresses) == len(set(addresses))
    for address in addresses:
        assert not address.startswith("127.")
        with socket.socket() as listening:
            listening.bind((address, 0))


def test_a_machine_without_a_network_has_no_addresses(monkeypatch):
    class Unreachable(socket.socket):
        def connect(self, address):
            raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "socket", Unreachable)
    monkeypatch.setattr(socket, "gethostbyname_ex", lambda name: (name, [], ["127.0.1.1"]))
    assert own_addresses() == []
