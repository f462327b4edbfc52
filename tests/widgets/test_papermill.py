"""Widgets in a notebook that papermill runs: the file that is left holds how they stood at the end."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("ipywidgets")

from tlkit.course.lessons import normalizer, runner

pytestmark = pytest.mark.slow  # runs notebooks

ROOT = Path(__file__).parents[2]
STATES = "application/vnd.jupyter.widget-state+json"
CELLS = (
    """\
import torch

import tlkit as tl

torch.manual_seed(0)
labels = torch.arange(120) % 3
rows = torch.randn(3, 16)[labels] + torch.randn(120, 16)
empty = tl.Network({}, inputs={"x": (16,)}, outputs=["x"])
edit = tl.TransferLearning(empty).add_layer("hidden", tl.Dense(8), "x").add_layer("answer", tl.Output(3), "hidden")
net = edit.set_outputs("answer").build()""",
    """\
picker = tl.FreezePicker(net)
picker""",
    """\
picker.boundary = None
picker.boundary = "hidden"
print(picker.code)""",
    """\
monitor = tl.TrainingMonitor(tl.fit, net, (rows, labels), epochs=2, batch_size=30, test=(rows, labels))
history = await monitor.run()""",
    """\
print("training has ended:", len(history.losses) == 8 and not monitor.running)
designer = tl.HeadDesigner(tl.Features({"x": rows}, labels, ("daisy", "roses", "tulips")))
designer""",
    """\
designer.layers = 64
print(len(designer.runs), "heads were trained")""",
)


@pytest.fixture(scope="module")
def executed(tmp_path_factory) -> nbformat.NotebookNode:
    """A notebook with three widgets, after papermill has run it."""
    folder = tmp_path_factory.mktemp("papermill")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "widgets.ipynb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))  # this checkout, whatever is installed
        outcome = runner.execute(folder / "widgets.ipynb", folder / "executed.ipynb", timeout=120)
    assert outcome.error == ""
    return normalizer.read(folder / "executed.ipynb")


@pytest.fixture(scope="module")
def states(executed) -> list[dict]:
    """The saved state of every widget, with its model's name."""
    saved = executed.metadata["widgets"][STATES]["state"]
    return [{"model": state["model_name"], **state["state"]} for state in saved.values()]


def texts(states) -> str:
    return "\n".join(str(state.get("value", "")) for state in states if state["model"] == "HTMLModel")


def html(cell) -> str:
    return "\n".join(output["data"].get("text/html", "") for output in cell.outputs if "data" in output)


def test_the_freeze_slider_stands_where_it_was_put_last(states):
    (slider,) = [state for state in states if state.get("description") == "Frozen up to"]
    assert slider["_options_labels"][slider["index"]] == "hidden"
    assert "136 (83.4%)" in texts(states)  # 16 x 8 weights and 8 biases of 163 parameters are frozen


def test_a_training_is_over_and_says_so(states):
    assert "Finished: 8 iterations." in texts(states)
    (bar,) = [state for state in states if state["model"] == "IntProgressModel"]
    assert (bar["value"], bar["max"]) == (8, 8)
    buttons = {state["description"]: state["disabled"] for state in states if state["model"] == "ButtonModel"}
    assert (buttons["Start"], buttons["Stop"]) == (False, True)


def test_every_head_has_its_row_of_results(states, executed):
    assert "The last 2 of 2 runs, newest first." in texts(states)
    assert executed.cells[-1].outputs[0].text == "2 heads were trained\n"


def test_what_viewers_without_widgets_see_is_the_end_of_the_training(executed):
    (training,) = [cell for cell in executed.cells if "await monitor.run" in cell.source]
    assert "Finished: 8 iterations." in html(training)
    assert re.search(r"test accuracy \d+\.\d%", html(training))
    assert "training has ended: True" in executed.cells[4].outputs[0].text


def test_the_normalized_notebook_keeps_the_faces_and_drops_the_states(executed):
    normal = normalizer.normalize(executed)
    assert "widgets" not in normal.metadata
    assert "Finished: 8 iterations." in html(normal.cells[3])
    assert "application/vnd.jupyter.widget-view+json" not in str(normal)
