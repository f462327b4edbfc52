"""The ways to install agree with each other: pyproject, the class constraints, conda, Binder, make."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10; pytest brings the same reader
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
CONDA_NAMES = {
    "pytorch-cpu": "torch",
    "pytorch-gpu": "torch",
    "matplotlib-base": "matplotlib",
    "nbconvert-core": "nbconvert",
}
ENVIRONMENTS = ("environment.yml", "binder/environment.yml")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
UNPINNED = ("cloud",)  # s3fs needs an older python-dateutil than a class gets; a class stores on its own disks


def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def needed(*extras: str) -> list[Requirement]:
    """What pyproject asks for on x86-64, the project's own name left out."""
    project = pyproject()["project"]
    texts = project["dependencies"] + [text for extra in extras for text in project["optional-dependencies"][extra]]
    found = [Requirement(text) for text in texts]
    machine = {"platform_machine": "x86_64"}
    return [item for item in found if item.name != "tlkit" and (not item.marker or item.marker.evaluate(machine))]


def conda(path: str) -> tuple[dict[str, str], list[str]]:
    """The conda packages with what follows their names, and the lines of the pip section."""
    listed = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))["dependencies"]
    packages = {}
    for line in listed:
        if isinstance(line, str):
            name = re.match(r"[\w.-]+", line).group()
            packages[CONDA_NAMES.get(name, name)] = line[len(name) :]
    sections = [line["pip"] for line in listed if isinstance(line, dict)]
    return packages, [line for section in sections for line in section]


@pytest.mark.parametrize("path", ENVIRONMENTS)
def test_conda_brings_what_pyproject_needs_and_no_more(path):
    packages, by_pip = conda(path)
    ranges = {canonicalize_name(name): text for name, text in packages.items() if name not in ("python", "pip")}
    for line in by_pip:
        if not line.startswith("-e"):
            requirement = Requirement(line)
            ranges[canonicalize_name(requirement.name)] = str(requirement.specifier)
    assert ranges == {canonicalize_name(item.name): str(item.specifier) for item in needed("notebooks")}


def test_binder_and_the_top_level_file_differ_in_tlkit_alone():
    top, top_pip = conda("environment.yml")
    binder, binder_pip = conda("binder/environment.yml")
    assert binder == top
    assert [*binder_pip, "-e ."] == top_pip


@pytest.mark.parametrize("path", ENVIRONMENTS)
def test_conda_files_are_what_binder_and_conda_read(path):
    environment = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
    assert environment["name"] == "tlkit"
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    names = [line for line in environment["dependencies"] if isinstance(line, str)]
    assert "python=3.12" in names
    assert "pip" in names  # a pip section without it is an error


@pytest.mark.parametrize("path", ENVIRONMENTS)
def test_every_line_of_a_conda_file_says_why_it_is_there(path):
    lines = (ROOT / path).read_text(encoding="utf-8").partition("dependencies:\n")[2].splitlines()
    needing = [line for line in lines if line.strip().startswith("- ") and line.strip() != "- pip:"]
    assert len(needing) > 20
    assert [line for line in needing if not re.search(r"\S +# \S", line)] == []


def test_a_gpu_is_one_commented_line_away():
    lines = (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if "pytorch-gpu" in line]
    assert yaml.safe_load(line.replace("# ", "", 1)) == [f"pytorch-gpu{conda('environment.yml')[0]['torch']}"]


def test_the_script_of_continuous_integration_can_be_run():
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert subprocess.run(["bash", "-n", ROOT / ".ci/run"]).returncode == 0


# constraints


