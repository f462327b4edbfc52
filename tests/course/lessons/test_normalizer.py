"""The normal form of a notebook: what readers and nbval need, and nothing that changes at each run."""

from __future__ import annotations

import base64
import io
import json

import nbformat
import pytest
from nbformat.v4 import new_markdown_cell, new_notebook, new_output
from PIL import Image
from small_notebooks import code, executed, png

from tlkit.course.lessons import normalizer
from tlkit.course.lessons.__main__ import main


def test_normal_form_keeps_what_readers_and_nbval_need():
    book = normalizer.normalize(executed())
    _, a, b, c, bar, d, e = book.cells
    assert [cell.execution_count for cell in (a, b, c, bar, d, e)] == [1, 2, 3, 4, 5, None]
    assert [output.text for output in a.outputs] == ["100%\ndone\n"]
    assert a.metadata == {"tags": ["t"]}
    assert b.outputs[0].data == {"text/plain": "IntSlider(value=0)"}
    assert b.outputs[0].execution_count == 2
    assert c.outputs == []
    assert [output.get("text") for output in bar.outputs] == ["fitted\n"]
    assert d.outputs[0].evalue == "'fc3'"
    assert "somebody" not in normalizer.text(book)
    assert set(book.metadata) == {"kernelspec", "language_info"}
    assert "3.11.7" not in normalizer.text(book)


def test_normalizing_twice_changes_nothing(tmp_path):
    once = normalizer.text(normalizer.normalize(executed()))
    path = tmp_path / "book.ipynb"
    path.write_text(once, encoding="utf-8")
    assert normalizer.text(normalizer.normalize(normalizer.read(path))) == once
    assert normalizer.is_normalized(path)


def test_cell_ids_stay_and_become_unique(tmp_path):
    book = json.loads(nbformat.writes(new_notebook(cells=[new_markdown_cell(letter) for letter in "abcd"])))
    for cell, name in zip(book["cells"], ["keep", "keep", None, "own"], strict=True):
        cell.pop("id")
        if name:
            cell["id"] = name
    path = tmp_path / "book.ipynb"
    path.write_text(json.dumps(book), encoding="utf-8")
    ids = [cell["id"] for cell in normalizer.normalize(normalizer.read(path)).cells]
    assert ids == ["keep", "cell-001", "cell-002", "own"]


def shrunk(image: Image.Image) -> Image.Image:
    data = {"image/png": base64.b64encode(png(image)).decode(), "text/plain": "picture"}
    book = new_notebook(cells=[code("x", new_output("display_data", data=data), count=1)])
    stored = normalizer.normalize(book).cells[0].outputs[0].data["image/png"]
    assert normalizer.normalize(book).cells[0].outputs[0].data["image/png"] == stored
    return Image.open(io.BytesIO(base64.b64decode(stored)))


def test_images_of_few_colors_get_a_palette_and_lose_nothing():
    image = Image.new("RGBA", (64, 64), (0, 114, 178, 255))
    for x in range(64):
        image.putpixel((x, x), (230, 159, 4 * x % 256, 255))
    small = shrunk(image)
    assert small.mode == "P"
    assert small.convert("RGB").tobytes() == image.convert("RGB").tobytes()


@pytest.mark.slow
def test_only_large_images_of_many_colors_lose_some():
    gradient = Image.linear_gradient("L")
    small = Image.merge("RGB", (gradient, gradient.rotate(90), gradient.rotate(180)))
    assert shrunk(small).mode == "RGB"
    noise = Image.effect_noise((400, 400), 60)
    large = shrunk(Image.merge("RGB", (noise, noise.rotate(90), noise.rotate(180))))
    assert large.mode == "P"


def test_normalize_command_mends_what_its_check_finds(folder, capsys):
    nbformat.write(executed(), folder / "00_page.ipynb")
    assert main(["normalize", "--check"]) == 1
    assert "not in normal form" in capsys.readouterr().out
    assert main(["normalize"]) == 0
    assert main(["normalize", "--check"]) == 0
