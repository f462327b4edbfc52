"""What a reader does with each widget, and what can be read in it then."""

from __future__ import annotations

import re
from pathlib import Path

from notebook_page import NotebookPage
from playing import Locator, expect

__all__ = [
    "LABELS",
    "change_the_head",
    "choose_mistakes",
    "move_the_boundary",
    "row",
    "start_and_finish",
    "start_and_stop",
    "upload",
]

# a text by which each widget is found on a page
LABELS = {
    "FreezePicker": "Frozen up to",
    "HeadDesigner": "Hidden layer 1",
    "TrainingMonitor": "Progress",
    "Predictor": "Upload a photo",
    "MistakeBrowser": "All mistakes",
}


def move_the_boundary(notebook: NotebookPage) -> None:
    """Move the freeze slider and the boundary of the drawn network by keys, and read other figures each time."""
    picker = notebook.widget(LABELS["FreezePicker"])
    frozen, read = row(picker, "Parameters frozen"), row(picker, "The trainable part reads")
    slider = picker.get_by_role("slider", name="Frozen up to", exact=True)
    strip = picker.get_by_role("slider", name="Boundary in the drawn network")
    places = int(strip.get_attribute("aria-valuemax"))
    for control in (slider, strip):
        notebook.press(control, "End")
        expect(strip).to_have_attribute("aria-valuenow", str(places))
        before = frozen.inner_text()
        notebook.press(control, "ArrowLeft", "ArrowLeft", "ArrowLeft")
        expect(strip).to_have_attribute("aria-valuenow", str(places - 3))
        expect(frozen).not_to_have_text(before, use_inner_text=True)
        notebook.press(control, "Home")
        expect(frozen).to_contain_text("0 (0.0%)")
        expect(read).to_contain_text("the image itself")
    expect(strip).to_have_attribute(
        "aria-valuetext", re.compile(r"^Nothing frozen: 0 parameters frozen, [\d,]+ trainable")
    )


def change_the_head(notebook: NotebookPage) -> None:
    """Give the first hidden layer another size by a key, and read a new accuracy in a new row."""
    designer = notebook.widget(LABELS["HeadDesigner"])
    expect(designer).to_contain_text(re.compile(r"Test accuracy \d+\.\d% \([\d,]+ rows\)"))
    runs = designer.get_by_role("table").last.get_by_role("row")
    before = runs.count()
    size = designer.locator(".widget-readout").first
    notebook.press(designer.get_by_role("slider", name="Hidden layer 1"), "ArrowRight")
    expect(runs).to_have_count(before + 1)
    width = size.inner_text()
    expect(designer).to_contain_text(re.compile(rf"Test accuracy \d+\.\d% .*\b{width}\b"))
    newest = runs.nth(1).get_by_role("cell")
    expect(newest.nth(1)).to_contain_text(width)
    expect(newest.nth(2)).to_contain_text(re.compile(r"\d+\.\d%"))


def start_and_stop(notebook: NotebookPage) -> None:
    """Start to train, and stop it before its end."""
    monitor = notebook.widget(LABELS["TrainingMonitor"])
    monitor.get_by_role("button", name="Start").click()
    expect(monitor).to_contain_text(re.compile(r"Training: iteration [\d,]+ of [\d,]+, epoch"))
    monitor.get_by_role("button", name="Stop").click()
    expect(monitor).to_contain_text(re.compile(r"Stopped after iteration [\d,]+ of [\d,]+: by hand\."))
    expect(monitor.get_by_role("button", name="Start")).to_be_enabled()


def start_and_finish(notebook: NotebookPage) -> None:
    """Start a training that takes no time, and read how it ended."""
    monitor = notebook.widget(LABELS["TrainingMonitor"])
    monitor.get_by_role("button", name="Start").click()
    expect(monitor).to_contain_text("started again")
    expect(monitor).to_contain_text(re.compile(r"Finished: [\d,]+ iterations\."))


def upload(notebook: NotebookPage, photo: Path) -> Locator:
    """Choose a photo, and return the table of the network's answers to it."""
    predictor = notebook.widget(LABELS["Predictor"])
    predictor.get_by_label("Upload a photo").set_input_files(photo)
    expect(predictor).to_contain_text("Your photo, cut to the square that the network sees.")
    expect(predictor.get_by_role("img", name="Your photo")).to_be_visible()
    return predictor.get_by_role("table").last


def choose_mistakes(notebook: NotebookPage) -> None:
    """Choose the second entry of the list of mistakes by a key, and read that its pictures are shown."""
    browser = notebook.widget(LABELS["MistakeBrowser"])
    choice = browser.get_by_role("combobox", name="Show")
    entry = choice.get_by_role("option").nth(1).text_content().replace("\xa0", " ")
    what, count = re.fullmatch(r"(.*) \((\d+)\)", entry).groups()
    notebook.press(choice, "ArrowDown")
    expect(browser).to_contain_text(
        re.compile(rf"{re.escape(what)}: pictures 1 to \d+ of {count}, largest loss first\.")
    )
    expect(browser.get_by_role("img").first).to_be_visible()


def row(widget: Locator, label: str) -> Locator:
    """Return the row of a table of figures."""
    return widget.get_by_role("row", name=re.compile(f"^{re.escape(label)}"))
