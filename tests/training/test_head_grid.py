"""Heads trained together: each ends as it would have ended alone."""

from __future__ import annotations

import pytest
import torch
from nets import blobs, furthest, weights

import tlkit as tl
from tlkit.features.rows import Features
from tlkit.training.head_grid import build_grid_head, head_grid

CLASSES = ("a", "b", "c")


@pytest.fixture(scope="module")
def features():
    x, y = blobs(50, width=6)
    return Features({"fc2": x[:40]}, y[:40], CLASSES), Features({"fc2": x[40:]}, y[40:], CLASSES)


def test_heads_trained_together_end_as_those_trained_one_after_another(features):
    grid = head_grid(*features, widths=(3, 8, 5), learning_rates=(0.01, 0.03), epochs=3, batch_size=16, seed=7)
    for key, head in grid.heads.items():
        alone = build_grid_head(features[0], *key, 7)
        start = weights(alone)
        tl.fit(alone, features[0], epochs=3, batch_size=16, progress=False)
        assert furthest(start, weights(alone)) > 1e-3
        assert furthest(weights(alone), weights(head)) < 1e-5
        assert grid.accuracies[key] == tl.evaluate(alone, features[1]).accuracy


def test_heads_can_be_trained_further(features):
    (head,) = head_grid(*features, widths=(8,), learning_rates=(0.01,), epochs=2).heads.values()
    alone = build_grid_head(features[0], 8, 0.01, 12345)
    assert tl.fit(alone, features[0], epochs=2, progress=False)
    assert head.epochs_seen == alone.epochs_seen == 2
    assert head.classes == CLASSES


def test_the_best_head_is_the_most_accurate_and_of_these_the_smallest(features):
    grid = head_grid(*features, widths=(16, 4, 8), learning_rates=(0.0001, 0.05), epochs=10)
    best = max(grid.accuracies.values())
    assert grid.accuracies[grid.best] == best
    assert grid.best[0] == min(width for (width, _), accuracy in grid.accuracies.items() if accuracy == best)


def test_a_grid_is_shown_as_a_table_and_named_without_measures(features):
    grid = head_grid(*features, widths=(4, 8), learning_rates=(0.001, 0.01, 0.1), epochs=1)
    assert repr(grid) == "HeadGrid(6 heads on 'fc2': 4 and 8 hidden units, learning rates 0.001, 0.01 and 0.1)"
    html = grid._repr_html_()
    assert html.count("<tr>") == 3
    assert html.count("%</td>") == 6
    assert html.count("font-weight:bold") == 1
    assert "held out" in html


def test_a_boundary_named_like_a_layer_of_the_heads_is_no_trouble(features):
    train, held_out = (Features({"predictions": f.tensors["fc2"]}, f.labels, CLASSES) for f in features)
    (head,) = head_grid(train, held_out, widths=(4,), learning_rates=(0.01,), epochs=1).heads.values()
    assert head.inputs == ("predictions",)


def test_features_with_height_and_width_are_refused():
    maps = Features({"conv": torch.randn(6, 4, 2, 2)}, torch.arange(6) % 3, CLASSES)
    with pytest.raises(ValueError, match=r"height and width has to be averaged.*profile.features\(name\)"):
        head_grid(maps, maps)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": ()}, r"widths are numbers above 0, one at least; got \(\)"),
        ({"widths": (0,)}, "widths are numbers above 0"),
        ({"learning_rates": (-1,)}, "learning_rates are numbers above 0"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(features, options, message):
    with pytest.raises(ValueError, match=message):
        head_grid(*features, **options)
