"""A cut in words and figures."""

from __future__ import annotations

import pytest

pytest.importorskip("ipywidgets")

from faces import chain

from tlkit.widgets.cut_facts import cut_facts, cut_pictures, describe_cut
from tlkit.widgets.cuts import Cuts


def test_a_cut_is_described_by_its_boundary_and_its_parameters():
    cuts = Cuts(chain())
    cut = cuts.at(cuts.resolve(cuts.points[0]))
    assert (
        describe_cut(cut)
        == f"Frozen up to {cuts.points[0]}: {cut.frozen} parameters frozen, {cut.trainable} trainable."
    )
    assert describe_cut(cuts.at(())).startswith("Nothing frozen: 0 parameters frozen")


def test_figures_name_the_size_of_all_images_only_where_images_are_given():
    cuts = Cuts(chain())
    cut = cuts.at(cuts.resolve(cuts.points[-1]))
    assert "All 20 images, featurized, on disk" in cut_facts(cut, 20)
    assert "featurized, on disk" not in cut_facts(cut, None)
    assert "none: all of the network runs" in cut_facts(cuts.at(()), 20)


def test_pictures_tell_the_parts_apart_by_words():
    cuts = Cuts(chain())
    drawn = cut_pictures(cuts, cuts.at(cuts.resolve(cuts.points[0])))
    assert "<b>frozen</b>" in drawn
    assert "<b>trainable</b>" in drawn
    assert drawn.count("<caption") == 3
