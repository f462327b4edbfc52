"""The order of the rooms: a module imports only what stands left of its own room (the map is in CONTRIBUTING.md)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tlkit"
FRONT = ("__init__", "__main__")  # of the whole house: they may open every door
MAP = (ROOT / "CONTRIBUTING.md").read_text("utf-8").split("## The rooms")[1].split("\n## ")[0]
ORDER = re.search(r"^errors memory.*\|.*$", MAP, re.MULTILINE)
FLOORS = [part.replace("/", "").split() for part in ORDER[0].split("|")] if ORDER else []
RANK = {room: rank for rank, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line of each import of tlkit and the room that it names; lazy and type-only imports count too."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            package = node.level == 0 and node.module == "tlkit"
            names = [f"tlkit.{name.name}" for name in node.names] if package else [node.module]
        elif isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "tlkit" and len(parts) > 1 and parts[1] in RANK:
                yield node.lineno, parts[1]


def against_the_order(path: Path, text: str) -> list[str]:
    own = RANK[room_of(path)]
    where = path.relative_to(ROOT).as_posix()
    return [
        f"{where}:{line} imports {room}, which stands right of {room_of(path)}"
        for line, room in imported(ast.parse(text))
        if RANK[room] > own or (RANK[room] == own and room != room_of(path))
    ]


def test_each_module_stands_in_a_room_of_the_map():
    assert {room_of(path) for path in FILES} == {*RANK, *FRONT}


def test_the_map_says_what_is_in_each_room():
    described = re.findall(r"^\|((?: `\w+/?`)+) \|", MAP, re.MULTILINE)
    assert {name for cell in described for name in re.findall(r"\w+", cell)} == RANK.keys()


@pytest.mark.parametrize("row", re.findall(r"^\| (?:an? |how |retries |the ).*\|$", MAP, re.MULTILINE))
def test_the_map_names_files_that_exist_and_names_that_stand_in_them(row):
    quoted = re.findall(r"`([^`]+)`", row)
    places = [name for name in quoted if "/" in name or "." in name]
    found = [next((root / name for root in (PACKAGE, ROOT) if (root / name).exists()), name) for name in places]
    assert [place for place in found if isinstance(place, str)] == []
    text = "".join(place.read_text("utf-8") for place in found if place.suffix == ".py")
    assert [name for name in quoted if name not in places and not re.search(rf"\b{name}\b", text)] == []


@pytest.mark.slow
def test_each_room_imports_only_what_stands_left_of_it():
    found = [
        line for path in FILES if room_of(path) in RANK for line in against_the_order(path, path.read_text("utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "from tlkit.widgets.face import Panel",
        "from tlkit import widgets",
        "import tlkit.widgets",
        "def later():\n    from tlkit.helper import TransferLearningHelper",
        "if TYPE_CHECKING:\n    from tlkit.graph.network import Network",
    ],
)
def test_an_import_against_the_order_is_named_with_its_line(text):
    (said,) = against_the_order(PACKAGE / "layers" / "losses.py", text)
    line = text.count("\n") + 1
    assert re.fullmatch(rf"tlkit/layers/losses\.py:{line} imports \w+, which stands right of layers", said)


@pytest.mark.slow
def test_imports_are_absolute():
    relative = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []
