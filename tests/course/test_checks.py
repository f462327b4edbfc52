"""The mechanism of the checks, and the checks of notebooks 05 and 06 on two backbones."""

from __future__ import annotations

import pytest
import torch

import tlkit as tl
from tlkit.course import checks
from tlkit.course.checks import NotYet, exercise, tasks

BACKBONES = ("efficientnet_lite0", "vgg16")


@pytest.fixture(scope="module", params=BACKBONES)
def net(request):
    with torch.device("meta"):  # its structure alone
        return tl.zoo.load(request.param, weights=None)


@pytest.fixture
def own(monkeypatch):
    """A table of exercises for one test."""
    monkeypatch.setattr(checks, "_EXERCISES", {})

    @exercise("99.1", "what is six times seven?")
    def forty_two(answer):
        if answer + 0 == 42:
            return "6 × 7 = 42."
        missing = f"{answer} is not it. Count six sevens."
        raise NotYet(missing)

    @exercise("99.2", "how many vertices has the network?")
    def how_many(answer, net):
        return f"{len(net.vertices)} of them."

    return forty_two


def edited(net, boundary, *layers, n_classes=5):
    """Replace the head, behind the boundary, by dense layers of these widths and an output."""
    marks = net.landmarks
    builder = tl.TransferLearning(net).set_feature_extractor(boundary).remove_vertex_keep_connections(marks.head)
    before = marks.penultimate
    for number, width in enumerate(layers):
        builder.add_layer(f"new{number}", tl.Dense(width, activation="relu"), before)
        before = f"new{number}"
    return builder.add_layer(marks.head, tl.Output(n_classes), before).build()


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


# -- the mechanism --------------------------------------------------------------------------------------------------


def test_an_answer_is_right_or_not_yet(own):
    right, wrong = tl.check("99.1", 42), tl.check("99.1", 41)
    assert right
    assert repr(right) == "Right: 6 × 7 = 42."
    assert not wrong
    assert repr(wrong) == "Not yet: 41 is not it. Count six sevens."


@pytest.mark.parametrize("answer", [None, ...])
def test_without_an_answer_it_tells_the_task(own, answer):
    assert repr(tl.check("99.1", answer)) == ("Not yet: there is no answer so far. The task: what is six times seven?")
    assert repr(tl.check("99.1")) == repr(tl.check("99.1", answer))


@pytest.mark.parametrize("answer", ["42", [], {}, object(), torch.rand(2, 3), ValueError("x"), lambda: 42])
def test_an_answer_that_the_check_trips_over_gets_a_sentence(own, answer):
    result = tl.check("99.1", answer)
    assert not result
    assert "Not yet: the check cannot read this answer" in repr(result)
    assert "what is six times seven?" in repr(result)
    assert "0x" not in repr(result)


def test_an_unknown_exercise_is_answered_with_near_misses(own):
    assert repr(tl.check("9.1", 42)) == "Not yet: there is no exercise '9.1'. Did you mean '99.1'?"
    assert "There are checks for 99.1, 99.2." in repr(tl.check("first", 42))
    assert not tl.check(None)


def test_a_question_about_a_network_says_when_the_network_is_missing(own):
    assert "call the check as tl.check('99.2', answer, net)" in repr(tl.check("99.2", 3))
    assert "call the check as tl.check('99.1', answer)" in repr(tl.check("99.1", 42, "too much"))


def test_two_checks_of_one_number_are_a_mistake(own):
    with pytest.raises(ValueError, match=r"two checks for exercise 99\.1"):
        exercise("99.1", "again")(own)


def test_its_html_says_the_verdict_in_a_word_and_escapes_the_answer(own):
    right, wrong = tl.check("99.1", 42), tl.check("<b>", 1)
    assert "<b>Right:</b> 6 × 7 = 42." in right._repr_html_()
    assert "solid" in right._repr_html_()
    assert "<b>Not yet:</b>" in wrong._repr_html_()
    assert "dashed" in wrong._repr_html_()
    assert "&lt;b&gt;" in wrong._repr_html_()


def test_every_task_is_one_line_and_numbered_by_its_notebook():
    assert {"05.1", "05.2", "06.1", "06.2"} <= tasks().keys()
    for number, task in tasks().items():
        notebook, place = number.split(".")
        assert len(notebook) == 2
        assert notebook.isdigit()
        assert place.isdigit()
        assert task[-1] in ".?"
        assert "\n" not in task
        assert len(task) < 120


@pytest.mark.parametrize("number", sorted(tasks()))
@pytest.mark.parametrize("answer", [None, -1, 0.5, "fc2", (), {"a": 1}, torch.zeros(3), tl.Dense(3), object])
def test_no_check_ever_raises_or_takes_nonsense_for_right(number, answer):
    import inspect

    about = [None] * (len(inspect.signature(checks._registered()[number].judge).parameters) - 1)
    result = tl.check(number, answer, *about)
    assert not result
    assert result.sentence.endswith((".", "?"))


# -- notebook 05 ----------------------------------------------------------------------------------------------------


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


# -- notebook 06 ----------------------------------------------------------------------------------------------------


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
