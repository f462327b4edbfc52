"""The table of layers: escaped, in words, and never too long."""

from __future__ import annotations

import pytest

pytest.importorskip("ipywidgets")

from tlkit.widgets.layer_table import layer_table
from tlkit.widgets.training_log import LayerSteps


def test_each_layer_has_its_step_as_a_number_and_in_words():
    table = layer_table([LayerSteps("fc<2>", 0.01, 0.001), LayerSteps("head", None, 0.0)])
    assert "fc&lt;2&gt;" in table
    assert "−3.0" in table
    assert "does not move" in table
    assert layer_table([]) == ""


def test_of_very_many_layers_the_last_twenty_are_listed():
    table = layer_table([LayerSteps(f"layer{number}", 0.1, 0.001) for number in range(160)])
    assert table.count("<tr>") == 1 + 20
    assert "The first 140 of 160 layers are left out." in table
    assert "layer159" in table
