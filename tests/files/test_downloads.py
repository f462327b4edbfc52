from __future__ import annotations

import hashlib
import os
import random
import re
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from servers import FileServer, Reply, refused_url
from torchvision.models import get_model_weights, list_models

from tlkit.files import downloads, resuming
from tlkit.files.downloads import FLOWER_PHOTOS, VGG16, DownloadError, Remote, fetch, home, weights_remote

CONTENT = random.Random(16).randbytes(500_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = f"vgg16-{DIGEST[:8]}.pth"
OTHER = random.Random(17).randbytes(len(CONTENT))


@pytest.fixture(autouse=True)
def _surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("TLKIT_MIRROR", raising=False)
    monkeypatch.delenv("TLKIT_OFFLINE", raising=False)
    monkeypatch.setattr(resuming, "BACK_OFF", 0.001)
    monkeypatch.setattr(resuming, "TIMEOUT", (5, 5))


@pytest.fixture
def server():
    with FileServer({f"/{NAME}": CONTENT}) as running:
        yield running


def remote_at(*urls: str, **changes) -> Remote:
    return Remote(
        **{"name": NAME, "urls": urls, "sha256": DIGEST, "size": len(CONTENT), "folder": "weights", **changes}
    )


@pytest.fixture
def remote(server):
    return remote_at(server.url(f"/{NAME}"))


def lying_there() -> set[str]:
    """Names of what is in the folder, but for the lock."""
    return {path.name for path in (home() / "weights").iterdir()} - {f"{NAME}.lock"}


def failure(remote: Remote) -> str:
    """Text of the error; asserts that nothing came to lie under the file's name."""
    with pytest.raises(DownloadError) as caught:
        fetch(remote, progress=False)
    assert not remote.path.exists()
    text = str(caught.value)
    assert all(url in text for url in remote.urls)
    assert f"save it as {remote.path}" in text
    return text


FINISHED = {NAME, f"{NAME}.sha256"}
PART = {f"{NAME}.{DIGEST[:8]}.part", f"{NAME}.{DIGEST[:8]}.part.json"}


# A transfer that works


def test_a_download_lands_under_its_name_with_the_right_bytes(server, remote, tmp_path):
    path = fetch(remote, progress=False)
    assert path == tmp_path / "home" / "weights" / NAME
    assert path.read_bytes() == CONTENT
    assert lying_there() == FINISHED
    assert server.requests[0][1]["Accept-Encoding"] == "identity"


def test_the_second_call_needs_no_server(remote, server):
    fetch(remote, progress=False)
    assert fetch(remote, progress=False).read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_the_second_call_does_not_hash_again_until_the_file_changes(remote, monkeypatch):
    path = fetch(remote, progress=False)
    hashed = []
    real = downloads.pooch.file_hash
    monkeypatch.setattr(downloads.pooch, "file_hash", lambda name, alg: hashed.append(name) or real(name, alg=alg))
    fetch(remote, progress=False)
    assert hashed == []
    os.utime(path, (1, 1))
    fetch(remote, progress=False)
    fetch(remote, progress=False)
    assert hashed == [str(path)]


def test_the_record_can_be_checked_with_sha256sum(remote):
    path = fetch(remote, progress=False)
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", f"{NAME}.sha256"], cwd=path.parent, capture_output=True
    )
    assert checked.returncode == 0, checked.stderr


def test_a_flipped_bit_on_the_disk_is_noticed_and_repaired(remote, server):
    path = fetch(remote, progress=False)
    content = bytearray(CONTENT)
    content[1234] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="wrong content: sha256"):
        fetch(remote, progress=False)
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == 2


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
    assert "redirects" in failure(remote)


def test_a_server_without_content_length_will_do(server, remote):
    server.default = Reply(length=False)
    assert fetch(remote, progress=False).read_bytes() == CONTENT


def test_content_that_the_server_calls_gzip_is_stored_as_it_is(server, remote):
    server.default = Reply(headers={"Content-Encoding": "gzip"})
    assert fetch(remote, progress=False).read_bytes() == CONTENT


def test_the_second_address_is_tried_and_the_first_one_named(server, remote):
    with pytest.warns(UserWarning, match=rf"{NAME} came from .*\n.*missing: 404 Not Found"):
        path = fetch(remote_at(server.url("/missing"), *remote.urls), progress=False)
    assert path.read_bytes() == CONTENT


