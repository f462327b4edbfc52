"""The drawn network as Python sees it; browser tests move it."""

from __future__ import annotations

import pytest

pytest.importorskip("ipywidgets")

from tlkit.widgets.network_strip import LEAST, NetworkStrip, widen


@pytest.mark.parametrize("amounts", [[1], [0, 0], [0, 5, 10], [1e9, 1, 0, 3], list(range(200)), [0.001, 0.002]])
def test_widths_fill_the_strip_and_none_vanishes(amounts):
    widths = widen(amounts)
    assert sum(widths) == pytest.approx(1)
    assert min(widths) >= min(LEAST, 1 / (2 * len(amounts))) * 0.999


def test_wide_blocks_are_to_scale_and_narrow_ones_in_order():
    narrow, one, three = widen([0.001, 1, 3])
    assert three / one == pytest.approx(3)
    assert narrow == LEAST


def test_a_strip_has_a_stable_text():
    assert repr(NetworkStrip(names=["a", "b"])) == "NetworkStrip(2 vertices)"
