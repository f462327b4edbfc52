from __future__ import annotations

import hashlib
import random
import re
import tracemalloc
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from types import SimpleNamespace

import pytest
from servers import FileServer, Reply, endless, refused_url
from transfers import CONTENT, DIGEST, FINISHED, NAME, OTHER, PART, failure, lying_there, remote_at

from tlkit.files import downloads, resuming, web
from tlkit.files.downloads import DownloadError, fetch

pytestmark = pytest.mark.usefixtures("transfers")


@pytest.fixture
def server():
    with FileServer({f"/{NAME}": CONTENT}) as running:
        yield running


# A transfer that works


def test_a_bar_counts_the_bytes_over_several_connections(server, remote, monkeypatch, capsys):
    closed = []

    class Recorder(resuming.bar(False, "").__class__):
        def close(self):
            closed.append((self.desc, self.initial, self.n, self.total))
            super().close()

    monkeypatch.setattr("tqdm.auto.tqdm", Recorder)
    server.script = [Reply(drop_after=200_000)]
    fetch(remote)
    assert (NAME, 0, 200_000, 500_000) in closed
    assert (NAME, 200_000, 500_000, 500_000) in closed
    shown = capsys.readouterr().err
    assert NAME in shown
    assert "next try in 0 s" in shown


def test_no_bar_when_none_is_wanted(remote, capsys):
    fetch(remote, progress=False)
    assert capsys.readouterr() == ("", "")


def test_a_server_without_content_length_will_do(server, remote):
    server.default = Reply(length=False)
    assert fetch(remote, progress=False).read_bytes() == CONTENT


def test_content_that_the_server_calls_gzip_is_stored_as_it_is(server, remote):
    server.default = Reply(headers={"Content-Encoding": "gzip"})
    assert fetch(remote, progress=False).read_bytes() == CONTENT


# A transfer that breaks


def test_a_broken_transfer_goes_on_where_it_stopped(server, remote):
    server.script = [Reply(drop_after=200_000), Reply(drop_after=100_000)]
    assert fetch(remote, progress=False).read_bytes() == CONTENT
    assert [headers.get("Range") for _, headers in server.requests] == [None, "bytes=200000-", "bytes=300000-"]
    assert lying_there() == FINISHED


def test_many_breaks_are_survived_as_long_as_each_try_brings_something(server, remote):
    server.default = Reply(drop_after=30_000)
    assert fetch(remote, progress=False).read_bytes() == CONTENT
    assert len(server.requests) == 17 > resuming.TRIES


def test_a_later_call_continues_the_part_of_an_earlier_one(server, remote):
    server.script = [Reply(drop_after=200_000), *[Reply(status=500)] * resuming.TRIES]
    text = failure(remote)
    assert "500 Internal Server Error" in text
    assert "The 200,000 bytes that came are kept; the next call continues from there." in text
    assert lying_there() == PART
    server.requests.clear()
    assert fetch(remote, progress=False).read_bytes() == CONTENT
    assert server.requests[0][1]["Range"] == "bytes=200000-"
    assert server.requests[0][1]["If-Range"].startswith('"')
    assert lying_there() == FINISHED


def test_a_server_that_always_breaks_and_cannot_resume_is_given_up(server, remote):
    server.default = Reply(drop_after=200_000, ranges=False)
    text = failure(remote)
    assert re.search(r"the connection (broke|ended) after 200,000 of 500,000 bytes \(5 tries\)", text)
    assert len(server.requests) == resuming.TRIES
    assert lying_there() == PART


def test_a_server_that_ignores_range_is_read_from_the_start(server, remote):
    server.script = [Reply(drop_after=200_000)]
    server.default = Reply(ranges=False)
    assert fetch(remote, progress=False).read_bytes() == CONTENT


def test_a_short_body_without_a_length_is_noticed(server, remote):
    server.script = [Reply(drop_after=200_000, length=False)]
    assert fetch(remote, progress=False).read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_a_length_below_the_real_one_never_passes(server, remote):
    server.default = Reply(headers={"Content-Length": "400000"})
    assert "the server's file has 400,000 bytes, expected 500,000" in failure(remote)
    assert "wrong content: sha256" in failure(remote_at(*remote.urls, size=None))
    assert lying_there() == set()


def test_a_length_above_the_real_one_is_refused_or_found_out(server, remote):
    server.default = Reply(headers={"Content-Length": "600000"})
    assert "the server's file has 600,000 bytes, expected 500,000" in failure(remote)
    server.requests.clear()
    assert fetch(remote_at(*remote.urls, size=None), progress=False).read_bytes() == CONTENT
    assert [headers.get("Range") for _, headers in server.requests] == [None, f"bytes={len(CONTENT)}-"]


