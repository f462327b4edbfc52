from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest
import small_catalog
from servers import FileServer, Reply, refused_url
from teacher import TOOL, Teacher

from tlkit.commands import catalog, main, serve
from tlkit.files import downloads, resuming
from tlkit.files.downloads import home

CONTENTS = small_catalog.CONTENTS


@pytest.fixture(autouse=True)
def _surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("TLKIT_MIRROR", raising=False)
    monkeypatch.delenv("TLKIT_OFFLINE", raising=False)
    monkeypatch.setattr(resuming, "BACK_OFF", 0.001)


@pytest.fixture
def internet(monkeypatch):
    """What stands for the internet: it has every file of the catalog, and these are small."""
    with FileServer() as server:
        files = small_catalog.use(server.url(""), monkeypatch.setattr)
        server.files = {f"/{file.name}": CONTENTS[name] for name, file in files.items()}
        monkeypatch.setenv("TLKIT_TEST_URL", server.url(""))
        yield server


def run(capsys, *words: str) -> tuple[int, str, str]:
    """Carry out a command in this process; return its exit code, and what it wrote to stdout and stderr."""
    capsys.readouterr()
    try:
        code = main(list(words))
    except SystemExit as error:
        code = error.code
    return code, *capsys.readouterr()


def row(said: str, name: str) -> str:
    return re.search(rf"^{name} .*", said, re.MULTILINE)[0]


# -- fetch ----------------------------------------------------------------------------------------------------------


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


# -- serve ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(["--port", "65536"], "'65536' is no port: 0 to 65535."), (["--port", "http"], "is no port")],
)
def test_a_port_is_a_number(words, sentence, capsys):
    code, _, complaint = run(capsys, "serve", *words)
    assert code == 2
    assert sentence in complaint


def test_without_files_there_is_nothing_to_serve(internet, capsys):
    code, said, complaint = run(capsys, "serve", "--host", "127.0.0.1", "--port", "0")
    assert (code, said) == (1, "")
    assert f"There is nothing to serve in {home()}. Fetch it first: python -m tlkit fetch --all" in complaint


def test_a_wrong_file_is_not_served_and_named(internet, capsys):
    file = catalog.find("resnet18")
    file.path.parent.mkdir(parents=True)
    file.path.write_bytes(b"x")
    code, _, complaint = run(capsys, "serve", "--host", "127.0.0.1", "--port", "0")
    assert code == 1
    assert f"Not served: {file.name}, wrong content: sha256 " in complaint
    assert "Fetch it: python -m tlkit fetch resnet18\n" in complaint


def test_a_taken_port_is_a_sentence(internet, capsys):
    port = internet.url("").rpartition(":")[2]
    code, _, complaint = run(capsys, "serve", "--host", "127.0.0.1", "--port", port)
    assert code == 1
    sentence = f"Port {port} is taken. Is this command running already? If not, choose another: --port 0"
    assert complaint == f"python -m tlkit serve: {sentence}\n"


def test_an_address_that_is_not_this_machines_is_a_sentence(internet, capsys):
    code, _, complaint = run(capsys, "serve", "--host", "192.0.2.77", "--port", "0")
    assert code == 1
    assert "This machine cannot listen on 192.0.2.77, port 0: " in complaint


def test_the_lines_to_set_name_every_address(capsys):
    serve._say_what_to_set(["192.168.1.5", "10.0.0.7"], 8765)
    said = capsys.readouterr().out
    for line in ("%env TLKIT_MIRROR={}", "export TLKIT_MIRROR={}", "set TLKIT_MIRROR={}", '$env:TLKIT_MIRROR = "{}"'):
        for url in ("http://192.168.1.5:8765", "http://10.0.0.7:8765"):
            assert line.format(url) in said
    serve._say_what_to_set([], 8765)
    assert "This machine is on no network." in capsys.readouterr().err


# -- the two together, each in a process of its own -----------------------------------------------------------------