def constraints() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def pinned(python: str, machine: str, system: str = "linux") -> dict[str, str]:
    """The version that the constraints choose for each package on such a machine."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "platform_machine": machine,
        "sys_platform": system,
        "os_name": "nt" if system == "win32" else "posix",
        "implementation_name": "cpython",
    }
    chosen: dict[str, str] = {}
    for item in constraints():
        if not item.marker or item.marker.evaluate(environment):
            assert item.name not in chosen, f"{item.name} is pinned twice on Python {python}, {machine}"
            (pin,) = item.specifier
            assert pin.operator == "=="
            chosen[canonicalize_name(item.name)] = pin.version
    return chosen


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("python", PYTHONS)
def test_constraints_pin_everything_asked_for_within_its_range(python, machine):
    chosen = pinned(python, machine)
    project = pyproject()["project"]
    extras = [texts for name, texts in project["optional-dependencies"].items() if name not in UNPINNED]
    texts = project["dependencies"] + [text for extra in extras for text in extra]
    for item in map(Requirement, texts):
        if item.name != "tlkit" and (not item.marker or item.marker.evaluate({"platform_machine": machine})):
            assert Version(chosen[canonicalize_name(item.name)]) in item.specifier, item


@pytest.mark.parametrize("python", PYTHONS)
def test_constraints_pair_torch_with_its_torchvision(python):
    pairs = {machine: (chosen["torch"], chosen["torchvision"])
             for machine in ("x86_64", "AMD64", "arm64", "aarch64")
             for chosen in [pinned(python, machine)]}  # fmt: skip
    assert pairs.pop("aarch64") == ("2.9.1", "0.24.1")
    assert set(pairs.values()) == {("2.14.1", "0.29.1")}


def test_constraints_name_no_place_and_leave_cuda_to_torch():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in text
    assert not [item.name for item in constraints() if item.name.startswith(("nvidia", "cuda", "triton"))]
    assert not [item for item in constraints() if item.url or item.extras]


# make


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A folder with the files that `make` looks at, and a `.venv` whose Python records how it is called."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@" >> calls.txt\n', encoding="utf-8")
    python.chmod(0o755)
    return tmp_path


def make(folder: Path, *arguments: str) -> tuple[int, str, list[str]]:
    """Run make and return its exit status, what it said, and the calls of the recorded Python since the last time."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(["make", *arguments], cwd=folder, env=clean, capture_output=True, text=True)
    record = folder / "calls.txt"
    calls = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    record.unlink(missing_ok=True)
    return done.returncode, done.stdout + done.stderr, calls


INSTALL = "-m pip install --quiet --disable-pip-version-check -c constraints.txt -e .[test]"

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@needs_make
def test_make_installs_once_and_again_when_the_requirements_changed(checkout):
    run = "-m tlkit.course.lessons run --out build"
    assert make(checkout, "run")[2] == [INSTALL, run]
    assert make(checkout, "run")[2] == [run]
    os.utime(checkout / "constraints.txt", (2**32, 2**32))
    assert make(checkout, "run")[2] == [INSTALL, run]


@needs_make
def test_make_test_lints_tests_and_compares_the_notebooks(checkout):
    _, _, calls = make(checkout, "test")
    assert calls[1:3] == ["-m ruff check .", "-m ruff format --check ."]
    assert calls[3].startswith("-m pytest -q -n ")
    assert calls[4] == "-m pytest -q -n 2 --dist loadfile -p no:nbval tests/browser"
    assert "--nbval " in calls[5]
    assert calls[5].endswith("tests/nbval_sanitize.cfg notebooks")


@needs_make
def test_make_quick_lints_and_leaves_out_what_is_slow(checkout):
    _, _, calls = make(checkout, "quick")
    assert calls[1:3] == ["-m ruff check .", "-m ruff format --check ."]
    assert calls[3].startswith("-m pytest -q -n ")
    assert calls[3].endswith("-m not slow --ignore tests/browser")
    assert len(calls) == 4


@needs_make
def test_make_full_takes_own_photos(checkout):
    _, _, calls = make(checkout, "full", "PHOTOS=my photos", "NOTEBOOKS=05")
    assert calls[-1].endswith("-p BACKBONE vgg16 -p IMAGES my photos -p DEVICE auto 05")


@needs_make
def test_make_docs_fails_at_warnings_and_runs_no_notebook(checkout):
    (call,) = make(checkout, "docs")[2][1:]
    assert call.startswith("-m sphinx --fail-on-warning")
    assert call.endswith("-c docs . build/site")
    assert 'nb_execution_mode = "off"' in (ROOT / "docs/conf.py").read_text(encoding="utf-8")


@needs_make
def test_make_stops_where_no_test_ran(checkout):
    python = checkout / ".venv/bin/python"
    python.write_text('#!/bin/sh\ncase "$*" in *pytest*) exit 5;; esac\n', encoding="utf-8")
    status, said, _ = make(checkout, "test")
    assert status != 0
    assert "Error 5" in said


