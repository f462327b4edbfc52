from __future__ import annotations

import re
import subprocess
import sys

import pytest
from command_line import run
from servers import Reply
from small_catalog import CONTENTS, TOOL, student

from tlkit.commands import catalog
from tlkit.files import downloads, resuming
from tlkit.files.downloads import home

pytestmark = pytest.mark.usefixtures("no_settings")


def row(said: str, name: str) -> str:
    return re.search(rf"^{name} .*", said, re.MULTILINE)[0]


def test_fetch_gets_and_verifies_what_is_named(internet, capsys):
    code, said, complaint = run(capsys, "fetch", "vgg16", "resnet18")
    assert (code, complaint) == (0, "")
    for name in ("vgg16", "resnet18"):
        file = catalog.find(name)
        assert file.path.read_bytes() == CONTENTS[name]
        assert f"{name}: fetching {file.name}, {file.size_in_words}\n" in said
        assert re.search(rf"^{name}: .* came in .* s, verified: {re.escape(str(file.path))}$", said, re.MULTILINE)
    assert not catalog.find("photos").path.exists()


def test_all_is_what_the_notebooks_can_use_and_more_may_be_named(internet, capsys):
    assert run(capsys, "fetch", "--all")[0] == 0
    assert [name for name in CONTENTS if catalog.find(name).path.exists()] == ["photos", "vgg16"]
    assert run(capsys, "fetch", "--all", "resnet18", "vgg16")[0] == 0
    assert len(internet.requests) == 3


def test_what_is_here_is_said_to_be_and_not_fetched_again(internet, capsys):
    run(capsys, "fetch", "vgg16")
    code, said, complaint = run(capsys, "fetch", "vgg16")
    assert (code, complaint) == (0, "")
    assert said == f"vgg16: here already, verified: {catalog.find('vgg16').path}\n"
    assert len(internet.requests) == 1


def test_a_fetch_that_broke_goes_on_where_it_was(internet, capsys):
    internet.script = [Reply(drop_after=1_000_000), *[Reply(status=500)] * resuming.TRIES]
    code, _, complaint = run(capsys, "fetch", "vgg16")
    assert code == 1
    assert "The 1,000,000 bytes that came are kept; the next call continues from there." in complaint
    assert row(run(capsys, "fetch")[1], "vgg16").endswith("no, but 1.0 MB of it: fetch goes on there")
    assert run(capsys, "fetch", "vgg16")[0] == 0
    assert internet.requests[-1][1]["Range"] == "bytes=1000000-"


@pytest.mark.slow
def test_a_fetch_that_was_killed_goes_on_where_it_was(internet, tmp_path):
    internet.script = [Reply(stall_after=1_000_000)]
    killed = subprocess.Popen([*TOOL, "fetch", "vgg16"], stdout=subprocess.DEVNULL)
    file = catalog.find("vgg16")
    while not file.part.is_file() or file.part.stat().st_size < 900_000:
        assert killed.poll() is None
    killed.kill()
    killed.wait()
    assert not file.path.exists()
    done = student(home(), "", "fetch", "vgg16")
    assert (done.returncode, done.stderr) == (0, "")
    assert file.path.read_bytes() == CONTENTS["vgg16"]
    assert int(re.fullmatch("bytes=([0-9]+)-", internet.requests[1][1]["Range"])[1]) >= 900_000


def test_one_that_does_not_come_is_told_of_in_full_and_the_others_come(internet, capsys):
    file = catalog.find("photos")
    del internet.files[f"/{file.name}"]
    code, _, complaint = run(capsys, "fetch", "photos", "vgg16")
    assert code == 1
    assert catalog.find("vgg16").path.exists()
    assert complaint.splitlines() == [
        f"photos: {file.name} (700 kB) could not be fetched:",
        f"  {file.urls[0]}: 404 Not Found",
        f"To bring it by hand, download {file.urls[0]} and save it as {file.path} (its sha256 is {file.sha256}).",
        "1 of 2 files did not come. Run the same command again to go on.",
    ]


def test_a_file_that_is_wrong_here_is_replaced_and_said_to_have_been(internet, capsys):
    file = catalog.find("vgg16")
    file.path.parent.mkdir(parents=True)
    file.path.write_bytes(b"<html>Please log in</html>")
    assert "no: 26 bytes, expected 1,500,000" in row(run(capsys, "fetch")[1], "vgg16")
    code, _, complaint = run(capsys, "fetch", "vgg16")
    assert code == 0
    assert complaint.startswith("Warning: ")
    assert file.path.read_bytes() == CONTENTS["vgg16"]


def test_offline_it_says_at_once_what_to_bring(internet, capsys, monkeypatch):
    monkeypatch.setenv("TLKIT_OFFLINE", "1")
    code, _, complaint = run(capsys, "fetch", "--all")
    assert code == 1
    assert complaint.count("not tried, since TLKIT_OFFLINE=1") == complaint.count("To bring it by hand, ") == 2
    assert internet.requests == []


def test_without_names_it_says_what_there_is_and_asks_nobody(internet, capsys):
    run(capsys, "fetch", "photos", "resnet18")
    internet.requests.clear()
    code, said, complaint = run(capsys, "fetch")
    assert (code, complaint) == (0, "")
    assert re.fullmatch(r"photos +700 kB +photos of five kinds of flowers +yes, verified", row(said, "photos"))
    assert re.fullmatch(r"vgg16 +1\.5 MB +ImageNet weights of vgg16 +no", row(said, "vgg16"))
    assert re.fullmatch(r"resnet18 +about 310 kB +ImageNet weights of resnet18 +yes, verified", row(said, "resnet18"))
    assert "The notebooks' defaults, 'drawn', 'efficientnet_lite0' and 'efficientnet_lite1', need no download." in said
    assert f"All is kept in {home()}, where " in said
    assert internet.requests == []


def test_the_list_knows_the_settings_that_matter(internet, capsys, monkeypatch):
    assert "is set" not in run(capsys, "fetch")[1]
    monkeypatch.setenv("TLKIT_MIRROR", "http://me:secret@10.0.0.1:8765")
    assert "TLKIT_MIRROR=http://...@10.0.0.1:8765 is set." in run(capsys, "fetch")[1]


def test_the_list_is_given_without_loading_torch(tmp_path):
    code = "import sys; from tlkit.commands import main; main(['fetch']); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


@pytest.mark.parametrize("name", catalog.WITHOUT_DOWNLOAD)
def test_what_needs_no_download_is_no_mistake(internet, capsys, name):
    code, said, complaint = run(capsys, "fetch", name)
    assert (code, complaint) == (0, "")
    assert said == f"{name}: nothing to fetch, {catalog.WITHOUT_DOWNLOAD[name]}\n"


def test_names_are_looked_at_before_anything_is_fetched(internet, capsys):
    code, _, complaint = run(capsys, "fetch", "photos", "vgg61")
    assert code == 1
    assert complaint.startswith(
        "python -m tlkit fetch: There is nothing to fetch by the name 'vgg61'. Did you mean 'vgg16'?"
    )
    assert internet.requests == []


def test_ctrl_c_keeps_what_has_come(internet, capsys, monkeypatch):
    def stop(remote, progress):
        raise KeyboardInterrupt

    monkeypatch.setattr(downloads, "fetch", stop)
    assert run(capsys, "fetch", "vgg16")[0] == 130
