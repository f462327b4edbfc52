"""docs/teaching.md: its plans add up, and its times and counts are those that the notebooks give."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tlkit.course.lessons import costs, normalizer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/teaching.md").read_text(encoding="utf-8")
PLANS = {"45 minutes": 45, "90 minutes": 90, "Half a day": 210}
SHOWN = "Shown:"


def section(title: str) -> str:
    return re.search(rf"^##+ {re.escape(title)}[^\n]*\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL).group(1)


def rows(title: str) -> list[list[str]]:
    lines = re.findall(r"^\|(.*)\|$", section(title), re.MULTILINE)
    return [[cell.strip() for cell in line.split("|")] for line in lines[2:]]


def linked(text: str) -> str:
    found = re.search(r"\(\.\./notebooks/([\w.]+)\)", text)
    return found[1] if found else ""


@cache
def facts(notebook: str) -> tuple[int, int]:
    """Minutes to read, and number of exercises."""
    cells = normalizer.read(ROOT / "notebooks" / notebook).cells
    prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
    exercises = {number for text in prose for number in re.findall(r"^\*\*(\d)\.\*\*", text, re.MULTILINE)}
    return int(re.search(r"Reading (\d+) min", prose[0])[1]), len(exercises)


@pytest.mark.parametrize("title", PLANS)
def test_a_plan_has_no_gap_and_ends_in_time(title):
    clock = 0
    for start, minutes, *_ in rows(title):
        assert int(start) == clock
        clock += int(minutes)
    assert clock == PLANS[title]


@pytest.mark.parametrize("title", PLANS)
def test_a_plan_leaves_time_to_read_and_to_run_each_notebook(title):
    for _, minutes, what, where in rows(title):
        notebook = linked(where)
        if notebook and not what.startswith(SHOWN):
            assert int(minutes) >= facts(notebook)[0] + 1 + 5 * what.count("Exercise"), notebook


def test_exercises_that_a_plan_names_exist():
    named = set(re.findall(r"\b(\d\d)\.(\d)\b", "".join(map(section, PLANS))))
    for number, exercise in named:
        (path,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
        assert int(exercise) <= facts(path.name)[1]


def test_the_table_of_times_is_that_of_the_notebooks():
    table = {linked(cells[0]): (int(cells[1]), int(cells[2])) for cells in rows("How long each takes")}
    assert table == {path.name: facts(path.name) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}


def test_the_bounds_at_the_top_are_those_of_the_house_rules():
    assert "in under a minute on two cores" in PAGE
    assert costs.SECONDS_LIMIT <= 60
    assert f"at most {costs.MEMORY_LIMIT / 1e9} GB" in PAGE.replace("\n", " ")


def test_what_doctor_says_is_quoted():
    source = (ROOT / "tlkit/commands/doctor.py").read_text(encoding="utf-8")
    for words in ("The default notebooks can run.", "NO"):
        assert words in PAGE
        assert words in source
