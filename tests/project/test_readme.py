"""What the README and the pages for newcomers tell people to type works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import tlkit as tl
from tlkit.commands.parser import make_parser

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10; pytest brings the same reader
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"), ROOT / "binder/README.md"]
TEXT = {path.name: path.read_text(encoding="utf-8") for path in PAGES}


def blocks(text: str, language: str) -> list[str]:
    fenced = re.findall(r"^ *```(\w*)\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return [block for name, block in fenced if name == language]


def typed(command: str) -> list[str]:
    """Every line of a block for a terminal, on any page, that begins with a command; without its comment."""
    lines = [line.strip() for text in TEXT.values() for block in blocks(text, "") for line in block.splitlines()]
    return [line.partition("  #")[0].strip() for line in lines if line.startswith(f"{command} ")]


@pytest.mark.slow
def test_the_code_for_the_library_runs_on_a_few_flowers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(README, "python")
    assert 'tl.images.load("drawn")' in code
    exec(code.replace('load("drawn")', 'load("drawn", per_class=6)'), {})
    assert capsys.readouterr().out.startswith("Accuracy")
    assert tl.load(tmp_path / "flowers.tlk").classes == ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    assert tl.FeatureStore(tmp_path / "features/train").rows_computed == 0


@pytest.mark.parametrize("line", sorted(set(typed("tlkit"))))
def test_commands_are_known(line):
    make_parser().parse_args(shlex.split(line)[1:])


def test_targets_of_make_exist():
    targets = set(re.findall(r"^(\w+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {word for text in TEXT.values() for word in re.findall(r"(?:^|`)make (\w+)", text, re.MULTILINE)}
    assert named - {"PYTHON"} <= targets
    assert {"run", "test", "lab", "docs"} <= named


def test_extras_exist():
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = {name for text in TEXT.values() for name in re.findall(r"(?:tlkit|\.)\[(\w+)\]", text)}
    assert {"notebooks", "onnx"} <= named <= known.keys()


def test_the_first_screen_says_what_it_is_and_shows_it():
    first = README.split("\n## ")[0]
    assert len(first.split()) < 200
    assert re.search(r"!\[.{40,}\]\(docs/\w+\.jpg\)", first)
    assert "mybinder.org" in first
