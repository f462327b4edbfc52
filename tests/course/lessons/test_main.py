"""The commands run and render, on small notebooks made here."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_markdown_cell, new_output
from small_notebooks import code, notebook, outputs

from tlkit.course.lessons import costs, normalizer, runner
from tlkit.course.lessons.__main__ import main

pytestmark = pytest.mark.slow  # runs notebooks


def test_no_notebook_at_all_is_an_error(folder, capsys):
    assert main(["run"]) == 2
    assert "There is no notebook in 'notebooks'" in capsys.readouterr().err


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


def test_parameters_nobody_has_stop_before_anything_runs(folder, capsys):
    notebook(folder / "00_page.ipynb", code("print(1)"))
    assert main(["run", "-p", "EPOCS", "3"]) == 2
    assert "has no parameter 'EPOCS'. Did you mean 'EPOCHS'?" in capsys.readouterr().err
    assert not Path("build").exists()


def test_slow_and_large_default_runs_are_warned_about(folder, capsys, monkeypatch):
    notebook(folder / "00_page.ipynb")
    monkeypatch.setattr(
        runner, "execute", lambda path, *_, **__: runner.Outcome(path.stem, "", costs.Cost(50, 2 * 10**9))
    )
    assert main(["run"]) == 0
    assert "Warning: 00_page: 50 s is over the limit of 45 s and 2.0 GB" in capsys.readouterr().out
    assert main(["run", "-p", "EPOCHS", "9"]) == 0
    assert "Warning" not in capsys.readouterr().out


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