def test_two_threads_share_one_download(server, remote):
    server.default = Reply(stall_after=len(CONTENT) // 2)  # holds the first thread until the server lets go
    server.script = []
    paths = []
    threads = [threading.Thread(target=lambda: paths.append(fetch(remote, progress=False))) for _ in range(2)]
    threads[0].start()
    while not server.requests:
        time.sleep(0.01)
    server.default = Reply()
    threads[1].start()
    time.sleep(0.1)
    server.closing.set()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() for path in paths] == [CONTENT, CONTENT]
    assert sorted(headers.get("Range", "") for _, headers in server.requests) == ["", f"bytes={len(CONTENT) // 2}-"]


@pytest.mark.slow
def test_processes_share_one_download(server, remote):
    code = f"from tlkit.files.downloads import *; fetch(Remote({NAME!r}, {remote.urls}, {DIGEST!r}), progress=False)"
    started = [subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2]) for _ in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    assert len(server.requests) == 1


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


def test_a_slow_drip_is_waited_for(server, remote, monkeypatch):
    monkeypatch.setattr(resuming, "TIMEOUT", (5, 0.5))  # between two arrivals, not for the whole
    server.default = Reply(drip=4_000)
    assert fetch(remote, progress=False).read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_the_little_that_came_before_a_stall_counts(server, remote, monkeypatch):
    monkeypatch.setattr(resuming, "TIMEOUT", (5, 0.1))
    server.default = Reply(stall_after=50_000, drip=10_000)  # less than many programs read at once
    assert fetch(remote, progress=False).read_bytes() == CONTENT
    assert resuming.TRIES < len(server.requests) < 15


def test_a_stalled_connection_is_dropped_and_resumed(server, remote, monkeypatch):
    monkeypatch.setattr(resuming, "TIMEOUT", (5, 0.5))
    server.script = [Reply(stall_after=1 << 17)]
    assert fetch(remote, progress=False).read_bytes() == CONTENT
    assert server.requests[1][1]["Range"] == f"bytes={1 << 17}-"


def test_a_server_that_stays_silent_is_given_up(server, remote, monkeypatch):
    monkeypatch.setattr(resuming, "TIMEOUT", (5, 0.05))
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
    assert fetch(remote, progress=False).read_bytes() == CONTENT
    assert server.requests[1][1]["Range"] == f"bytes={resuming.CHUNK}-"


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


# Files brought by hand, offline, mirrors


def test_a_file_brought_by_hand_is_accepted(server, remote):
    remote.path.parent.mkdir(parents=True)
    remote.path.write_bytes(CONTENT)
    assert fetch(remote, progress=False) == remote.path
    assert server.requests == []
    assert lying_there() == FINISHED


def test_a_file_in_a_read_only_folder_is_accepted(server, remote, monkeypatch):
    def refuse(path, digest):
        raise PermissionError

    remote.path.parent.mkdir(parents=True)
    remote.path.write_bytes(CONTENT)
    monkeypatch.setattr(downloads, "_write_record", refuse)
    assert fetch(remote, progress=False) == remote.path
    assert server.requests == []


@pytest.mark.parametrize("wrong", [OTHER, CONTENT[:-1], b""])
def test_a_wrong_file_brought_by_hand_is_replaced_and_named(remote, wrong):
    remote.path.parent.mkdir(parents=True)
    remote.path.write_bytes(wrong)
    with pytest.warns(UserWarning, match=rf"{NAME} came from http.*, since\n  {remote.path}: .* expected"):
        assert fetch(remote, progress=False).read_bytes() == CONTENT


def test_offline_never_asks_and_says_what_to_bring(server, remote, monkeypatch):
    monkeypatch.setenv("TLKIT_OFFLINE", "1")
    monkeypatch.setenv("TLKIT_MIRROR", server.url(""))
    text = failure(remote)
    assert f"{NAME} (500 kB) could not be fetched" in text
    assert "not tried, since TLKIT_OFFLINE=1" in text
    assert f"TLKIT_MIRROR={server.url('')}: not asked, since TLKIT_OFFLINE=1" in text
    assert f"its sha256 is {DIGEST}" in text
    assert server.requests == []


