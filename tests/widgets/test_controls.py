"""Controls that several widgets share."""

from __future__ import annotations

import pytest

pytest.importorskip("ipywidgets")

from tlkit.widgets.controls import make_button, make_toggles


def test_controls_have_labels_and_the_first_choice_is_pressed():
    assert (make_button("Go", "Begin").description, make_button("Go", "Begin").tooltip) == ("Go", "Begin")
    toggles = make_toggles("Show", ["one", "two"], label="90px")
    assert (toggles.description, toggles.value) == ("Show", "one")
