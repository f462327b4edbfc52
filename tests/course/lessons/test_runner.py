"""Notebooks chosen and run: errors that were announced, cells that hang, kernels that die."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from small_notebooks import code, notebook, outputs

from tlkit.course.lessons import runner

pytestmark = pytest.mark.slow  # runs notebooks


def test_notebooks_are_chosen_by_path_name_or_number(folder):
    paths = [notebook(folder / name) for name in ("04_tune.ipynb", "05_edit.ipynb")]
    relative = [Path("notebooks") / path.name for path in paths]
    assert runner.select() == relative
    assert runner.select(["05"]) == runner.select(["05_edit"]) == runner.select(["05_edit.ipynb"]) == relative[1:]
    assert runner.select([str(paths[0])]) == paths[:1]
    with pytest.raises(runner.SelectionError, match=r"no notebook '05_edits'\. Did you mean '05_edit'\?"):
        runner.select(["05_edits"])


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
