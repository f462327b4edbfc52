"""The rules of the house: each finds what breaks it."""

from __future__ import annotations

import base64
import json
import re

import nbformat
import pytest
from nbformat.v4 import new_markdown_cell, new_notebook, new_output
from PIL import Image
from small_notebooks import CARD, DEFAULTS, code, notebook, png

from tlkit.course.lessons import normalizer, rules
from tlkit.course.lessons.__main__ import main


def house() -> nbformat.NotebookNode:
    """A notebook that keeps every rule."""
    picture = {
        "image/png": base64.b64encode(png(Image.new("P", (8, 8)))).decode() + "\n",
        "text/html": '<img src="data:image/png;base64,AA/home/a==" alt="a teal square">',
        "text/plain": "Picture('square')",
    }
    cells = [
        new_markdown_cell(f"# Title\n\n{CARD}\n\n```python\n# not a heading\n```\n## Steps"),
        code(DEFAULTS, tags=["parameters"], count=1),
        code("show()", new_output("execute_result", data=picture, execution_count=2), count=2),
        code("1 / 0", new_output("error", ename="E", evalue="e"), tags=["raises-exception"], count=3),
    ]
    return normalizer.normalize(new_notebook(cells=cells))


def too_large(book):
    noise = png(Image.effect_noise((900, 900), 60).convert("P"))
    book.cells[2].outputs[0].data["image/png"] = base64.b64encode(noise).decode() + "\n"


def without_normal_form(book):
    book.metadata["widgets"] = {}


def edit(cell: int, **values):
    return lambda book: book.cells[cell].update(values)


BREAKS = {
    rules.valid_format: [(edit(2, outputs=[{"output_type": "poem"}]), "no valid notebook")],
    rules.parameters_first: [
        (edit(1, metadata={}), "not tagged 'parameters'"),
        (edit(1, source="EPOCHS = 1"), "lacks 'BACKBONE', 'IMAGES', 'DEVICE', 'SEED' and 'OUT'"),
        (edit(1, source=DEFAULTS + '\nNAME = f"{SEED}"'), "not a name and a literal"),
        (edit(2, metadata={"tags": ["injected-parameters"]}), "rendered with parameters"),
    ],
    rules.cost_card: [
        (edit(0, source="# Title"), "lacks a line"),
        (edit(0, source="# Title\n\n" + CARD.replace("12 s", "50 s")), "50 s is over the limit"),
    ],
    rules.headings_in_order: [
        (edit(0, source=f"{CARD}\n## Steps"), "one first-level heading"),
        (edit(0, source=f"# Title\n\n{CARD}\n\n### Deep"), "'Deep' skips a level"),
    ],
    rules.short_cells: [(edit(2, source="\n".join("abcdefghijklmnopqrs")), "has 19 lines")],
    rules.run_in_order: [
        (edit(2, execution_count=5), "not run once, from top to bottom"),
        (edit(2, execution_count=None, outputs=[]), "not run once"),
    ],
    rules.errors_announced: [(edit(3, metadata={}), "ends in E and is not tagged")],
    rules.no_absolute_paths: [
        (edit(2, source='open("/home/ann/photos")'), "shows '/home/ann'"),
        (edit(2, outputs=[new_output("stream", text="C:\\Users\\ann")]), "a place on one machine"),
    ],
    rules.described_images: [
        (edit(2, outputs=[new_output("display_data", data={"image/png": "", "text/plain": "<Figure>"})]), "no alt"),
        (edit(2, outputs=[new_output("display_data", data={"text/html": "<img src='data:'>"})]), "no alt"),
        (edit(0, source=f"# Title\n\n{CARD}\n![](map.png)"), "in its text"),
    ],
    rules.small_file: [(too_large, "500,000 is the limit")],
    rules.normal_form: [(without_normal_form, "not in normal form")],
}


def test_a_notebook_of_the_house_has_no_problem(tmp_path):
    normalizer.write(house(), tmp_path / "00.ipynb")
    assert rules.problems(tmp_path / "00.ipynb") == []


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_each_rule_finds_what_breaks_it(rule, tmp_path):
    path = tmp_path / "00.ipynb"
    assert BREAKS[rule]
    for damage, words in BREAKS[rule]:
        book = house()
        damage(book)
        path.write_text(json.dumps(book), encoding="utf-8")
        found = list(rule(path, normalizer.read(path)))
        assert any(words in problem for problem in found), found


def test_check_command_counts_problems(folder, capsys):
    normalizer.write(house(), folder / "00_good.ipynb")
    assert main(["check"]) == 0
    notebook(folder / "01_not_run.ipynb", code("print(1)"))
    assert main(["check"]) == 1
    assert re.search(
        r"01_not_run.ipynb: Its cells were not run.*2 notebooks checked", capsys.readouterr().out, re.DOTALL
    )
