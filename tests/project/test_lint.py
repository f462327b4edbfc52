"""What is checked before a commit is what continuous integration checks."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def hooks() -> list[dict]:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert repository["repo"] == "local"  # nothing is fetched but ruff
    return repository["hooks"]


def test_hooks_run_the_commands_of_make_test():
    lint = (ROOT / "Makefile").read_text(encoding="utf-8").split('"== lint"')[1].split('"== tests"')[0]
    assert [hook["entry"] for hook in hooks()] == re.findall(r"-m (ruff .+)", lint)
    assert not any(hook["pass_filenames"] for hook in hooks())  # the same files, not the changed ones


def test_hooks_use_the_ruff_of_the_constraints():
    pin = re.search(r"^ruff==\S+", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)[0]
    assert [hook["additional_dependencies"] for hook in hooks()] == [[pin]] * len(hooks())
