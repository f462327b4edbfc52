"""Every widget in JupyterLab, Notebook 7 and Voila: what is read in it, and that keys meant for it stay in it."""

from __future__ import annotations

import re

import pytest
from notebook_page import FRONT_ENDS
from playing import expect
from touching import LABELS, change_the_head, choose_mistakes, move_the_boundary, row, start_and_stop, upload

pytestmark = pytest.mark.browser

NOTEBOOK = "widgets.ipynb"
KEYS = ("ArrowDown", "ArrowRight", "ArrowUp", "ArrowLeft", "Home", "End", *"jkabcxvmyodd")
CONTROLS = "button, select, input, textarea, [tabindex='0']"


@pytest.fixture(params=FRONT_ENDS)
def notebook(request, open_notebook):
    """The small notebook in each front end."""
    return open_notebook(NOTEBOOK, request.param)


@pytest.fixture(params=["lab", "notebook"])
def cells(request, open_notebook):
    """The small notebook where it has cells."""
    return open_notebook(NOTEBOOK, request.param)


def test_the_boundary_moves_by_keys_and_the_figures_follow(notebook):
    move_the_boundary(notebook)
    picker = notebook.widget(LABELS["FreezePicker"])
    notebook.press(picker.get_by_role("slider", name="Boundary in the drawn network"), "End", "ArrowLeft", "ArrowLeft")
    expect(row(picker, "Parameters frozen")).to_contain_text("14,714,688 (10.6%)")
    expect(row(picker, "The trainable part reads")).to_contain_text("25,088 numbers")
    expect(picker).to_contain_text("Frozen up to flatten: 14,714,688 parameters frozen, 123,642,856 trainable.")


def test_several_boundaries_are_chosen_in_the_unfolded_list_by_keys(notebook):
    picker = notebook.widget(LABELS["FreezePicker"])
    notebook.unfold(picker)
    vertices = picker.get_by_role("listbox", name="Boundaries")
    vertices.select_option(["block1_pool", "block2_pool"])
    expect(picker).to_contain_text("Frozen up to block2_pool: 260,160 parameters frozen")
    expect(picker).to_contain_text('.set_feature_extractor("block2_pool")')


def test_another_size_of_the_head_gets_another_accuracy(notebook):
    change_the_head(notebook)


def test_training_is_started_and_stopped_by_buttons(notebook):
    start_and_stop(notebook)


def test_a_photo_is_uploaded_and_its_five_classes_are_shown(notebook, photo):
    answers = upload(notebook, photo)
    expect(answers.get_by_role("row")).to_have_count(1 + 5)
    expect(answers.get_by_role("row").nth(1)).to_contain_text(re.compile(r"\w+\s*\d+\.\d%"))


def test_a_file_that_is_no_photo_gets_a_sentence(notebook, tmp_path):
    (tmp_path / "letter.jpg").write_text("Dear reader", encoding="utf-8")
    predictor = notebook.widget(LABELS["Predictor"])
    predictor.get_by_label("Upload a photo").set_input_files(tmp_path / "letter.jpg")
    expect(predictor.get_by_role("alert")).to_contain_text("Your file cannot be read as a picture")


def test_mistakes_are_filtered(notebook):
    choose_mistakes(notebook)


@pytest.mark.parametrize("widget", LABELS)
def test_keys_in_a_control_never_reach_the_notebook(cells, widget):
    tried = 0
    for control in cells.widget(LABELS[widget]).locator(CONTROLS).all():
        if not control.is_visible() or not control.is_enabled():
            continue
        control.focus()
        before = cells.selection()
        cells.press(control, *KEYS)
        assert cells.selection() == before, control.evaluate("element => element.outerHTML")
        tried += 1
    assert tried >= 2


def test_without_a_guard_they_do_and_escape_leads_back(cells):
    """What the test above would see if the guard were gone."""
    plain = cells.page.get_by_role("combobox", name="Fruit")
    plain.focus()
    count, *_ = cells.selection()
    cells.press(plain, "b")
    assert cells.selection()[0] == count + 1
    cells.page.keyboard.press("z")  # undoes it
    assert cells.selection()[0] == count
    guarded = cells.widget(LABELS["FreezePicker"]).get_by_role("slider").first
    cells.press(guarded, "b")
    assert cells.selection()[0] == count
    cells.press(guarded, "Escape")
    cells.page.keyboard.press("b")
    assert cells.selection()[0] == count + 1
    cells.page.keyboard.press("z")
