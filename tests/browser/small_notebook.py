"""A notebook with every widget of tlkit on networks so small that nothing takes time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

__all__ = ["CELLS", "write_notebook"]

CELLS = (
    """\
import ipywidgets
import torch
from torch import nn

import tlkit as tl

torch.manual_seed(0)
with torch.device("meta"):
    vgg16 = tl.zoo.load("vgg16", weights=None)""",
    "ipywidgets.Dropdown(options=['apple', 'banana', 'cherry'], description='Fruit')  # not guarded",
    """\
picker = tl.FreezePicker(vgg16)
picker""",
    """\
labels = torch.arange(300) % 3
centers = torch.randn(3, 16)
rows = centers[labels] + 1.5 * torch.randn(300, 16)
features = tl.Features({"cut": rows}, labels, ("daisy", "roses", "tulips"))
designer = tl.HeadDesigner(features)
designer""",
    """\
empty = tl.Network({}, inputs={"x": (16,)}, outputs=["x"])
net = tl.TransferLearning(empty).add_layer("answer", tl.Output(3), "x").set_outputs("answer").build()
monitor = tl.TrainingMonitor(tl.fit, net, (rows, labels), epochs=1_000_000, batch_size=100)
monitor""",
    """\
images = tl.images.load("flowers", size=64).test
layers = [nn.Conv2d(3, 8, 8, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
body = tl.Network.from_module(nn.Sequential(*layers), [torch.rand(1, 3, 64, 64)])
looker = tl.TransferLearning(body).add_layer("answer", tl.Output(len(images.classes))).build()
looker.preprocessing, looker.classes = tl.Preprocessing(size=64, resize=64), images.classes
predictor = tl.Predictor(looker, images)
predictor""",
    """\
guesses = torch.eye(len(images.classes)).roll(1, 0)[images.labels]  # each class taken for its neighbor
mistakes = tl.MistakeBrowser(tl.Evaluation(guesses, images.labels, images.classes), images)
mistakes""",
)


def write_notebook(path: Path, sources: Sequence[str]) -> None:
    """Write a notebook of code cells.

    Parameters
    ----------
    path : Path
        Where to.
    sources : sequence of str
        One for each cell.
    """
    cells = [
        {"cell_type": "code", "id": f"c{number:03}", "metadata": {}, "outputs": [], "execution_count": None,
         "source": source}
        for number, source in enumerate(sources)
    ]  # fmt: skip
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(notebook), encoding="utf-8")
