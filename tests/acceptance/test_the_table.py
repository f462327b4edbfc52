"""The table is complete: every row has a test, unless README.md says why it does not apply."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LAST = {"M": 11, "G": 8, "C": 4, "H": 3, "F": 1, "J": 1, "S": 1, "L": 3, "W": 2, "U": 2, "Z": 2, "B": 1, "N": 1, "K": 1}
ROWS = {f"{letter}{number}" for letter, last in LAST.items() for number in range(1, last + 1)}
FILES = sorted(path for path in HERE.glob("test_*.py") if path.name != Path(__file__).name)


def section(title):
    """The rows of one table of README.md, without its head."""
    text = (HERE / "README.md").read_text(encoding="utf-8").split(f"## {title}\n", 1)[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


NOT_APPLICABLE = {row for row, *_ in section("Rows that do not apply")}


def functions_of(path):
    """The test functions of a file, whether or not pytest was asked for all of them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def row_of(name):
    found = re.match(r"test_([a-z]\d+)_[a-z]", name)
    return found[1].upper() if found else None


def test_every_row_of_the_table_has_a_test_or_a_reason_to_have_none():
    tested = {row_of(test.name) for path in FILES for test in functions_of(path)}
    assert tested == ROWS - NOT_APPLICABLE


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_every_test_names_its_row_states_a_behaviour_and_runs(path):
    tests = functions_of(path)
    assert tests
    for test in tests:
        assert row_of(test.name) in ROWS, test.name
        assert len(test.name.split("_")) > 6, f"{test.name} states a behaviour in words"
        marks = [ast.unparse(mark) for mark in test.decorator_list]
        assert not [mark for mark in marks if "skip" in mark or "xfail" in mark], test.name
    names = [test.name for test in tests]
    assert len(names) == len(set(names)), "a second test of the same name would hide the first"


def test_every_reason_names_rows_of_the_table_and_is_a_sentence():
    for title in ("Rows that do not apply", "Parts of rows that do not apply"):
        reasons = section(title)
        assert reasons
        for rows, _, why in reasons:
            assert set(rows.split(", ")) <= ROWS
            assert re.fullmatch(r"[A-Z].{20,}\.", why), why
