"""The colors stand in one place."""

from __future__ import annotations

import re
from pathlib import Path

import tlkit
from tlkit import colors

PACKAGE = Path(tlkit.__file__).parent
ELSEWHERE = (PACKAGE / "colors.py", PACKAGE / "images")  # flowers are drawn in colors of their own
HEXADECIMAL = re.compile(r"#(?:[0-9a-fA-F]{6}|[0-9a-fA-F]{3})\b")


def test_no_other_file_writes_a_color_down():
    files = [path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".js", ".css")]
    files = [path for path in files if not any(path.is_relative_to(other) for other in ELSEWHERE)]
    lines = [(path.name, line) for path in files for line in path.read_text("utf-8").splitlines()]
    found = [f"{name}: {line.strip()}" for name, line in lines if set(HEXADECIMAL.findall(line)) - {"#312"}]  # an issue
    assert found == []


def test_scripts_and_style_sheets_of_widgets_ask_for_variables_that_there_are():
    texts = [path.read_text("utf-8") for path in PACKAGE.rglob("*") if path.suffix in (".js", ".css")]
    asked = {name for text in texts for name in re.findall(r"var\((--tlkit-[\w-]+)\)", text)}
    assert asked == set(re.findall(r"(--tlkit-[\w-]+):", colors.css_variables()))