def test_another_range_than_the_one_asked_for_is_not_appended(server, remote):
    server.script = [Reply(drop_after=200_000), Reply(headers={"Content-Range": f"bytes 100000-499999/{len(CONTENT)}"})]
    assert fetch(remote, progress=False).read_bytes() == CONTENT
    assert [headers.get("Range") for _, headers in server.requests] == [None, "bytes=200000-", None]


def test_a_short_body_of_unknown_size_never_passes(server, remote):
    server.default = Reply(drop_after=200_000, length=False, ranges=False)
    assert "wrong content: sha256" in failure(remote_at(*remote.urls, size=None))
    assert lying_there() == set()


def test_a_file_that_changed_on_the_server_is_started_anew(server, remote):
    server.script = [Reply(drop_after=200_000, body=OTHER, etag='"old"')]
    assert fetch(remote, progress=False).read_bytes() == CONTENT
    assert server.requests[1][1]["If-Range"] == '"old"'
    assert len(server.requests) == 2


@pytest.mark.parametrize("etag", ['"old"', ""])
def test_a_changed_file_behind_a_server_that_ignores_if_range_is_started_anew(server, remote, etag):
    server.script = [Reply(drop_after=200_000, body=OTHER, etag=etag), Reply(drop_after=100_000, if_range=False)]
    assert fetch(remote, progress=False).read_bytes() == CONTENT
    ranges = [headers.get("Range") for _, headers in server.requests]
    # Without an ETag only the hash, at the end, can tell.
    assert ranges == [None, "bytes=200000-", None] if etag else [None, "bytes=200000-", "bytes=300000-", None]


def test_a_weak_etag_is_not_used_for_resuming_but_the_time_is(server, remote):
    server.default = Reply(drop_after=200_000, etag='W/"1"')
    server.script = [
        Reply(drop_after=200_000, etag='W/"1"', headers={"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"})
    ]
    fetch(remote, progress=False)
    asked = [headers.get("If-Range") for _, headers in server.requests]
    assert asked == [None, "Mon, 01 Jan 2024 00:00:00 GMT", None, None]


def test_another_address_continues_the_part(server, remote):
    server.script = [Reply(drop_after=200_000), Reply(status=404)]
    with pytest.warns(UserWarning, match="404 Not Found"):
        fetch(remote_at(server.url(f"/{NAME}?first"), *remote.urls), progress=False)
    headers = server.requests[-1][1]
    assert headers["Range"] == "bytes=200000-"
    assert "If-Range" not in headers  # its ETags need not be those of the first


def test_a_damaged_part_costs_one_more_try(server, remote):
    remote.path.parent.mkdir(parents=True)
    part = remote.path.with_name(f"{NAME}.{DIGEST[:8]}.part")
    for damaged in (OTHER[:1000], OTHER, OTHER + OTHER):
        part.write_bytes(damaged)
        assert fetch(remote, progress=False).read_bytes() == CONTENT
        assert lying_there() == FINISHED
        remote.path.unlink()


def test_a_complete_part_is_published_without_a_transfer(server, remote):
    remote.path.parent.mkdir(parents=True)
    for size, requests in ((len(CONTENT), 0), (None, 1)):
        remote.path.with_name(f"{NAME}.{DIGEST[:8]}.part").write_bytes(CONTENT)
        server.requests.clear()
        assert fetch(remote_at(*remote.urls, size=size), progress=False).read_bytes() == CONTENT
        assert len(server.requests) == requests
        remote.path.unlink()


@pytest.mark.slow
def test_a_slow_drip_is_waited_for(server, remote, monkeypatch):
    monkeypatch.setattr(web, "TIMEOUT", (5, 0.5))  # between two arrivals, not for the whole
    server.default = Reply(drip=4_000)
    assert fetch(remote, progress=False).read_bytes() == CONTENT
    assert len(server.requests) == 1


@pytest.mark.slow
def test_the_little_that_came_before_a_stall_counts(server, remote, monkeypatch):
    monkeypatch.setattr(web, "TIMEOUT", (5, 0.1))
    server.default = Reply(stall_after=50_000, drip=10_000)  # less than many programs read at once
    assert fetch(remote, progress=False).read_bytes() == CONTENT
    assert resuming.TRIES < len(server.requests) < 15


@pytest.mark.slow
def test_a_stalled_connection_is_dropped_and_resumed(server, remote, monkeypatch):
    monkeypatch.setattr(web, "TIMEOUT", (5, 0.5))
    server.script = [Reply(stall_after=1 << 17)]
    assert fetch(remote, progress=False).read_bytes() == CONTENT
    assert server.requests[1][1]["Range"] == f"bytes={1 << 17}-"


