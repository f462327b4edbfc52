"""Curves, confusion matrices and bars."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from drawings import history, patches, texts
from matplotlib.colors import to_rgb

from tlkit import plots
from tlkit.colors import FROZEN, RIGHT, TRAINABLE, WRONG
from tlkit.training.evaluation import Evaluation

# learning_curves


def test_test_accuracy_is_dashed_and_training_loss_solid():
    accuracy = plots.learning_curves(history(0.9)).figure.axes[0]
    loss = plots.learning_curves(history(0.9), show="loss").figure.axes[0]
    assert {line.get_linestyle() for line in accuracy.lines} == {"--"}
    assert {line.get_linestyle() for line in loss.lines} == {"-"}
    assert accuracy.get_ylim() == (0, 1)
    assert loss.get_ylim()[0] == 0


@pytest.mark.parametrize("level", [0.0, 0.5, 0.9])
def test_curves_are_labeled_at_their_ends_without_overlap(level):
    runs = {"head": history(level + 0.09), "two blocks": history(level + 0.08), "one block": history(level + 0.085)}
    axes = plots.learning_curves(runs).figure.axes[0]
    assert [label.get_text().rsplit(" ", 1)[0] for label in axes.texts] == ["two blocks", "one block", "head"]
    heights = [label.get_position()[1] * axes.bbox.height for label in axes.texts]
    assert all(above - below >= 17 for below, above in pairwise(heights))
    assert heights[0] >= 0
    assert heights[-1] <= axes.bbox.height + 5
    assert all(abs(height - (level + 0.085) * axes.bbox.height) < 45 for height in heights)
    assert axes.get_legend() is None


def test_the_title_of_curves_tells_the_outcome():
    runs = {"transferred": history(0.9), "from scratch": history(0.4)}
    assert plots.learning_curves(runs, batch_size=15).alt.startswith(
        "transferred: accuracy reaches 90% after 450 images seen; from scratch 40%."
    )
    assert plots.learning_curves(runs, title="Mine").alt.startswith("Mine.")
    assert plots.learning_curves(history(0.6), show="loss").alt.startswith("Loss falls to 1.03 after 30 iterations.")
    worse = SimpleNamespace(losses=[1.0, 2.0], evaluations=[(1, 0.9), (2, 0.6)])
    assert plots.learning_curves(worse).alt.startswith("Accuracy ends at 60% after 2 iterations.")
    assert plots.learning_curves(worse, show="loss").alt.startswith("Loss ends at 2.00 after 2 iterations.")


def test_without_evaluations_the_loss_is_drawn():
    plain = SimpleNamespace(losses=[2.0, 1.0], evaluations=[])
    assert plots.learning_curves(plain).figure.axes[0].get_ylabel().startswith("loss on training images")


def test_a_diverged_run_is_called_so():
    broken = SimpleNamespace(losses=[1.0, 9.0, float("nan"), float("inf")], evaluations=[])
    assert "Loss has diverged after 2 iterations" in plots.learning_curves(broken).alt


def test_curves_that_cannot_be_drawn_say_why():
    with pytest.raises(ValueError, match="history has no finite loss"):
        plots.learning_curves(SimpleNamespace(losses=[], evaluations=[]))
    with pytest.raises(ValueError, match="run was never evaluated"):
        plots.learning_curves({"run": SimpleNamespace(losses=[1.0], evaluations=[])}, show="accuracy")
    with pytest.raises(ValueError, match="Did you mean 'accuracy'"):
        plots.learning_curves(history(0.9), show="acuracy")
    with pytest.raises(ValueError, match="the mapping of histories"):
        plots.learning_curves({})


# confusion_matrix


def test_a_confusion_matrix_writes_every_count_and_names_the_worst_mistake():
    predicted = torch.tensor([0, 0, 1, 1, 1, 0])
    labels = torch.tensor([0, 0, 0, 0, 1, 1])
    picture = plots.confusion_matrix(Evaluation(torch.eye(3)[predicted], labels, ("daisy", "roses", "tulips")))
    numbers = sorted(int(text) for text in texts(picture) if text.isdigit())
    assert numbers == [1, 1, 2, 2]
    assert picture.alt.startswith("The most frequent mistake: daisy taken for roses, 2 of 4.")
    assert "3 of 6 correct" in picture.alt
    shades = picture.figure.axes[0].images[0].get_array()
    assert shades[2].tolist() == [[1, 1, 1]] * 3  # no tulips at all: white
    half = 0.5**0.5  # the shade of one half of a row
    np.testing.assert_allclose(shades[0, 0], 1 - half * (1 - np.array(to_rgb(RIGHT))), rtol=1e-6)
    np.testing.assert_allclose(shades[1, 0], 1 - half * (1 - np.array(to_rgb(WRONG))), rtol=1e-6)


def test_a_perfect_confusion_matrix_says_so():
    picture = plots.confusion_matrix(Evaluation(torch.eye(3), torch.arange(3)))
    assert picture.alt.startswith("All 3 images are classified correctly.")


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 20, 60, 300])
def test_a_confusion_matrix_fits_any_number_of_classes(count):
    names = tuple(f"a rather long class name {number}" for number in range(count))
    picture = plots.confusion_matrix(Evaluation(torch.eye(count), torch.arange(count), names))
    assert len(picture.encoded[1]) < 60_000
    assert len(texts(picture)) == (3 + 3 * count if count <= 20 else 3 + 2 * count)


# bars


def test_bars_start_at_zero_and_are_as_long_as_their_values():
    picture = plots.bars({"small": 25, "large": 50}, "Twice as much", unit="s")
    small, large = picture.figure.axes[0].patches
    assert small.get_x() == large.get_x()
    assert large.get_width() == pytest.approx(2 * small.get_width())
    assert {"25 s", "50 s"} <= set(texts(picture))


def test_a_full_bar_of_percentages_is_100():
    half, full = (plots.bars({"a": value}, "A", unit="%").figure.axes[0].patches[0].get_width() for value in (50, 100))
    assert half == pytest.approx(full / 2, rel=0.05)


def test_bars_called_frozen_and_trainable_carry_their_colors():
    picture = plots.bars({"frozen": 134260544, "trainable": 20485}, "One in 6,500 is trained", unit="parameters")
    [frozen], [trainable] = patches(picture, FROZEN), patches(picture, TRAINABLE)
    assert frozen.get_hatch()
    assert not trainable.get_hatch()
    assert "134,260,544 parameters" in texts(picture)


def test_bars_refuse_negative_and_missing_values():
    with pytest.raises(ValueError, match="'b' is -1"):
        plots.bars({"a": 1, "b": -1}, "No")
    with pytest.raises(ValueError, match="'a' is nan"):
        plots.bars({"a": float("nan")}, "No")
    with pytest.raises(ValueError, match="there is no value"):
        plots.bars({}, "No")
