"""The rows of controls of a HeadDesigner."""

from __future__ import annotations

import pytest

import tlkit as tl

pytest.importorskip("ipywidgets")

from tlkit.widgets.head_rows import HiddenRow, OutputRow


def test_a_row_says_the_layer_that_it_was_given():
    row, told = HiddenRow(1), []
    assert row.layer is None
    row.on_change(told.append)
    row.layer = tl.Dense(100, activation="tanh", dropout=0.5)
    assert (row.layer.n_out, row.layer.activation, row.layer.dropout) == (100, "tanh", 0.5)
    assert told
    row.layer = None
    assert row.layer is None


def test_the_output_has_a_unit_for_each_class():
    row = OutputRow(("a", "b", "c"))
    assert row.layer.n_out == 3
    row.layer = tl.Output(3, dropout=0.25)
    assert row.layer.given()["dropout"] == 0.25