def test_a_server_that_stays_silent_is_given_up(server, remote, monkeypatch):
    monkeypatch.setattr(web, "TIMEOUT", (5, 0.05))
    server.default = Reply(stall_after=0)
    assert "nothing came for 0.05 s after 0 of 500,000 bytes (5 tries)" in failure(remote)


def test_an_interrupt_keeps_the_part_and_releases_the_lock(server, remote, monkeypatch):
    class Impatient(resuming.bar(False, "").__class__):
        def update(self, n=1):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tqdm.auto.tqdm", Impatient)
        with pytest.raises(KeyboardInterrupt):
            fetch(remote, progress=False)
    assert lying_there() == PART
    assert 0 < (have := remote.part.stat().st_size) <= resuming.CHUNK
    assert fetch(remote, progress=False).read_bytes() == CONTENT
    assert server.requests[1][1]["Range"] == f"bytes={have}-"


# Servers that refuse, or offer something else


def test_a_wrong_hash_is_refused(server, remote):
    server.files[f"/{NAME}"] = OTHER
    wrong = hashlib.sha256(OTHER).hexdigest()
    assert f"wrong content: sha256 {wrong}, expected {DIGEST}" in failure(remote)
    assert len(server.requests) == 1
    assert lying_there() == set()


def test_a_wrong_length_is_refused_before_the_transfer(server, remote):
    server.files[f"/{NAME}"] = b"<html>Please log in to the hotel's network</html>"
    assert "the server's file has 49 bytes, expected 500,000" in failure(remote)
    assert lying_there() == set()


def test_404_is_said_at_once(server, remote):
    del server.files[f"/{NAME}"]
    assert "404 Not Found" in failure(remote)
    assert len(server.requests) == 1
    assert lying_there() == set()


def test_503_twice_is_waited_for(server, remote):
    server.script = [Reply(status=503), Reply(status=503)]
    assert fetch(remote, progress=False).read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_503_for_ever_is_given_up(server, remote):
    server.default = Reply(status=503)
    assert "503 Service Unavailable (5 tries)" in failure(remote)
    assert len(server.requests) == resuming.TRIES
    assert lying_there() == set()


def test_pauses_grow(server, remote, monkeypatch):
    pauses = []
    monkeypatch.setattr(resuming.time, "sleep", pauses.append)
    monkeypatch.setattr(resuming, "BACK_OFF", 0.5)
    server.default = Reply(status=503)
    failure(remote)
    assert len(pauses) == 4
    for pause, least in zip(pauses, (0.5, 1, 2, 4), strict=True):
        assert least <= pause <= 1.5 * least


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_respected(server, remote, monkeypatch, form):
    pauses = []
    monkeypatch.setattr(resuming.time, "sleep", pauses.append)
    later = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=30), usegmt=True)
    server.script = [Reply(status=429, headers={"Retry-After": "30" if form == "seconds" else later})]
    assert fetch(remote, progress=False).read_bytes() == CONTENT
    assert pauses == [pytest.approx(30, abs=3)]


def test_a_server_that_wants_a_long_wait_is_given_up(server, remote):
    server.default = Reply(status=429, headers={"Retry-After": "3600"})
    assert "429 Too Many Requests, to come back in 3600 s (1 try)" in failure(remote)
    assert len(server.requests) == 1


def test_no_network_is_said_in_the_systems_words():
    assert "no connection (Connection refused) (5 tries)" in failure(remote_at(refused_url("/a"), refused_url("/b")))
    assert lying_there() == set()


def test_a_malformed_address_is_a_sentence():
    assert "Invalid URL" in failure(remote_at("no-address"))


def test_a_full_disk_is_noticed_before_the_transfer(remote, monkeypatch):
    monkeypatch.setattr(resuming.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    assert "500,000 more bytes are needed, and 1,000 are free" in failure(remote)
    assert lying_there() == set()


def test_a_disk_that_fills_up_is_a_sentence(remote, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(resuming.os, "fsync", full)
    assert "cannot be used: No space left on device (TLKIT_HOME can name another folder)" in failure(remote)


def test_a_home_that_cannot_be_written_is_a_sentence(remote, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TLKIT_HOME", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match="cannot be used: Not a directory"):
        fetch(remote, progress=False)


# Servers that mean harm


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECE = bytes(50_000)


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", PIECE),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", PIECE),
        (CHUNKED, b"c350\r\n" + PIECE + b"\r\n"),
        (CHUNKED + b"-1\r\n", PIECE),
    ],
)
@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_body_without_end_stops_at_the_size(head, piece, size, monkeypatch):
    monkeypatch.setattr(downloads, "MOST", len(CONTENT))
    with endless(head, piece) as (url, sent):
        tracemalloc.start()
        assert "more than 500,000 bytes came, and no more are taken" in failure(remote_at(url, size=size))
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
        tracemalloc.stop()
        assert sum(sent) < 20_000_000  # what lies in the buffers between the two
    assert lying_there() == set()


