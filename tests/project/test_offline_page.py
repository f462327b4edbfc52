"""docs/offline.md says what to do without a network. Its commands are run, with small files in place of the large."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import small_catalog
from servers import FileServer
from small_catalog import Teacher

from tlkit import commands
from tlkit.commands import catalog
from tlkit.commands.parser import make_parser
from tlkit.files import downloads
from tlkit.memory import readable_size

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/offline.md").read_text(encoding="utf-8")
ADDRESS = "http://192.168.1.5:8765"
TOOL = f"""#!/bin/sh
test "$1 $2" = "-m tlkit" || exit 99
shift 2
exec '{sys.executable}' '{small_catalog.__file__}' "$@"
"""


def section(title: str) -> str:
    return re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL).group(1)


def blocks(title: str, language: str = "bash") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", section(title), re.DOTALL)


@pytest.fixture
def internet(tmp_path, monkeypatch):
    """What stands for the internet, and a `python` that knows the small files."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text(TOOL)
    (tmp_path / "bin" / "python").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("TLKIT_HOME", "TLKIT_MIRROR", "TLKIT_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with FileServer() as server:
        server.named = small_catalog.remotes(server.url(""))
        server.files = {f"/{file.name}": small_catalog.CONTENTS[name] for name, file in server.named.items()}
        monkeypatch.setenv("TLKIT_TEST_URL", server.url(""))
        yield server


def shell(script: str, home: Path, **replaced: str) -> subprocess.CompletedProcess:
    """Run a block of the page on a machine with a cache folder of its own."""
    for old, new in replaced.items():
        script = script.replace({"address": ADDRESS, "stick": "/media/stick"}[old], new)
    environment = {**os.environ, "XDG_CACHE_HOME": str(home), "LOCALAPPDATA": str(home), "HOME": str(home)}
    return subprocess.run(["bash", "-euo", "pipefail", "-c", script], env=environment, capture_output=True, text=True)


def arrived(folder: Path) -> dict[str, bytes]:
    files = {file.name: file for file in folder.rglob("*") if file.suffix in {".tgz", ".pth"}}
    return {name: file.read_bytes() for name, file in files.items()}


def lessons(internet: FileServer) -> dict[str, bytes]:
    return {internet.named[name].name: small_catalog.CONTENTS[name] for name in ("photos", "vgg16")}


# The commands


@pytest.mark.slow
def test_the_day_before_everything_comes_and_the_list_says_so(internet, tmp_path):
    fetch, listed = blocks("The day before")
    assert shell(fetch, tmp_path / "teacher").returncode == 0
    assert arrived(tmp_path / "teacher") == lessons(internet)
    assert shell(listed, tmp_path / "teacher").stdout.count("yes, verified") == 2


@pytest.mark.slow
def test_in_the_room_one_machine_serves_the_others(internet, tmp_path):
    shell(f"export TLKIT_HOME={tmp_path / 'teacher'}; {blocks('The day before')[0]}", tmp_path)
    internet.requests.clear()
    serve, fetch = blocks("In the room: one machine serves")
    assert serve.split() == ["python", "-m", "tlkit", "serve"]
    teacher = Teacher(tmp_path / "teacher")  # the same command, on an address that tests may use
    try:
        done = shell(fetch, tmp_path / "pupil", address=teacher.url)
        assert (done.returncode, done.stderr) == (0, "")
        assert arrived(tmp_path / "pupil") == lessons(internet)
        assert internet.requests == []
        lines = re.findall(r"^\| [\w, ]+ \| `(.*)` \|$", section("In the room: one machine serves"), re.MULTILINE)
        assert len(lines) == 4
        assert all(line.replace(ADDRESS, teacher.url) in teacher.said for line in lines)
        assert teacher.stop() == 0
    finally:
        teacher.process.kill()


@pytest.mark.slow
def test_a_stick_is_filled_and_read(internet, tmp_path):
    fill, read = blocks("In the room: a stick")
    stick = str(tmp_path / "stick")
    assert shell(fill, tmp_path / "teacher", stick=stick).returncode == 0
    internet.requests.clear()
    done = shell(read, tmp_path / "pupil", stick=stick)
    assert (done.returncode, done.stderr) == (0, "")
    assert arrived(tmp_path / "pupil") == lessons(internet)
    assert internet.requests == []


def test_offline_what_is_missing_is_said_as_written(capsys, monkeypatch):
    monkeypatch.setenv("TLKIT_OFFLINE", "1")
    monkeypatch.setenv("TLKIT_HOME", "/home/me/.cache/tlkit")
    monkeypatch.delenv("TLKIT_MIRROR", raising=False)
    monkeypatch.setattr(Path, "mkdir", lambda *arguments, **options: None)
    monkeypatch.setattr(downloads, "FileLock", lambda name: _Lock())
    (block,) = blocks("No network at all")
    assert block.splitlines()[0] == "export TLKIT_OFFLINE=1"
    assert commands.main(block.splitlines()[1].split()[3:]) == 1
    said = capsys.readouterr()
    (written,) = blocks("No network at all", "text")
    assert said.out + said.err == written


class _Lock:
    def acquire(self, **options: float) -> None:
        pass

    release = acquire


# What is said


def test_the_table_has_the_lessons_files_and_their_sizes():
    rows = re.findall(r"^\| `(\w+)` \| `([\w.-]+)`, .* \| (.*) \|$", PAGE, re.MULTILINE)
    assert rows == [(name, file.name, file.size_in_words) for name, file in catalog.LESSONS.items()]


def test_the_minutes_are_what_the_sizes_make():
    everything = 30 * sum(file.size for file in catalog.LESSONS.values())
    photos = 30 * catalog.LESSONS["photos"].size
    gigabytes, both, alone = re.search(
        r"move (\d+) GB: about (\d+) minutes .*?and (\d+) minutes", PAGE, re.DOTALL
    ).groups()
    assert int(gigabytes) == everything // 10**9
    assert [int(both), int(alone)] == [round(total * 8 / 100e6 / 60) for total in (everything, photos)]
    assert readable_size(everything).startswith(gigabytes)


def test_the_port_is_the_commands():
    assert make_parser().parse_args(["serve"]).port == int(ADDRESS.rpartition(":")[2])
    assert set(re.findall(r"\d+\.\d+\.\d+\.\d+:\d+", PAGE)) == {ADDRESS.removeprefix("http://")}


def test_every_command_of_the_page_is_one(capsys):
    for words in re.findall(r"python -m tlkit((?: [\w-]+)+)", PAGE):
        make_parser().parse_args(words.split())


def test_symptoms_are_words_of_the_programs():
    programs = [ROOT / "tlkit" / name for name in ("files/resuming.py", "files/downloads.py", "commands/serve.py")]
    sources = "".join(program.read_text(encoding="utf-8") for program in programs)
    symptoms = re.findall(r"^\| `([a-zA-Z][^`]+)`", section("When it does not work"), re.MULTILINE)
    assert len(symptoms) == 5
    for symptom in symptoms:
        assert re.split(r"\d| \(", symptom)[0] in sources


def test_the_network_of_timm_has_weights():
    import timm

    (code,) = blocks("Networks of timm", "python")
    (name,) = re.findall(r'load\("timm/(\w+)"\)', code)
    assert timm.get_pretrained_cfg(name).has_weights
