"""Grids of images: each with its class, what a network says of it, and words for the colors."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from drawings import FLOWERS, Photos, frames, patches, texts
from PIL import Image

from tlkit import plots
from tlkit.colors import GRID, RIGHT, WRONG


def test_a_grid_says_correct_or_wrong_in_words_and_frames(evaluation):
    rows = [0, 1, 2, 3, 4, 5, 6]
    picture = plots.image_grid(Photos(), rows, probabilities=evaluation.probabilities)
    right = int((evaluation.predicted == evaluation.labels)[rows].sum())
    assert 0 < right < 7
    written = texts(picture)
    assert written.count("correct") == right == frames(picture, RIGHT)
    assert written.count("wrong") == 7 - right == frames(picture, WRONG)
    assert f"{right} of these 7 images are classified correctly" in picture.alt
    assert picture.alt.count(", wrong") == 7 - right


def test_the_bars_of_a_grid_are_as_long_as_the_probabilities(evaluation):
    picture = plots.image_grid(Photos(), [8], probabilities=evaluation.probabilities, columns=4)
    [empty] = patches(picture, GRID)
    [bar] = patches(picture, RIGHT) + patches(picture, WRONG)
    assert bar.get_width() / empty.get_width() == pytest.approx(evaluation.probabilities[8].max().item(), abs=1e-6)


def test_labels_and_probabilities_follow_the_chosen_rows():
    probabilities = torch.nn.functional.one_hot(torch.arange(40) % 5, 5).float()
    picture = plots.image_grid(Photos(), torch.tensor([39, 3]), probabilities=probabilities)
    assert picture.alt.endswith(
        "tulips predicted tulips with 100%, correct; sunflowers predicted sunflowers with 100%, correct."
    )


@pytest.mark.parametrize("labels", [torch.arange(400) // 80, torch.arange(400) % 5])
def test_a_grid_without_rows_spreads_over_the_classes(labels):
    photos = Photos(400)
    photos.labels = labels
    picture = plots.image_grid(photos)
    assert [texts(picture).count(name) for name in FLOWERS] == [3] * 5
    assert texts(picture)[0] == "15 of 400 images"


def test_photos_are_kept_as_jpeg_with_a_white_page_and_charts_as_png():
    noise = torch.rand(3, 3, 6, 6, generator=torch.Generator().manual_seed(4))
    pale = 200 + 55 * torch.nn.functional.interpolate(noise, size=(224, 224), mode="bicubic").clamp(0, 1)
    picture = plots.image_grid(pale.byte(), probabilities=torch.eye(3), labels=torch.arange(3), columns=3)
    mime, data = picture.encoded
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert mime == "image/jpeg"
    assert (pixels[:, -1] > 250).all()
    assert len(np.unique(pixels[60:180, 60:180].reshape(-1, 3), axis=0)) > 256
    assert plots.bars({"a": 1}, "A bar").encoded[0] == "image/png"


def test_the_images_of_a_grid_stand_in_the_order_of_the_rows():
    colors = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=torch.uint8)
    images = colors[:, :, None, None].expand(3, 3, 8, 8)

    class Plain(Photos):
        def batches(self, batch_size, order=None):
            yield images[order], self.labels[order]

    for data in (images, Plain(3)):
        drawn = plots.image_grid(data, [2, 0]).figure.axes[0].images
        assert [image.get_array()[0, 0].tolist() for image in drawn] == [[0, 0, 255], [255, 0, 0]]
        assert drawn[0].get_extent()[0] < drawn[1].get_extent()[0]


def test_a_grid_takes_plain_tensors():
    images = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    assert "3" in texts(plots.image_grid(images, labels=torch.tensor([3, 1])))
    assert "roses 100%" in texts(plots.image_grid(images, probabilities=torch.eye(5)[[2, 0]], classes=FLOWERS))


@pytest.mark.parametrize(
    ("rows", "options", "sentence"),
    [
        (range(16), {}, r"1 to 15 images; got 16 rows.*rows\[:15\]"),
        ([], {}, "got 0 rows"),
        ([2, 40], {}, "Row 40 does not exist.*0 to 39"),
        ([-1], {}, "Row -1 does not exist"),
        ([0], {"probabilities": torch.eye(5)}, "one row of probabilities per image: got 5 for 40"),
        ([0], {"columns": 0}, "1 to 8; got 0"),
    ],
)
def test_a_grid_that_cannot_be_drawn_says_why(rows, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        plots.image_grid(Photos(), rows, **options)


def test_a_grid_refuses_empty_data_and_normalized_images():
    with pytest.raises(ValueError, match="no images to show"):
        plots.image_grid(torch.zeros(0, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"uint8 of shape \(n, 3, height, width\); got torch.float32"):
        plots.image_grid(torch.zeros(2, 3, 8, 8))