@needs_make
def test_an_old_python_is_refused_in_words(tmp_path, checkout):
    shutil.rmtree(checkout / ".venv")
    old = checkout / "old"
    old.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    old.chmod(0o755)
    status, said, _ = make(checkout, "run", "PYTHON=./old")
    assert status != 0
    assert "tlkit needs Python 3.10 or newer. Choose one: make PYTHON=python3.12 run" in said


@needs_make
def test_help_names_every_target(checkout):
    _, said, _ = make(checkout, "help")
    assert re.findall(r"^  make (\w+)", said, re.MULTILINE) == [
        "help", "run", "lint", "quick", "test", "lab", "render", "full", "bench", "docs", "lock", "clean",
    ]  # fmt: skip


@needs_make
@pytest.mark.parametrize(("status", "said", "expected"), [
    (0, "12 passed, 1 skipped in 3.21s", 0),
    (0, "===== 12 passed in 70.2s (0:01:10) =====", 0),
    (0, "no tests ran in 0.01s", 1),
    (2, "1 failed, 11 passed in 3.21s", 2),
])  # fmt: skip
def test_ci_shows_pytests_closing_lines_and_fails_with_make(checkout, status, said, expected):
    write_make_test(checkout, f"echo '{said}'; exit {status}")
    done = run_ci(checkout, TLKIT_TEST_BROWSER="not now")
    assert done.returncode == expected
    closing = done.stdout.split("== closing lines\n")[1]
    assert closing == ("" if "no tests" in said else said + "\n")


def write_make_test(checkout: Path, recipe: str) -> None:
    (checkout / "Makefile").write_text(f"test:\n\t@{recipe}\n", encoding="utf-8")
    (checkout / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", checkout / ".ci/run")


def run_ci(checkout: Path, **environment: str) -> subprocess.CompletedProcess:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "TLKIT"))}
    return subprocess.run([checkout / ".ci/run"], env={**clean, **environment}, capture_output=True, text=True)


@pytest.fixture
def tools(checkout) -> Path:
    """A folder for PATH with what .ci/run needs, and neither a browser nor apt-get."""
    folder = checkout / "tools"
    folder.mkdir()
    for name in ("bash", "dirname", "env", "grep", "make", "mkdir", "sh", "tee"):
        (folder / name).symlink_to(shutil.which(name))
    for name, script in {"id": "echo 0", "sleep": ""}.items():
        write_tool(folder / name, script)
    return folder


def write_tool(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


TELL = 'echo "1 passed in 1s"; echo "browser: $$TLKIT_TEST_BROWSER"'


@needs_make
def test_ci_asks_for_the_browser_that_is_there(checkout, tools):
    write_make_test(checkout, TELL)
    write_tool(tools / "chromium", "")
    done = run_ci(checkout, PATH=str(tools))
    assert "browser: 1\n" in done.stdout
    assert "installing" not in done.stdout


@needs_make
@pytest.mark.parametrize("failures", [0, 2])
def test_ci_installs_a_browser_and_tries_again_where_servers_are_busy(checkout, tools, failures):
    write_make_test(checkout, TELL)
    chromium, tries = tools / "chromium", checkout / "tries"
    write_tool(
        tools / "apt-get",
        f'case "$*" in *update) echo try >> {tries}; [ $(grep -c try {tries}) -gt {failures} ] || exit 100;; '
        f"*'install chromium'*) printf '#!/bin/sh\\n' > {chromium}; /bin/chmod +x {chromium};; esac",
    )
    done = run_ci(checkout, PATH=str(tools))
    assert "browser: 1\n" in done.stdout
    assert tries.read_text(encoding="utf-8").count("try") == failures + 1
    assert done.returncode == 0


@needs_make
@pytest.mark.parametrize(("apt", "why"), [("exit 100", "apt-get could not install it"), (None, "no apt-get")])
def test_ci_says_why_browser_tests_are_skipped_and_runs_the_rest(checkout, tools, apt, why):
    write_make_test(checkout, TELL)
    if apt:
        write_tool(tools / "apt-get", apt)
    done = run_ci(checkout, PATH=str(tools))
    sentence = re.search(
        r"^The browser tests are skipped: (there is no chromium, and .*)\.$", done.stdout, re.MULTILINE
    )
    assert why in sentence[1]
    assert f"browser: {sentence[1]}\n" in done.stdout
    assert done.stdout.endswith("== closing lines\n1 passed in 1s\n")
    assert done.returncode == 0
