"""The checks of the exercises in notebook 07 and of the last one in notebook 06."""

from __future__ import annotations

import pytest
from nets import narrow_vgg16

import tlkit as tl

BLOCK5 = 3 * (8 * 8 * 9 + 8 + 2 * 8)  # weights and biases of convolutions and of batch normalization
STATISTICS = 3 * 2 * 8


def refused(number, answer, hint, *about):
    result = tl.check(number, answer, *about)
    assert not result
    assert hint in repr(result)


@pytest.fixture(scope="module")
def net():
    source = narrow_vgg16(batch_norm=True)
    source.landmarks = tl.Landmarks("block5_pool", "fc2", "predictions", "block4_pool", "fc2")  # as in images of 224
    return (
        tl.TransferLearning(source)
        .set_feature_extractor("block5_pool")
        .n_out_replace("fc2", 10)
        .remove_vertex_and_connections("predictions")
        .add_layer("fc3", tl.Dense(6), "fc2")
        .add_layer("newpredictions", tl.Output(5), "fc3")
        .set_outputs("newpredictions")
        .build()
    )


@pytest.fixture
def edit(net):
    return tl.TransferLearning(net)


def with_wild(edit, *outputs, n_out=2, reads="fc3"):
    return edit.add_layer("wild", tl.Output(n_out), reads).set_outputs(*(outputs or ("newpredictions", "wild"))).build()


def test_a_second_output_on_the_trained_network(net, edit):
    result = tl.check("06.3", with_wild(edit), net)
    assert result
    assert "only the 14 parameters of 'wild' are new" in repr(result)


def test_a_second_output_that_is_missing_or_misplaced(net, edit):
    refused("06.3", edit, "End it with .build()", net)
    refused("06.3", net, "no vertex 'wild'", net)
    refused("06.3", with_wild(edit, n_out=3), "two classes", net)


def test_a_second_output_that_reads_another_vertex(net, edit):
    refused("06.3", with_wild(edit, reads="fc2"), "it should read 'fc3'", net)


def test_a_second_output_instead_of_the_first(net, edit):
    alone = with_wild(edit.remove_vertex_and_connections("newpredictions"), "wild")
    refused("06.3", alone, "without 'newpredictions'", net)


def test_a_second_output_that_costs_what_was_learned(net, edit):
    refused("06.3", with_wild(edit.n_out_replace("fc3", 6)), "'fc3' and 'newpredictions' lost what they learned", net)


def test_a_second_output_with_other_frozen_marks(net, edit):
    refused("06.3", with_wild(edit.set_feature_extractor("block4_pool")), "other vertices are frozen", net)


def test_parameters_that_learn_again(net):
    behind = sum(p.numel() for p in net.parameters() if p.requires_grad)
    assert tl.check("07.1", BLOCK5, net)
    assert "48 of them statistics" in repr(tl.check("07.1", BLOCK5 + STATISTICS, net))
    for number in (behind, behind + BLOCK5, behind + BLOCK5 + STATISTICS):
        refused("07.1", number, "counts what was trainable before", net)
    refused("07.1", 3, "Subtract", net)


def test_marks_set_in_place_on_a_network_without_any(net, tmp_path):
    path = tl.save(net, tmp_path / "flowers.tlk")
    source = narrow_vgg16(batch_norm=True)

    def thawed(**options):
        return tl.load(path, source, **options)

    assert tl.check("07.2", thawed(frozen=False).freeze("block4_pool"), net)
    refused("07.2", thawed(frozen=False), "nothing is frozen yet", net)
    refused("07.2", thawed().freeze("block4_pool"), "'block5_conv3' and 'block5_pool' are still frozen", net)
    refused("07.2", thawed(frozen=False).freeze("block3_pool"), "it should be 'block4_pool'", net)
    refused("07.2", source, "its weights differ", net)


def with_new_output(edit, rest, boundary="block4_pool", **options):
    return (
        edit.fine_tune_configuration(tl.FineTuneConfiguration(updater=rest))
        .set_feature_extractor(boundary)
        .remove_vertex_keep_connections("newpredictions")
        .add_layer("newpredictions", tl.Output(5, **options), "fc3")
        .build()
    )


def test_two_updaters(net, edit):
    careful = with_new_output(edit, tl.Sgd(1e-5), updater=tl.Adam(1e-3))
    assert "the rest behind 'block4_pool' with Sgd(lr=1e-05)" in repr(tl.check("07.3", careful, net))


@pytest.mark.parametrize(
    ("rest", "options", "hint"),
    [
        (tl.Sgd(1e-5), {}, "Give the new layer its own"),
        (tl.Adam(1e-5), {"updater": tl.Adam(1e-3)}, "Say it in the configuration"),
        (tl.Sgd(1e-5), {"updater": tl.Adam(1e-3), "boundary": "block5_pool"}, "it must be 'block4_pool'"),
    ],
)
def test_two_updaters_of_the_wrong_kind_or_place(net, edit, rest, options, hint):
    refused("07.3", with_new_output(edit, rest, **options), hint, net)


def test_two_updaters_need_a_new_output(net, edit):
    refused("07.3", edit.set_feature_extractor("block4_pool").build(), "is still the trained one", net)
