"""The checks of the exercises in notebook 02: right answers are right, wrong ones get their hint."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from answers import refused

import tlkit as tl


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (2936, "cut to the smallest first"),
        (2532, "each class gives the same"),
        (3165, "together"),
        (635, "that is the test set"),
        (506, "one class's share"),
        (2535, "rounded to 506"),
        (1, "Cut every class to the smallest"),
    ],
)
def test_pictures_to_train_on(number, hint):
    assert tl.check("02.1", 2530)
    refused("02.1", number, hint)


def test_a_batch_normalized_by_hand():
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.2])
    like_weights = tl.Preprocessing(mean=tuple(mean.tolist()), std=tuple(std.tolist()))
    images = torch.randint(256, (2, 3, 4, 4), dtype=torch.uint8)
    x, (mean, std) = images / 255, (values[:, None, None] for values in (mean, std))
    assert tl.check("02.2", (x - mean) / std, images, like_weights)
    refused("02.2", x / std - mean, "its mean is not", images, like_weights)
    refused("02.2", (images - mean) / std, "are too large", images, like_weights)
    refused("02.2", x, "some numbers differ", images, like_weights)
    refused("02.2", x[0], "the shape is (3, 4, 4)", images, like_weights)
    refused("02.2", 3, "the answer is a tensor", images, like_weights)


def images(*chosen):
    """Some of ten pictures of each of two classes: their numbers."""
    paths = [Path(kind) / f"{number}.jpg" for kind in ("daisy", "roses") for number in chosen]
    labels = torch.tensor([label for label in (0, 1) for _ in chosen])
    return Images(paths=tuple(paths), labels=labels, classes=("daisy", "roses"))


class Images(SimpleNamespace):
    def __len__(self):
        return len(self.paths)


def test_a_split_by_file_name():
    everything = images(*range(10))
    assert tl.check("02.3", (images(*range(8)), images(8, 9)), everything)
    refused("02.3", (images(*range(8)), images(7, 8, 9)), "2 pictures are in both sets, 7.jpg among them", everything)
    refused("02.3", (images(*range(8)), images(9)), "18 of 20 pictures are used", everything)
    refused("02.3", (images(*range(5)), images(5, 6, 7, 8, 9)), "has 5 of 10 pictures in the training set", everything)
    refused("02.3", (images(0, *range(3, 10)), images(1, 2)), "'9.jpg' is trained on, and '1.jpg'", everything)
    refused("02.3", everything, "a pair (train, test) of image sets", everything)