def test_offline_takes_what_lies_there_and_refuses_what_is_wrong(remote, monkeypatch):
    monkeypatch.setenv("TLKIT_OFFLINE", "1")
    remote.path.parent.mkdir(parents=True)
    remote.path.write_bytes(CONTENT[:-1])
    with pytest.raises(DownloadError, match="499,999 bytes, expected 500,000"):
        fetch(remote, progress=False)
    assert remote.path.read_bytes() == CONTENT[:-1]  # the user's file stays
    remote.path.write_bytes(CONTENT)
    assert fetch(remote, progress=False) == remote.path


@pytest.mark.parametrize("value", ["", "0", "false", "No"])
def test_offline_can_be_switched_off(remote, monkeypatch, value):
    monkeypatch.setenv("TLKIT_OFFLINE", value)
    assert fetch(remote, progress=False).read_bytes() == CONTENT


@pytest.mark.parametrize("place", [NAME, f"weights/{NAME}"])
@pytest.mark.parametrize("offline", ["0", "1"])
def test_a_mirror_folder_comes_first(server, remote, tmp_path, monkeypatch, place, offline):
    file = tmp_path / "stick" / place
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    monkeypatch.setenv("TLKIT_MIRROR", str(tmp_path / "stick"))
    monkeypatch.setenv("TLKIT_OFFLINE", offline)
    assert fetch(remote, progress=False).read_bytes() == CONTENT
    assert file.read_bytes() == CONTENT
    assert server.requests == []
    assert lying_there() == FINISHED


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("place", [NAME, f"weights/{NAME}"])
def test_a_mirror_url_comes_first(server, remote, monkeypatch, place):
    with FileServer({f"/class/{place}": CONTENT}) as mirror:
        monkeypatch.setenv("TLKIT_MIRROR", mirror.url("/class/"))
        assert fetch(remote, progress=False).read_bytes() == CONTENT
    assert server.requests == []


def test_another_home_served_as_it_is_makes_a_mirror(remote, tmp_path, monkeypatch):
    source = fetch(remote, progress=False)
    port = int(refused_url("").rpartition(":")[2])
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", source.parents[1]]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("TLKIT_HOME", str(tmp_path / "pupil"))
        monkeypatch.setenv("TLKIT_MIRROR", f"http://127.0.0.1:{port}")
        monkeypatch.setattr(resuming, "BACK_OFF", 0.3)  # until it listens
        assert fetch(remote_at(refused_url("/x")), progress=False).read_bytes() == CONTENT
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("kind", ["folder", "url"])
@pytest.mark.parametrize("content", [OTHER, None])
def test_a_mirror_that_fails_is_named_and_the_address_used(remote, tmp_path, monkeypatch, kind, content):
    files = {} if content is None else {NAME: content}
    for name, wrong in files.items():
        (tmp_path / name).write_bytes(wrong)
    with FileServer({f"/{name}": wrong for name, wrong in files.items()}) as mirror:
        monkeypatch.setenv("TLKIT_MIRROR", str(tmp_path) if kind == "folder" else mirror.url(""))
        with pytest.warns(UserWarning, match="wrong content" if content else "404|No such file"):
            assert fetch(remote, progress=False).read_bytes() == CONTENT
    assert lying_there() == FINISHED


def test_a_mirror_that_is_silent_is_tried_under_one_name_only(remote, monkeypatch):
    pauses = []
    monkeypatch.setattr(resuming.time, "sleep", pauses.append)
    monkeypatch.setenv("TLKIT_MIRROR", refused_url(""))
    with pytest.warns(
        UserWarning, match=rf"since\n  http\S+/{NAME}: no connection \(Connection refused\) \(5 tries\)$"
    ):
        assert fetch(remote, progress=False).read_bytes() == CONTENT
    assert len(pauses) == resuming.TRIES - 1


def test_a_mirror_without_http_is_named_and_the_address_used(remote, monkeypatch):
    monkeypatch.setenv("TLKIT_MIRROR", "192.168.1.5:8765")
    sentence = "TLKIT_MIRROR=192.168.1.5:8765: there is no such folder, and an address begins with http:// or https://"
    with pytest.warns(UserWarning, match=sentence):
        assert fetch(remote, progress=False).read_bytes() == CONTENT


@pytest.mark.parametrize("form", ['"{}"', " {} ", "'{}/'"])
def test_quotation_marks_around_a_mirror_do_no_harm(server, remote, monkeypatch, form):
    with FileServer({f"/{NAME}": CONTENT}) as mirror:
        monkeypatch.setenv("TLKIT_MIRROR", form.format(mirror.url("")))
        fetch(remote, progress=False)
    assert len(mirror.requests) == 1
    assert server.requests == []


# Hashes of which only the beginning is published


def test_a_shortened_hash_is_completed_by_the_first_download(server, remote):
    short = remote_at(*remote.urls, sha256=DIGEST[:8], size=None)
    path = fetch(short, progress=False)
    assert DIGEST in path.with_name(f"{NAME}.sha256").read_text()
    # From now on a file that only shares the beginning of the hash is refused.
    record = path.with_name(f"{NAME}.sha256")
    record.write_text(record.read_text().replace(DIGEST, DIGEST[:8] + "0" * 56))
    path.unlink()
    assert f"expected {DIGEST[:8]}{'0' * 56}" in failure(short)


def test_a_shortened_hash_is_checked(server, remote):
    short = remote_at(*remote.urls, sha256="0" * 8, size=None)
    assert f"sha256 {DIGEST}, expected 00000000..." in failure(short)
    assert lying_there() == set()


def test_the_record_of_another_file_of_the_same_name_is_not_believed(server, remote):
    path = fetch(remote, progress=False)
    newer = remote_at(*remote.urls, sha256=hashlib.sha256(OTHER).hexdigest())
    server.files[f"/{NAME}"] = OTHER
    with pytest.warns(UserWarning, match="wrong content"):
        assert fetch(newer, progress=False).read_bytes() == OTHER
    assert path.read_bytes() == OTHER


@pytest.mark.parametrize("garbage", ["", "x", "a b\n# 1", "\n\n", "é\n# {}", f"{DIGEST}  x\n# [1"])
def test_a_garbled_record_is_ignored(remote, server, garbage):
    path = fetch(remote, progress=False)
    path.with_name(f"{NAME}.sha256").write_text(garbage, encoding="utf-8")
    assert fetch(remote, progress=False) == path
    assert len(server.requests) == 1


@pytest.mark.parametrize("wrong", ["", "1234567", DIGEST.upper(), DIGEST + "0"])
def test_a_malformed_hash_is_refused(wrong):
    with pytest.raises(ValueError, match="expected 8 to 64 lower-case hexadecimal digits"):
        remote_at("http://127.0.0.1/x", sha256=wrong)


# The registry


def test_every_torchvision_weight_has_a_hash():
    members = [member for name in list_models() for member in get_model_weights(name)]
    assert len(members) > 100
    for member in members:
        remote = weights_remote(member)
        assert remote.urls == (member.url,)
        assert remote.name.endswith((f"{remote.sha256}.pth", f"{remote.sha256[:8]}.pth"))
        assert remote.folder == "weights"


def test_a_size_that_is_not_published_exactly_is_said_to_be_about_that():
    remote = weights_remote(get_model_weights("resnet18").DEFAULT)
    assert remote.size is None
    assert remote.size_in_words == "about 46.8 MB"
    assert VGG16.size_in_words == "553 MB"
    assert "(about 46.8 MB) could not be fetched" in failure(
        Remote("resnet18.pth", (refused_url("/x"),), remote.sha256, about=remote.about)
    )
    assert Remote("x", ("http://127.0.0.1/x",), "0" * 8).size_in_words == "size unknown"


def test_a_weight_without_a_hash_in_its_name_is_refused():
    class Weights:
        url = "https://127.0.0.1/models/net.pth?download=1"

    with pytest.raises(ValueError, match=r"has no hash .* expected NAME-HASH\.pth"):
        weights_remote(Weights)


def test_what_is_known_in_full():
    assert len(VGG16.sha256) == len(FLOWER_PHOTOS.sha256) == 64
    assert VGG16.size == 553_433_881
    assert FLOWER_PHOTOS.size == 228_813_984
    assert FLOWER_PHOTOS.urls[0].startswith("https://")


def test_home_follows_the_environment(monkeypatch, tmp_path):
    assert home() == tmp_path / "home"
    monkeypatch.setenv("TLKIT_HOME", "~/lessons")
    assert home() == Path.home() / "lessons"
    monkeypatch.delenv("TLKIT_HOME")
    assert home().name == "tlkit"
    assert home().is_absolute()
