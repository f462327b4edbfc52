"""The checks of the exercises in notebook 07: right answers are right, wrong ones get their hint."""

from __future__ import annotations

import pytest
from answers import refused
from nets import narrow_vgg16

import tlkit as tl

BLOCK5 = 3 * (8 * 8 * 9 + 8 + 2 * 8)  # weights and biases of convolutions and of batch normalization
STATISTICS = 3 * 2 * 8


def test_parameters_that_learn_again(trained):
    behind = sum(p.numel() for p in trained.parameters() if p.requires_grad)
    assert tl.check("07.1", BLOCK5, trained)
    assert "48 of them statistics" in repr(tl.check("07.1", BLOCK5 + STATISTICS, trained))
    for number in (behind, behind + BLOCK5, behind + BLOCK5 + STATISTICS):
        refused("07.1", number, "counts what was trainable before", trained)
    refused("07.1", 3, "Subtract", trained)


@pytest.mark.slow
def test_marks_set_in_place_on_a_network_without_any(trained, tmp_path):
    path = tl.save(trained, tmp_path / "flowers.tlk")
    source = narrow_vgg16(batch_norm=True)

    def thawed(**options):
        return tl.load(path, source, **options)

    assert tl.check("07.2", thawed(frozen=False).freeze("block4_pool"), trained)
    refused("07.2", thawed(frozen=False), "nothing is frozen yet", trained)
    refused("07.2", thawed().freeze("block4_pool"), "'block5_conv3' and 'block5_pool' are still frozen", trained)
    refused("07.2", thawed(frozen=False).freeze("block3_pool"), "it should be 'block4_pool'", trained)
    refused("07.2", source, "its weights differ", trained)


def with_new_output(edit, rest, boundary="block4_pool", **options):
    return (
        edit.fine_tune_configuration(tl.FineTuneConfiguration(updater=rest))
        .set_feature_extractor(boundary)
        .remove_vertex_keep_connections("newpredictions")
        .add_layer("newpredictions", tl.Output(5, **options), "fc3")
        .build()
    )


def test_two_updaters(trained, edit):
    careful = with_new_output(edit, tl.Sgd(1e-5), updater=tl.Adam(1e-3))
    assert "the rest behind 'block4_pool' with Sgd(lr=1e-05)" in repr(tl.check("07.3", careful, trained))


@pytest.mark.parametrize(
    ("rest", "options", "hint"),
    [
        (tl.Sgd(1e-5), {}, "Give the new layer its own"),
        (tl.Adam(1e-5), {"updater": tl.Adam(1e-3)}, "Say it in the configuration"),
        (tl.Sgd(1e-5), {"updater": tl.Adam(1e-3), "boundary": "block5_pool"}, "it must be 'block4_pool'"),
    ],
)
def test_two_updaters_of_the_wrong_kind_or_place(trained, edit, rest, options, hint):
    refused("07.3", with_new_output(edit, rest, **options), hint, trained)


def test_two_updaters_need_a_new_output(trained, edit):
    refused("07.3", edit.set_feature_extractor("block4_pool").build(), "is still the trained one", trained)
