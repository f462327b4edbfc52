"""Pages of notebooks: whole without a network."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from nbformat.v4 import new_markdown_cell
from PIL import Image
from small_notebooks import code, notebook, png

from tlkit.course.lessons.__main__ import main

pytestmark = pytest.mark.slow  # runs notebooks


def test_pages_need_no_network(folder):
    picture = base64.b64encode(png(Image.new("RGB", (8, 8), "teal"))).decode()
    shown = f"display({{'image/png': '{picture}'}}, metadata={{'image/png': {{'alt': 'a teal square'}}}}, raw=True)"
    notebook(
        folder / "00_page.ipynb",
        code("import ipywidgets\nipywidgets.IntSlider()"),
        code(shown),
        code(r"print('done 50', '%', sep='', end='\r')" + "\nprint('done 100', '%', sep='')"),
        new_markdown_cell("<details><summary>Solution</summary>\n\n`42`\n\n</details>"),
    )
    assert main(["run", "--out", "pages"]) == 0
    page = Path("pages/00_page.html").read_text()
    assert re.findall(r'<(?:script|link|img)\b[^>]*?\b(?:src|href)="(?!data:)', page) == []
    assert "<script" not in page
    assert "IntSlider(value=0)" in page  # the widget's static face
    assert 'href="01_next.html"' in page
    assert 'href="index.html"' in page
    assert "done 100%" in page  # the last line of a progress bar, and no other
    assert "done 50%" not in page
    assert re.search(r'<img alt="a teal square" src="data:image/png', page)
    assert re.search(r"<details><summary>Solution</summary>\s*<p><code>42</code></p>\s*</details>", page)  # folded
