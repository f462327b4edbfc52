"""The checks of the exercises in notebook 06: right answers are right, wrong ones get their hint."""

from __future__ import annotations

import pytest
from answers import refused

import tlkit as tl


def on_bottleneck(net, *layers, n_classes=5, boundary=None):
    """Attach a new head to the pooled bottleneck and drop all that followed it."""
    bottleneck = net.landmarks.bottleneck
    names = list(net.vertices)
    builder = tl.TransferLearning(net).set_feature_extractor(boundary or bottleneck)
    for name in names[names.index(bottleneck) + 1 :]:
        builder.remove_vertex_and_connections(name)
    builder.add_layer("pool", tl.GlobalPool(), bottleneck)
    before = "pool"
    for number, width in enumerate(layers):
        builder.add_layer(f"new{number}", tl.Dense(width, activation="relu"), before)
        before = f"new{number}"
    return builder.add_layer("flowers", tl.Output(n_classes), before).set_outputs("flowers").build()


@pytest.mark.slow
def test_dense_on_the_pooled_bottleneck(net):
    built = on_bottleneck(net, 1024)
    count = sum(value.numel() for value in built.vertices["new0"].module.parameters())
    assert f"= {count:,} parameters" in repr(tl.check("06.1", count, net))
    assert tl.check("06.1", count, net)
    channels, height, width = net.output_shapes()[net.landmarks.bottleneck]
    for wrong, hint in [
        (1024 * channels, "weights alone"),
        (1024 * (channels * height * width + 1), "the layer behind tl.Flatten()"),
        (channels + 1, "one unit's share"),
        (5, "what does the mean over height and width leave"),
    ]:
        result = tl.check("06.1", wrong, net)
        assert not result
        assert hint in repr(result)


@pytest.mark.slow
def test_a_small_head_on_the_bottleneck(net):
    right = tl.check("06.2", on_bottleneck(net, 64))
    assert right
    assert "'new0' and 'flowers' have" in repr(right)
    assert tl.check("06.2", on_bottleneck(net, 64, 16))
    bottleneck = net.landmarks.bottleneck
    before = net.cut_points[net.cut_points.index(bottleneck) - 1]
    for wrong, hint in [
        (on_bottleneck(net), "Put a hidden layer before it"),
        (on_bottleneck(net, 1024, 256), "Give it fewer units"),
        (on_bottleneck(net, 64, n_classes=6), "answers for 6 classes"),
        (on_bottleneck(net, 64, boundary=before), f"'{bottleneck}' is not frozen"),
        (on_bottleneck(net, 64, boundary="new0"), "more than the bottleneck is frozen"),
        (on_bottleneck(net, 64).unfreeze(), "nothing is frozen"),
        (64, "the answer is a network"),
    ]:
        result = tl.check("06.2", wrong)
        assert not result
        assert hint in repr(result)


def with_wild(edit, *outputs, n_out=2, reads="fc3"):
    return edit.add_layer("wild", tl.Output(n_out), reads).set_outputs(*(outputs or ("newpredictions", "wild"))).build()


def test_a_second_output_on_the_trained_network(trained, edit):
    result = tl.check("06.3", with_wild(edit), trained)
    assert result
    assert "only the 14 parameters of 'wild' are new" in repr(result)


def test_a_second_output_that_is_missing_or_misplaced(trained, edit):
    refused("06.3", edit, "End it with .build()", trained)
    refused("06.3", trained, "no vertex 'wild'", trained)
    refused("06.3", with_wild(edit, n_out=3), "two classes", trained)


def test_a_second_output_that_reads_another_vertex(trained, edit):
    refused("06.3", with_wild(edit, reads="fc2"), "it should read 'fc3'", trained)


def test_a_second_output_instead_of_the_first(trained, edit):
    alone = with_wild(edit.remove_vertex_and_connections("newpredictions"), "wild")
    refused("06.3", alone, "without 'newpredictions'", trained)


def test_a_second_output_that_costs_what_was_learned(trained, edit):
    refused(
        "06.3", with_wild(edit.n_out_replace("fc3", 6)), "'fc3' and 'newpredictions' lost what they learned", trained
    )


def test_a_second_output_with_other_frozen_marks(trained, edit):
    refused("06.3", with_wild(edit.set_feature_extractor("block4_pool")), "other vertices are frozen", trained)
