"""The time that is left, as coarse as a guess is."""

from __future__ import annotations

import pytest

pytest.importorskip("ipywidgets")

from tlkit.widgets.stopwatch import describe_seconds, seconds_left


def test_time_left_is_that_of_the_steps_so_far_and_coarse():
    assert seconds_left(0, 30, 0.0) is None
    assert seconds_left(1, 30, 2.0) is None
    assert seconds_left(10, 30, 5.0) == 10.0
    assert seconds_left(30, 30, 5.0) == 0
    assert [describe_seconds(value) for value in (0.2, 1, 9.1, 11, 61, 91, 5400, 9000)] == [
        "1 s", "1 s", "10 s", "20 s", "70 s", "2 min", "90 min", "2.5 h",
    ]  # fmt: skip
