"""The figure of cut points: accuracy against each of three costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tlkit import plots
from tlkit.features.rows import Features
from tlkit.profiling import CutProfile, FreezeProfile


def cut_profile(*accuracies: float) -> FreezeProfile:
    """A network of convolutions that halve what they cost."""
    rows = [
        CutProfile(f"conv{place}", (8, 4, 4), 50, 10**6 >> place, 10**9 >> place, 8.0 / 2**place, accuracy)
        for place, accuracy in enumerate(accuracies)
    ]
    data = Features({row.boundary: torch.zeros(2, 8) for row in rows}, torch.arange(2), ("daisy", "roses"))
    return FreezeProfile(tuple(rows), data, data)


def test_each_cut_point_stands_at_its_accuracy_and_its_three_costs():
    profile = cut_profile(0.3, 0.6, 0.9, 0.8)
    picture = plots.freeze_profile(profile)
    panels = picture.figure.axes
    assert [panel.get_xlabel() for panel in panels] == ["trainable parameters", "size of the store", "seconds an epoch"]
    for panel, costs in zip(panels, ("trainable", "store_bytes", "seconds"), strict=True):
        (line,) = panel.lines
        assert line.get_xdata().tolist() == [getattr(row, costs) for row in profile.rows]
        assert line.get_ydata().tolist() == [0.3, 0.6, 0.9, 0.8]
        assert panel.get_ylim() == (0, 1)
    assert picture.alt.startswith("Best linear head: 90% at conv2. ")
    assert repr(picture) == "Picture('Accuracy at 4 cut points against what they cost')"


def test_the_choice_is_ringed_in_each_panel_and_named():
    picture = plots.freeze_profile(cut_profile(0.3, 0.6, 0.9), choice="conv1")
    for panel in picture.figure.axes:
        ring = panel.lines[-1]
        assert (ring.get_markerfacecolor(), ring.get_ydata().tolist()) == ("none", [0.6])
    (legend,) = picture.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["your choice: conv1"]
    assert "60% at conv1" in picture.alt
    assert "The choice that is marked: conv1 60% with 500,000 trainable parameters, 500 MB and 4 s." in picture.alt


def test_networks_are_told_apart_by_more_than_color():
    picture = plots.freeze_profile({"one": cut_profile(0.3, 0.6), "another": cut_profile(0.2, 0.4)}, choice="conv0")
    first, second, *rings = picture.figure.axes[0].lines
    assert first.get_marker() != second.get_marker()
    assert first.get_linestyle() != second.get_linestyle()
    assert [ring.get_ydata().tolist() for ring in rings] == [[0.3], [0.2]]
    assert "one: 60% at conv1; another: 40% at conv1" in picture.alt


def test_a_cut_point_with_nothing_behind_it_is_drawn_on_a_logarithmic_axis():
    profile = cut_profile(0.3, 0.6)
    rows = (profile.rows[0], replace(profile.rows[1], trainable=0))
    assert plots.freeze_profile(replace(profile, rows=rows)).encoded[1]


def test_a_choice_that_is_no_cut_point_names_its_neighbors():
    with pytest.raises(KeyError, match=r"no cut point 'cnov1' to mark. Did you mean 'conv1'"):
        plots.freeze_profile(cut_profile(0.3, 0.6), choice="cnov1")


@pytest.mark.slow
def test_long_names_and_many_rows_keep_a_profile_small():
    many = {f"{'a rather long name ' * 6}{n}": cut_profile(*torch.linspace(0, 1, 20).tolist()) for n in range(3)}
    picture = plots.freeze_profile(many, choice="conv19")
    assert len(picture.encoded[1]) < 60_000
    picture.figure.draw_without_rendering()
    assert picture.figure.legends[0].get_window_extent().x1 <= 630
