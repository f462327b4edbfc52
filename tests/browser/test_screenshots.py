"""The pictures of widgets in docs/, made anew by TLKIT_SCREENSHOTS=1 python -m pytest tests/browser -k screenshots."""

from __future__ import annotations

import io
import re

import pytest
from front_ends import ROOT
from notebook_page import NotebookPage
from PIL import Image
from playing import expect
from small_notebook import write_notebook
from touching import LABELS

pytestmark = pytest.mark.browser

MOST = 150_000  # bytes
COLORS = 128
CELLS = (
    """\
import torch

import tlkit as tl

with torch.device("meta"):
    vgg16 = tl.zoo.load("vgg16", weights=None)
picker = tl.FreezePicker(vgg16)
picker.boundary = "block4_pool"
picker""",
    """\
imagenet = tl.zoo.load()
flowers = tl.images.load("flowers", size=imagenet.preprocessing)
places = imagenet.landmarks
net = (
    tl.TransferLearning(imagenet)
    .fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Nesterovs(lr=0.01, momentum=0.9), seed=12345))
    .set_feature_extractor(places.penultimate)
    .remove_vertex_keep_connections(places.head)
    .add_layer(places.head, tl.Output(len(flowers.classes)), places.penultimate)
    .build()
)
helper = tl.TransferLearningHelper(net)
train, test = (helper.featurize(images, progress=False) for images in (flowers.train, flowers.test))
designer = tl.HeadDesigner(train, test)
designer""",
    """\
monitor = tl.TrainingMonitor(helper.fit_featurized, train, epochs=6, batch_size=15, test=test, test_every=6)
monitor""",
)


@pytest.fixture(scope="module")
def notebook(server, browser):
    """A notebook with the three widgets, on a sharp screen."""
    write_notebook(server.folder / "screenshots.ipynb", CELLS)
    context = browser.browser.new_context(
        viewport={"width": 1240, "height": 2400}, device_scale_factor=2, reduced_motion="reduce"
    )
    shown = NotebookPage(context.new_page(), server).open("screenshots.ipynb").run_all()
    yield shown
    shown.close()
    context.close()


def picture_of(notebook, widget: str, name: str) -> None:
    """Write a widget's picture, in few colors, to docs/."""
    notebook.page.evaluate("() => document.activeElement?.blur()")
    shot = Image.open(io.BytesIO(notebook.widget(LABELS[widget]).screenshot())).convert("RGB")
    path = ROOT / "docs" / f"{name}.png"
    shot.quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True)
    assert path.stat().st_size < MOST


def test_screenshots_of_the_freeze_picker(notebook):
    expect(notebook.widget(LABELS["FreezePicker"])).to_contain_text("Frozen up to block4_pool")
    picture_of(notebook, "FreezePicker", "freeze-picker")


def test_screenshots_of_the_head_designer(notebook):
    designer = notebook.widget(LABELS["HeadDesigner"])
    for runs in (2, 3):
        notebook.press(designer.get_by_role("slider", name="Hidden layer 1"), "ArrowRight")
        expect(designer).to_contain_text(f"The last {runs} of {runs} runs, newest first.")
    picture_of(notebook, "HeadDesigner", "head-designer")


def test_screenshots_of_the_training_monitor(notebook):
    monitor = notebook.widget(LABELS["TrainingMonitor"])
    monitor.get_by_role("button", name="Start").click()
    expect(monitor).to_contain_text(re.compile(r"Finished: \d+ iterations\."))
    picture_of(notebook, "TrainingMonitor", "training-monitor")
