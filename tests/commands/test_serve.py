from __future__ import annotations

import os
import threading
import urllib.request

import pytest
from command_line import run
from servers import refused_url
from small_catalog import CONTENTS, Teacher, student

from tlkit.commands import catalog, serve
from tlkit.files import downloads
from tlkit.files.downloads import home

pytestmark = pytest.mark.usefixtures("no_settings")


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


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("", "every address of this machine, such as '192.168.1.5' and '10.0.0.7', port 8765: whoever is on the same"),
        ("10.0.0.7", "It listens on 10.0.0.7, port 8765: whoever is on the same network can read the files."),
        ("127.0.0.1", "It listens on 127.0.0.1, port 8765: only programs on this machine can read the files."),
        ("localhost", "only programs on this machine can read the files."),
    ],
)
def test_it_says_where_it_listens_and_who_can_read(host, words, capsys):
    serve._say_who_can_read(host, [host] if host else ["192.168.1.5", "10.0.0.7"], 8765)
    assert words in capsys.readouterr().out


def test_the_lines_to_set_name_every_address(capsys):
    serve._say_what_to_set(["192.168.1.5", "10.0.0.7"], 8765)
    said = capsys.readouterr().out
    for line in ("%env TLKIT_MIRROR={}", "export TLKIT_MIRROR={}", "set TLKIT_MIRROR={}", '$env:TLKIT_MIRROR = "{}"'):
        for url in ("http://192.168.1.5:8765", "http://10.0.0.7:8765"):
            assert line.format(url) in said
    serve._say_what_to_set([], 8765)
    assert "This machine is on no network." in capsys.readouterr().err


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


@pytest.mark.slow
def test_a_student_gets_everything_verified_from_the_teacher_alone(teacher, internet, tmp_path, monkeypatch):
    done = student(tmp_path / "pupil", teacher.url, "fetch", "--all")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(", verified: ") == 2
    monkeypatch.setenv("TLKIT_HOME", str(tmp_path / "pupil"))
    for name, file in catalog.LESSONS.items():
        assert file.path.read_bytes() == CONTENTS[name]
        assert downloads.verify(file) == file.sha256
        assert f"127.0.0.1 has {file.name}" in teacher.read_to(file.name)
    assert internet.requests == []
    assert teacher.stop() == 0
    assert teacher.said.endswith("Stopped. 2.2 MB went to 1 machine.\n")


@pytest.mark.slow
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


@pytest.mark.slow  # processes of their own
def test_a_teachers_file_that_was_tampered_with_never_arrives(teacher, tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_HOME", str(teacher.home))
    file = catalog.find("vgg16")
    file.path.write_bytes(b"?" * file.size)
    done = student(tmp_path / "pupil", teacher.url, "fetch", "vgg16")
    assert done.returncode == 0
    assert "404 Not Found" in done.stderr
    monkeypatch.setenv("TLKIT_HOME", str(tmp_path / "pupil"))
    assert file.path.read_bytes() == CONTENTS["vgg16"]


@pytest.mark.slow  # thirty downloads
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


@pytest.mark.skipif(os.name == "nt", reason="there is no such signal")
def test_sigterm_ends_it_too(teacher):
    teacher.process.terminate()
    assert teacher.process.wait(timeout=60) == 0
    assert "Stopped." in teacher.process.stdout.read()


@pytest.mark.slow
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
