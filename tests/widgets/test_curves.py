"""Charts of a running training: small, and drawn whatever the values are."""

from __future__ import annotations

import pytest

pytest.importorskip("ipywidgets")

from tlkit.widgets.curves import draw_line, draw_training
from tlkit.widgets.training_log import TrainingLog


def test_a_chart_of_very_many_points_stays_small_and_keeps_the_last():
    chart = draw_line("Loss.", [(step, 1 / step) for step in range(1, 100_001)], last=100_000)
    assert len(chart) < 8000
    assert chart.split('points="')[1].split('"')[0].split()[-1].startswith("388.0,")


@pytest.mark.parametrize("points", [[], [(1, 0.0)], [(1, float("nan")), (2, float("inf"))], [(1, -3.0), (2, 5.0)]])
def test_a_chart_of_odd_values_is_drawn(points):
    chart = draw_line("A < B.", points, last=2)
    assert "A &lt; B." in chart
    assert "nan" not in chart
    assert "inf" not in chart


def test_a_log_of_nothing_has_no_charts():
    assert draw_training(TrainingLog(), last=10) == ""
