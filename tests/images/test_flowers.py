"""The brush, and outlines of petals and leaves."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tlkit.images.flowers import UP, Brush, blade


def test_a_brush_places_a_tilted_plane_where_it_belongs():
    brush = Brush(Image.new("RGB", (100, 100)), UP).moved(0.5 + 0.5j, np.pi / 2, 0.2, squash=0.5)
    x_axis, y_axis = np.array(brush._placed(np.array([1, 1j]))).reshape(2, 2)
    assert x_axis == pytest.approx([50, 70])
    assert y_axis == pytest.approx([40, 50])
    assert abs(brush.lit) == pytest.approx(np.pi)


def test_a_blade_grows_from_zero_to_its_length():
    outline = blade(2.0, 0.5)
    assert outline.real.min() == 0
    assert outline.real.max() == pytest.approx(2)
    assert np.ptp(outline.imag) == pytest.approx(0.5)
