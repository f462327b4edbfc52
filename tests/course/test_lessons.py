"""The notebooks' machinery, on small notebooks made here: costs, parameters, runs, pages, normal form, rules."""

from __future__ import annotations

import base64
import datetime
import io
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from tlkit.course.lessons import costs, normalizer, parameters, rules, runner
from tlkit.course.lessons.__main__ import main

CARD = "Reading 8 min · run 12 s, 0.9 GB on 2 cores (measured 2026-11-24) · [next](01_next.ipynb)"
DEFAULTS = 'BACKBONE = "small"\nIMAGES = "drawn"\nEPOCHS = 1\nDEVICE = "auto"\nSEED = 13\nOUT = "out"'


def code(source, *outputs, tags=(), count=None):
    return new_code_cell(source, outputs=list(outputs), execution_count=count, metadata={"tags": list(tags)})


def notebook(path: Path, *cells, heading="First steps") -> Path:
    """Write a notebook with a title, a cost line, a parameters cell and the given cells."""
    first = new_markdown_cell(f"# {heading}\n\n{CARD}")
    nbformat.write(new_notebook(cells=[first, code(DEFAULTS, tags=["parameters"]), *cells]), path)
    return path


def outputs(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", ()))


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty notebooks/ folder in a fresh working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()
    return tmp_path / "notebooks"


# costs


def test_cost_line_stays_until_the_cost_moves_by_a_third():
    assert costs.updated_card(CARD, costs.Cost(14.9, 1_100_000_000)) == CARD
    assert costs.updated_card("no cost line here", costs.Cost(99, 10**9)) == "no cost line here"


@pytest.mark.parametrize("cost", [costs.Cost(20.4, 900_000_000), costs.Cost(12, 1_400_000_000)])
def test_cost_line_is_rewritten_when_the_cost_moved(cost, monkeypatch):
    monkeypatch.setattr(costs, "cores", lambda: 4)
    updated = costs.updated_card(CARD, cost)
    today = datetime.date.today().isoformat()
    measured = f"run {cost.seconds:.0f} s, {cost.peak_bytes / 1e9:.1f} GB on 4 cores (measured {today})"
    assert updated == f"Reading 8 min · {measured} · [next](01_next.ipynb)"
    assert costs.updated_card(updated, cost) == updated


def test_costs_over_the_limits_are_said():
    assert costs.Cost(45, 1_500_000_000).over_limits() == ""
    assert costs.Cost(46, 1_600_000_000).over_limits() == (
        "46 s is over the limit of 45 s and 1.6 GB is over the limit of 1.5 GB"
    )


def test_peak_memory_is_that_of_processes_started_inside():
    program = "import time; block = bytearray({} * 10**6); time.sleep({})"
    earlier = subprocess.Popen([sys.executable, "-c", program.format(600, 30)])
    try:
        with costs.PeakMemory() as memory:
            subprocess.run([sys.executable, "-c", program.format(200, 1)], check=True)
    finally:
        earlier.kill()
        earlier.wait()
    assert 200e6 < memory.bytes < 400e6


# parameters


def test_parameters_are_names_and_literals():
    assert parameters.assigned('IMAGES = "drawn"  # or a folder\nEPOCHS: int = -1\nSIZES = [1, 2]') == {
        "IMAGES": "drawn",
        "EPOCHS": -1,
        "SIZES": [1, 2],
    }
    for source in ('OUT = f"run-{EPOCHS}"', "import os", "A, B = 1, 2"):
        with pytest.raises(parameters.ParameterError, match="not a name and a literal"):
            parameters.assigned(source)


def test_typed_values_take_the_kind_of_the_default(folder):
    assert parameters.typed("EPOCHS", "3", 1) == 3
    rate = parameters.typed("RATE", "1", 0.5)
    assert rate == 1.0
    assert isinstance(rate, float)
    assert parameters.typed("IMAGES", "13", "drawn") == "13"
    assert parameters.typed("SIZE", "None", None) is None
    with pytest.raises(parameters.ParameterError, match="EPOCHS is a whole number, and 'five' is not"):
        parameters.typed("EPOCHS", "five", 1)
    with pytest.raises(parameters.ParameterError, match="-p EPOCHS 1"):
        parameters.typed("EPOCHS", "True", 1)


def test_a_typed_path_is_meant_from_the_current_folder(folder):
    (folder.parent / "photos").mkdir()
    (folder.parent / "photos.tgz").touch()
    assert parameters.typed("IMAGES", "photos.tgz", "drawn") == str(folder.parent / "photos.tgz")
    assert parameters.typed("IMAGES", "./photos", "drawn") == str(folder.parent / "photos")
    assert parameters.typed("IMAGES", "photos", "drawn") == "photos"
    assert parameters.typed("BACKBONE", "timm/resnet18", "small") == "timm/resnet18"


def test_each_notebook_receives_the_parameters_it_has():
    available = {"a": {"EPOCHS": 1, "SEED": 2}, "b": {"EPOCHS": 5}}
    assert parameters.matched([("EPOCHS", "3"), ("SEED", "4")], available) == {
        "a": {"EPOCHS": 3, "SEED": 4},
        "b": {"EPOCHS": 3},
    }


def test_unknown_parameter_names_its_neighbors():
    with pytest.raises(parameters.ParameterError, match=r"04_x has no parameter 'EPOCH'\. Did you mean 'EPOCHS'\?"):
        parameters.matched([("EPOCH", "3")], {"04_x": {"EPOCHS": 1}})
    with pytest.raises(parameters.ParameterError, match=r"None of the 2 notebooks has a parameter 'epochs'.*'EPOCHS'"):
        parameters.matched([("epochs", "3")], {"a": {"EPOCHS": 1}, "b": {}})


# selection


def test_notebooks_are_chosen_by_path_name_or_number(folder):
    paths = [notebook(folder / name) for name in ("04_tune.ipynb", "05_edit.ipynb")]
    relative = [Path("notebooks") / path.name for path in paths]
    assert runner.select() == relative
    assert runner.select(["05"]) == runner.select(["05_edit"]) == runner.select(["05_edit.ipynb"]) == relative[1:]
    assert runner.select([str(paths[0])]) == paths[:1]
    with pytest.raises(runner.SelectionError, match=r"no notebook '05_edits'\. Did you mean '05_edit'\?"):
        runner.select(["05_edits"])


def test_no_notebook_at_all_is_an_error(folder, capsys):
    assert main(["run"]) == 2
    assert "There is no notebook in 'notebooks'" in capsys.readouterr().err


# runs


def test_run_carries_on_after_a_failure_and_fails_at_the_end(folder, capsys):
    notebook(folder / "00_breaks.ipynb", code("print('before')"), code("1 / 0"), code("print('after')"))
    notebook(
        folder / "01_works.ipynb",
        code("block = bytearray(300 * 10**6)\nimport os, time\ntime.sleep(1)\nprint(os.path.basename(os.getcwd()))"),
        code("import ipywidgets\nwith ipywidgets.Output() as out:\n    print(EPOCHS)\nipywidgets.IntSlider()"),
        new_markdown_cell("[back](00_breaks.ipynb)"),
        heading="It <works>",
    )
    assert main(["run", "-p", "EPOCHS", "7"]) == 1

    build = folder.parent / "build"
    printed = capsys.readouterr()
    assert "00_breaks: cell [4] failed with ZeroDivisionError: division by zero" in printed.err
    assert re.search(r"^00_breaks +\d+\.\d s +\d\.\d\d GB +failed$", printed.out, re.MULTILINE)
    assert re.search(r"^01_works +\d+\.\d s +\d\.\d\d GB +ran$", printed.out, re.MULTILINE)
    assert "build/index.html" in printed.out
    assert outputs(build / "00_breaks.ipynb") == "before\n"
    assert outputs(build / "01_works.ipynb").startswith("notebooks\n")
    assert "EPOCHS = 7" in (build / "01_works.ipynb").read_text()

    first, second = json.loads((build / "report.json").read_text())["notebooks"]
    assert (first["status"], second["status"]) == ("failed", "ran")
    assert (second["title"], second["parameters"]) == ("It <works>", {"EPOCHS": 7})
    assert 1 < second["seconds"] < 60
    assert 3.2e8 < second["peak_bytes"] < 9e8

    index = (build / "index.html").read_text()
    assert all(f'href="{name}.html"' in index for name in ("00_breaks", "01_works"))
    assert "It &lt;works&gt;" in index
    assert "1 failed" in index
    assert "EPOCHS = 7" in index


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


def test_parameters_nobody_has_stop_before_anything_runs(folder, capsys):
    notebook(folder / "00_page.ipynb", code("print(1)"))
    assert main(["run", "-p", "EPOCS", "3"]) == 2
    assert "has no parameter 'EPOCS'. Did you mean 'EPOCHS'?" in capsys.readouterr().err
    assert not Path("build").exists()


def test_announced_errors_are_no_failure(folder):
    source = notebook(folder / "00_trap.ipynb", code("1 / 0", tags=["raises-exception"]), code("print('after')"))
    assert runner.execute(source, folder.parent / "out.ipynb").error == ""
    assert outputs(folder.parent / "out.ipynb") == "after\n"
    assert "Exception was encountered" not in (folder.parent / "out.ipynb").read_text()

    source = notebook(folder / "01_breaks.ipynb", code("1 / 0", tags=["raises-exception"]), code("int('x')"))
    assert "cell [3] failed with ValueError" in runner.execute(source, folder.parent / "out.ipynb").error


def test_a_cell_that_never_ends_is_stopped(folder):
    source = notebook(folder / "00_hangs.ipynb", code("import time\ntime.sleep(600)"))
    start = time.monotonic()
    outcome = runner.execute(source, folder.parent / "out.ipynb", timeout=2)
    assert "still running after 2 s" in outcome.error
    assert time.monotonic() - start < 60


def test_a_kernel_that_dies_is_reported(folder):
    source = notebook(folder / "00_dies.ipynb", code("import os\nos._exit(1)"))
    assert "died" in runner.execute(source, folder.parent / "out.ipynb").error


def test_slow_and_large_default_runs_are_warned_about(folder, capsys, monkeypatch):
    notebook(folder / "00_page.ipynb")
    monkeypatch.setattr(
        runner, "execute", lambda path, *_, **__: runner.Outcome(path.stem, "", costs.Cost(50, 2 * 10**9))
    )
    assert main(["run"]) == 0
    assert "Warning: 00_page: 50 s is over the limit of 45 s and 2.0 GB" in capsys.readouterr().out
    assert main(["run", "-p", "EPOCHS", "9"]) == 0
    assert "Warning" not in capsys.readouterr().out


# rendering


def test_render_stores_the_default_run_in_normal_form(folder, capsys):
    path = notebook(folder / "00_page.ipynb", code("print(EPOCHS)"), code("import ipywidgets\nipywidgets.IntSlider()"))
    assert main(["render"]) == 0, capsys.readouterr().out
    stored = path.read_text()
    assert outputs(path) == "1\n"
    assert "widget-view" not in stored
    assert "papermill" not in stored
    assert "injected-parameters" not in stored
    assert normalizer.is_normalized(path)
    assert costs.card_cost(nbformat.read(path, as_version=4).cells[0].source).seconds < 12

    assert main(["render"]) == 0
    assert path.read_text() == stored


def test_render_leaves_a_failing_notebook_alone(folder):
    path = notebook(folder / "00_breaks.ipynb", code("1 / 0"))
    before = path.read_bytes()
    assert main(["render"]) == 1
    assert path.read_bytes() == before


def test_render_keeps_what_ray_made_where_ray_is_missing(folder, monkeypatch):
    cell = code("print('no Ray')", new_output("stream", text="made by Ray\n"), tags=["ray"], count=1)
    path = notebook(folder / "00_cluster.ipynb", cell, code("print('any')"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    main(["render"])
    assert outputs(path) == "made by Ray\nany\n"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    before = nbformat.read(path, as_version=4).cells[0].source
    main(["render"])
    assert outputs(path) == "no Ray\nany\n"
    assert nbformat.read(path, as_version=4).cells[0].source == before, "the cost line is that of a run without Ray"


# normal form


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def executed() -> nbformat.NotebookNode:
    """A notebook as a run leaves it."""
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "a1"}, "text/plain": "IntSlider(value=0)"}
    bar = {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "fit:   0%|    | 0/27 [00:00<?, ?batch/s]"}
    error = new_output("error", ename="KeyError", evalue="'fc3'", traceback=["File /home/somebody/tlkit/graph.py:3"])
    cells = [
        new_markdown_cell("# Title"),
        code("a", new_output("stream", text="10%\r100%\n"), new_output("stream", text="done\n"), tags=["t"], count=4),
        code("b", new_output("execute_result", data=view, execution_count=6), count=6),
        code("c", new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {}}), count=7),
        code("bar", new_output("display_data", data=bar), new_output("stream", text="fitted\n"), count=7),
        code("d", error, tags=["raises-exception"], count=8),
        code("e"),
    ]
    cells[0].metadata["papermill"] = {"duration": 1}
    book = new_notebook(cells=cells, metadata={"widgets": {"state": {}}, "papermill": {}})
    book.metadata["language_info"] = {"name": "python", "version": "3.11.7"}
    return book


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


# rules of the house


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
