"""Runs compared: layers in words, and a table that marks the best."""

from __future__ import annotations

import pytest

import tlkit as tl

pytest.importorskip("ipywidgets")

from tlkit.widgets import Head
from tlkit.widgets.run_comparison import describe_layers, run_table


def test_layers_are_described_without_what_is_the_default():
    layers = [tl.Dense(8, activation="gelu", dropout=0.5, weight_init="zero"), tl.Output(3, dropout=0.1)]
    assert describe_layers(Head(layers)) == "8 gelu dropout 0.5 zero, output dropout 0.1"
    assert describe_layers(Head([tl.Output(3)])) == "none"


def test_before_the_first_run_there_is_no_table():
    assert run_table([], seconds=True) == ""
