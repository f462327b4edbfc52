from __future__ import annotations

import gzip
import re
import tracemalloc
from contextlib import suppress

import pytest
import requests
import urllib3
from servers import FileServer, Reply, endless
from transfers import CONTENT, NAME, failure, remote_at

from tlkit.errors import printable
from tlkit.files.downloads import fetch
from tlkit.files.web import open_answer, read_some

pytestmark = pytest.mark.usefixtures("transfers")


@pytest.fixture
def server():
    with FileServer({f"/{NAME}": CONTENT}) as running:
        yield running


def test_redirects_are_followed(server, remote):
    server.script = [Reply(status=302, headers={"Location": f"/{NAME}"})]
    server.files["/latest"] = b""
    assert fetch(remote_at(server.url("/latest")), progress=False).read_bytes() == CONTENT


def test_a_redirected_transfer_goes_on_where_it_stopped(server, remote):
    with FileServer({"/latest": b""}) as first:
        first.default = Reply(status=302, headers={"Location": server.url(f"/{NAME}")})
        server.script = [Reply(drop_after=200_000)]
        assert fetch(remote_at(first.url("/latest")), progress=False).read_bytes() == CONTENT
    assert [headers.get("Range") for _, headers in server.requests] == [None, "bytes=200000-"]


def test_redirects_in_a_circle_end_in_a_sentence(server, remote):
    server.default = Reply(status=302, headers={"Location": f"/{NAME}"})
    assert "more than 5 redirects" in failure(remote)
    assert len(server.requests) == 6


@pytest.mark.parametrize(
    "place", ["http://[::1", "ftp://127.0.0.1/x", "file:///etc/passwd", "data:,x", "//[", "ftp://\x1b[31m"]
)
def test_a_redirect_to_no_address_is_a_sentence_and_the_next_source_is_asked(server, remote, place):
    server.script = [Reply(status=301, headers={"Location": place})]
    sentence = f"301 leads to '{printable(place)}', expected an address with http:// or https://"
    with pytest.warns(UserWarning, match=re.escape(sentence)):
        assert fetch(remote_at(server.url(f"/{NAME}?first"), *remote.urls), progress=False).read_bytes() == CONTENT


def test_the_body_of_a_redirect_is_not_read(remote):
    head = f"HTTP/1.1 302 Found\r\nLocation: {remote.urls[0]}\r\nContent-Encoding: gzip\r\n\r\n".encode()
    with endless(head, gzip.compress(bytes(10_000_000))) as (url, _):
        tracemalloc.start()
        assert fetch(remote_at(url), progress=False).read_bytes() == CONTENT
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
        tracemalloc.stop()


@pytest.mark.parametrize("part", ["the head", "the body"])
def test_a_drip_is_cut_in_the_end(part):
    head = b"HTTP/1.1 200 OK\r\n" + b"\r\n" * (part == "the body")
    with (
        endless(head, b"x", 0.01) as (url, _),
        suppress(requests.RequestException, urllib3.exceptions.HTTPError),
        open_answer(url, {}, 0.2) as answer,
    ):
        while read_some(answer, 1000):
            pass
