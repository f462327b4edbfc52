"""The notebooks that have widgets, in JupyterLab: all cells run, and each widget does what its text promises."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest
from front_ends import ROOT
from notebook_page import NotebookPage
from playing import expect
from touching import (
    LABELS,
    change_the_head,
    choose_mistakes,
    move_the_boundary,
    start_and_finish,
    start_and_stop,
    upload,
)

pytestmark = pytest.mark.browser

PROMISED = {
    "00": {"FreezePicker"},
    "05": {"FreezePicker", "MistakeBrowser", "Predictor", "TrainingMonitor"},
    "06": {"HeadDesigner"},
    "07": {"FreezePicker", "TrainingMonitor"},
    "08": {"HeadDesigner"},
}
LONG = ("05", "07")  # trainings that a hand can stop
SAVES_STATE = "@jupyter-widgets/jupyterlab-manager:saveWidgetState"


def widgets_of(path: Path) -> set[str]:
    """The widgets that a notebook makes."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return set(re.findall(r"\btl\.(\w+)\(", code)) & set(LABELS)


NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"), reverse=True)  # those that take long come first
FOUND = {path.name: widgets for path in NOTEBOOKS if (widgets := widgets_of(path))}


def test_the_notebooks_have_the_widgets_that_the_course_promises():
    found = {name[:2]: widgets for name, widgets in FOUND.items()}
    assert {number: widgets for number, widgets in PROMISED.items() if not widgets <= found.get(number, set())} == {}


@pytest.mark.parametrize("name", FOUND)
def test_all_cells_run_and_every_widget_answers(open_alone, name, photo):
    notebook = open_alone(name)
    touch = {
        "FreezePicker": move_the_boundary,
        "HeadDesigner": change_the_head,
        "TrainingMonitor": start_and_stop if name[:2] in LONG else start_and_finish,
        "MistakeBrowser": choose_mistakes,
        "Predictor": lambda notebook: recognize(notebook, photo),
    }
    for widget in sorted(FOUND[name]):
        touch[widget](notebook)
    assert notebook.problems == []
    check_saved(notebook, photo)


def recognize(notebook: NotebookPage, photo: Path) -> None:
    """Upload a photo that the network has not seen, and read its class first."""
    answers = upload(notebook, photo)
    expect(answers.get_by_role("row").nth(1)).to_contain_text(photo.parent.name)


def check_saved(notebook: NotebookPage, photo: Path) -> None:
    """Save without and with the states of widgets: neither file holds the uploaded photo."""
    saved = notebook.save().read_text(encoding="utf-8")
    assert "widgets" not in json.loads(saved)["metadata"]
    notebook.command(SAVES_STATE)
    with_states = notebook.save().read_text(encoding="utf-8")
    notebook.command(SAVES_STATE)  # a switch, and other pages share it
    states = json.loads(with_states)["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    assert any(state["model_name"] == "HTMLModel" for state in states.values())
    assert not [state for state in states.values() if state.get("buffers")]  # where bytes would be
    content = base64.b64encode(photo.read_bytes()[300:600]).decode()
    assert content[8:-8] not in saved + with_states