@pytest.fixture
def teacher(internet, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setenv("TLKIT_HOME", str(tmp_path / "teacher"))
        assert run(capsys, "fetch", "--all")[0] == 0
    internet.requests.clear()
    running = Teacher(tmp_path / "teacher")
    yield running
    running.process.kill()
    running.process.wait()


def student(folder: Path, mirror: str, *words: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "TLKIT_HOME": str(folder), "TLKIT_MIRROR": mirror}
    return subprocess.run([*TOOL, *words], env=environment, capture_output=True, text=True)


def test_a_student_gets_everything_verified_from_the_teacher_alone(teacher, internet, tmp_path, monkeypatch):
    done = student(tmp_path / "pupil", teacher.url, "fetch", "--all")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(", verified: ") == 2
    monkeypatch.setenv("TLKIT_HOME", str(tmp_path / "pupil"))
    for name, file in catalog.LESSONS.items():
        assert file.path.read_bytes() == CONTENTS[name]
        assert downloads.verified(file) == file.sha256
        assert f"127.0.0.1 has {file.name}" in teacher.read_to(file.name)
    assert internet.requests == []
    assert teacher.stop() == 0
    assert teacher.said.endswith("Stopped. 2.2 MB went to 1 machine.\n")


def test_a_student_goes_on_at_the_teachers_where_another_network_broke_off(teacher, internet, tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_HOME", str(tmp_path / "pupil"))
    file = catalog.find("vgg16")
    file.part.parent.mkdir(parents=True)
    file.part.write_bytes(CONTENTS["vgg16"][:1_200_000])
    assert student(home(), teacher.url, "fetch", "vgg16").returncode == 0
    assert file.path.read_bytes() == CONTENTS["vgg16"]
    assert teacher.stop() == 0
    assert "Stopped. 300 kB went to 1 machine." in teacher.said


@pytest.mark.slow
def test_what_the_teacher_lacks_comes_from_elsewhere_and_the_teacher_hears_of_it(teacher, internet, tmp_path):
    done = student(tmp_path / "pupil", teacher.url, "fetch", "resnet18")
    assert done.returncode == 0
    assert "Warning: resnet18" in done.stderr
    assert len(internet.requests) == 1
    assert "which is not here. Fetch it: python -m tlkit fetch resnet18" in teacher.read_to("asked for")
    assert student(teacher.home, "", "fetch", "resnet18").returncode == 0  # while it serves
    assert student(tmp_path / "other", teacher.url, "fetch", "resnet18").stderr == ""


def test_a_teachers_file_that_was_tampered_with_never_arrives(teacher, tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_HOME", str(teacher.home))
    file = catalog.find("vgg16")
    file.path.write_bytes(b"?" * file.size)
    done = student(tmp_path / "pupil", teacher.url, "fetch", "vgg16")
    assert done.returncode == 0
    assert "404 Not Found" in done.stderr
    monkeypatch.setenv("TLKIT_HOME", str(tmp_path / "pupil"))
    assert file.path.read_bytes() == CONTENTS["vgg16"]


def test_thirty_students_at_once(teacher, internet, tmp_path):
    """The server is another process; the students are threads, since thirty processes would only be slower."""
    file = catalog.find("vgg16")
    got = []

    def one() -> None:
        with urllib.request.urlopen(f"{teacher.url}/{file.name}", timeout=30) as answer:
            got.append(answer.read())

    students = [threading.Thread(target=one) for _ in range(30)]
    for each in students:
        each.start()
    for each in students:
        each.join()
    assert got == [CONTENTS["vgg16"]] * 30
    assert internet.requests == []


def test_ctrl_c_ends_it_while_a_student_is_still_taking(teacher):
    silent = urllib.request.urlopen(f"{teacher.url}/{catalog.find('vgg16').name}", timeout=30)
    assert teacher.stop() == 0
    assert "Traceback" not in teacher.said
    assert "Stopped." in teacher.said
    silent.close()


def test_a_stick_is_a_mirror_too(internet, tmp_path):
    stick = tmp_path / "stick"
    assert student(stick, "", "fetch", "--all").returncode == 0
    internet.requests.clear()
    done = student(tmp_path / "pupil", str(stick), "fetch", "--all")
    assert (done.returncode, done.stderr) == (0, "")
    assert internet.requests == []


def test_a_teacher_who_is_not_there_is_named(internet, capsys, monkeypatch):
    monkeypatch.setenv("TLKIT_MIRROR", refused_url(""))
    code, _, complaint = run(capsys, "fetch", "photos")
    assert code == 0
    assert f"{os.environ['TLKIT_MIRROR']}/photos.tgz: no connection (Connection refused)" in complaint
