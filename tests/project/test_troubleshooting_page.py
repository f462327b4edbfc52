"""docs/troubleshooting.md: every message that it says is tlkit's stands in the source code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
OURS, OTHERS = PAGE.split("## Messages of other programs")
HEADINGS = re.findall(r"^### (.*)$", OURS, re.MULTILINE)
IN_LINES = re.findall(r"^\| `([^`]+)` \|", OURS, re.MULTILINE)
GAP = "…"


def without_runs(text: str) -> str:
    return re.sub(f"{GAP}+", GAP, text)


def templates() -> list[str]:
    """Every text of the package, with a gap for each value that is put in; the Makefile speaks, too."""
    found = [(ROOT / "Makefile").read_text(encoding="utf-8").replace("$(MAKECMDGOALS)", GAP)]
    for path in (ROOT / "tlkit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else GAP for part in node.values]
                found.append(without_runs("".join(parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


TEMPLATES = templates()


@pytest.mark.parametrize("heading", HEADINGS)
def test_a_message_stands_in_the_source_code(heading):
    message = re.fullmatch("`([^`]+)`", heading)
    assert message, "a message is one piece of code"
    wanted = message[1]
    assert len(wanted.replace(GAP, "")) >= 15, "too short to be told from others"
    # the page writes one gap where the source has a value between two words, or a choice of words
    pattern = re.compile(".{0,80}?".join(map(re.escape, wanted.split(GAP))))
    assert any(pattern.search(text) for text in TEMPLATES)


@pytest.mark.parametrize("words", IN_LINES)
def test_words_of_a_refused_download_stand_in_the_source_code(words):
    assert any(words in text for text in TEMPLATES)


def test_headings_differ_and_have_something_under_them():
    assert len(HEADINGS) == len(set(HEADINGS)) > 40
    for _, under in re.findall(r"^### ([^\n]*)\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL):
        assert len(under.split()) >= 3


def test_what_the_page_says_to_write_exists():
    import tlkit as tl

    for name in set(re.findall(r"`(?:=? ?)?tl\.([\w.]+)\(", PAGE)):
        found = tl
        for part in name.split("."):
            found = getattr(found, part)
        assert callable(found)
