from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from servers import FileServer, Reply, refused_url
from torchvision.models import get_model_weights, list_models
from transfers import CONTENT, DIGEST, FINISHED, NAME, OTHER, failure, lying_there, remote_at

from tlkit.files import downloads, resuming
from tlkit.files.downloads import FLOWER_PHOTOS, VGG16, DownloadError, Remote, fetch, home, weights_remote

pytestmark = pytest.mark.usefixtures("transfers")


@pytest.fixture
def server():
    with FileServer({f"/{NAME}": CONTENT}) as running:
        yield running


# A transfer


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


@pytest.mark.slow
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


@pytest.mark.parametrize(
    "garbage", ["", "x", "a b\n# 1", "\n\n", "é\n# {}", f"{DIGEST}  x\n# [1", f"{DIGEST}  x\n# " + "[" * 100_000]
)
def test_a_garbled_record_is_ignored(remote, server, garbage):
    path = fetch(remote, progress=False)
    path.with_name(f"{NAME}.sha256").write_text(garbage, encoding="utf-8")
    assert fetch(remote, progress=False) == path
    assert len(server.requests) == 1


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
@pytest.mark.parametrize("place", [NAME, f"{NAME}.sha256", f"{NAME}.{DIGEST[:8]}.part.json"])
def test_a_looping_link_in_the_place_of_a_file_is_replaced(remote, place):
    remote.path.parent.mkdir(parents=True)
    remote.path.with_name(place).symlink_to(place)
    assert fetch(remote, progress=False).read_bytes() == CONTENT


def test_a_record_that_became_a_folder_costs_a_hash_only(remote, server):
    remote.path.with_name(f"{NAME}.sha256").mkdir(parents=True)
    for _ in range(2):
        assert fetch(remote, progress=False).read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_a_folder_in_the_place_of_the_file_is_a_sentence(remote):
    (remote.path / "x").mkdir(parents=True)
    with pytest.raises(DownloadError, match=r"cannot be used: (Is a directory|Directory not empty|Access is denied)"):
        fetch(remote, progress=False)


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
