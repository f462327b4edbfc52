"""The checks of the exercises in notebook 05: right answers are right, wrong ones get their hint."""

from __future__ import annotations

import pytest

import tlkit as tl


def edited(net, boundary, *layers, n_classes=5):
    """Replace the head, behind the boundary, by dense layers of these widths and an output."""
    marks = net.landmarks
    builder = tl.TransferLearning(net).set_feature_extractor(boundary).remove_vertex_keep_connections(marks.head)
    before = marks.penultimate
    for number, width in enumerate(layers):
        builder.add_layer(f"new{number}", tl.Dense(width, activation="relu"), before)
        before = f"new{number}"
    return builder.add_layer(marks.head, tl.Output(n_classes), before).build()


@pytest.mark.slow  # loads the packaged network
def test_seven_classes(net):
    width = {"classifier": 1280, "predictions": 4096}[net.landmarks.head]
    right = edited(net, net.landmarks.penultimate, n_classes=7)
    count = sum(value.numel() for value in right.parameters() if value.requires_grad)
    result = tl.check("05.1", count, net)
    assert result
    assert f"7 × {width + 1:,} = {count:,}" in repr(result)
    assert tl.check("05.1", count, right)  # the built network knows as well
    for wrong, hint in [
        (7 * width, "weights alone"),
        (5 * (width + 1), "right for five classes"),
        (width + 1, "one class's share"),
        (sum(value.numel() for value in net.parameters()), "more than the last layer"),
        (1, "is not it"),
        ("many", "a whole number such as 1234, and this is a str: 'many'"),
        (True, "a whole number"),
        (net, "a whole number such as 1234, and this is a Network"),
    ]:
        assert hint in repr(tl.check("05.1", wrong, net))
        assert not tl.check("05.1", wrong, net)


@pytest.mark.slow
def test_one_block_less(net):
    before, behind = {
        "classifier": ("blocks_5_3", "'blocks_6_0', 'conv_head' and 'classifier' are trained"),
        "predictions": (
            "block4_pool",
            "'block5_conv1', 'block5_conv2', 'block5_conv3', 'fc1', 'fc2' and 'predictions'",
        ),
    }[net.landmarks.head]
    right = tl.check("05.2", edited(net, before))
    assert right
    assert behind in repr(right)
    cuts = net.cut_points
    marks = net.landmarks
    for wrong, hint in [
        (edited(net, marks.penultimate), "still frozen. Name an earlier vertex"),
        (edited(net, cuts[cuts.index(before) + 1]), "still frozen. Name an earlier vertex"),
        (edited(net, cuts[cuts.index(before) - 1]), "Name a later vertex"),
        (edited(net, before, n_classes=7), "answers for 7 classes; 5 are asked for"),
        (tl.TransferLearning(net).set_feature_extractor(before).build(), "still the original's last layer"),
        (tl.TransferLearning(net).set_feature_extractor(before), "End it with .build()"),
        (before, "the answer is a network"),
    ]:
        result = tl.check("05.2", wrong)
        assert not result
        assert hint in repr(result)
    thawed = edited(net, before).unfreeze()
    assert "nothing is frozen" in repr(tl.check("05.2", thawed))