def test_a_line_of_a_chunk_without_end_is_given_up(monkeypatch):
    with endless(CHUNKED, PIECE) as (url, sent):
        assert "the connection broke after 0 of 500,000 bytes" in failure(remote_at(url))
        assert sum(sent) < resuming.TRIES * 20_000_000


@pytest.mark.slow  # waits for a slow server
@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\n", CHUNKED + b"a\r\n"])
def test_a_drip_is_given_up_when_the_whole_takes_too_long(head, monkeypatch):
    monkeypatch.setattr(resuming, "AT_LEAST", 0.3)
    monkeypatch.setattr(resuming, "SLOWEST", 1e9)
    with endless(head, b"x", 0.01) as (url, _):
        assert "bytes, and no more is waited for" in failure(remote_at(url))


def test_a_stated_size_beyond_what_is_taken_is_refused(server, remote, monkeypatch):
    monkeypatch.setattr(downloads, "MOST", 1000)
    sentence = "the server's file has 500,000 bytes, and no more than 1,000 are taken"
    assert sentence in failure(remote_at(*remote.urls, size=None))
    assert sentence in failure(remote_at(*remote.urls, size=None, about=500))


@pytest.mark.parametrize("length", ["abc", "1" * 5000, "\xb2", "5, 5", "5\r\nContent-Length: 6", "-5", "+500000", ""])
def test_a_length_that_is_none_does_not_keep_the_next_source_from_being_asked(server, remote, length):
    server.script = [Reply(headers={"Content-Length": length})]
    with pytest.warns(UserWarning, match="Content-Length"):
        fetch(remote_at(server.url(f"/{NAME}?first"), *remote.urls), progress=False)


@pytest.mark.parametrize("wait", ["\xb2", "abc", "1" * 5000, "Mon, 01 Jan 99999999999 00:00:00 GMT", "-1", "1e9"])
def test_a_wait_that_is_none_is_no_wait(server, remote, monkeypatch, wait):
    pauses = []
    monkeypatch.setattr(resuming.time, "sleep", pauses.append)
    server.script = [Reply(status=503, headers={"Retry-After": wait})]
    assert fetch(remote, progress=False).read_bytes() == CONTENT
    assert max(pauses) < 1


def test_words_of_a_server_cannot_steer_the_terminal(server, remote):
    server.script = [Reply(headers={"Content-Length": "\x1b[31m"})]
    assert r"its Content-Length is '\x1b[31m', expected a number of bytes" in failure(remote)


def values(chance: random.Random) -> Iterator[str]:
    """Values of headers as no server should send them."""
    seeds = ["0", "500000", "bytes 0-499999/500000", "bytes */9", "http://[::1", "http://127.0.0.1:99999/", "gzip", "*"]
    pieces = ["\xb2", "9" * 5000, "-", "", "/", " ", ",", "\x1b", ":", "[", "%", "e5"]
    while True:
        text = list(chance.choice(seeds))
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(text) + 1)
            text[place : place + chance.randint(0, 3)] = chance.choice(pieces)
        yield "".join(text)


NAMES = (
    "Content-Length", "Content-Range", "Retry-After", "Location", "ETag", "Last-Modified", "Content-Encoding",
    "Transfer-Encoding", "Connection",
)  # fmt: skip


@pytest.mark.slow
def test_no_header_keeps_the_next_source_from_being_asked(server, remote, monkeypatch):
    monkeypatch.setattr(web, "TIMEOUT", (5, 0.2))
    monkeypatch.setattr(resuming, "TRIES", 2)
    monkeypatch.setattr(resuming.time, "sleep", lambda seconds: None)
    chance = random.Random(0)
    for value, status in zip(values(chance), [200, 206, 302, 307, 416, 429, 503] * 25, strict=False):
        headers = dict.fromkeys(chance.sample(NAMES, chance.randint(1, 3)), value)
        remote.path.unlink(missing_ok=True)
        remote.part.parent.mkdir(parents=True, exist_ok=True)
        remote.part.write_bytes(CONTENT[: chance.choice([0, 1000])])
        with FileServer({"/x": CONTENT}) as hostile, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            hostile.default = Reply(status=status, headers=headers)
            got = fetch(remote_at(hostile.url("/x"), *remote.urls), progress=False)
        assert got.read_bytes() == CONTENT, (status, headers)
