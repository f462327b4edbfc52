"""FreezePicker without a browser: every control is set by its value, as a hand would."""

from __future__ import annotations

import pytest
import torch
from faces import chain, check_face, residual, run_code, same_weights
from torch import nn

import tlkit as tl

pytest.importorskip("ipywidgets")

from tlkit.widgets import FreezePicker


@pytest.fixture(scope="module")
def vgg16():
    with torch.device("meta"):  # its structure alone
        return tl.zoo.load("vgg16", weights=None)


@pytest.fixture
def net():
    return chain()


def shared():
    """A chain whose second and fourth vertex share their weights: no boundary may lie between them."""
    layer = nn.Linear(4, 4)
    module = nn.Sequential(nn.Linear(4, 4), layer, nn.Linear(4, 4), layer, nn.Linear(4, 2))
    return tl.Network.from_module(module, [torch.rand(1, 4)])


def choose(picker, control, name):
    """Choose one vertex by hand."""
    if control == "slider":
        picker._slider.value = (name,)
    elif control == "list":
        picker._list.value = (name,)
    else:
        picker._strip.position = 1 + picker._cuts.points.index(name)


def state(picker):
    """Where each control stands: slider, list and drawn strip."""
    strip = picker._strip
    return (
        picker._slider.value,
        picker._list.value,
        tuple(strip.names[number] for number in strip.marks),
    )


# -- choosing -------------------------------------------------------------------------------------------------------


def test_the_slider_offers_every_cut_point_and_nothing_frozen_and_the_list_every_vertex(vgg16):
    picker = FreezePicker(vgg16)
    assert [value for _, value in picker._slider.options] == [(), *((name,) for name in vgg16.cut_points)]
    assert picker._list.options == tuple(vgg16.vertices)
    assert [picker._strip.names[stop] for stop in picker._strip.stops[1:]] == list(vgg16.cut_points)
    assert picker._strip.stops[0] == -1


@pytest.mark.parametrize("control", ["slider", "list", "strip"])
def test_every_control_moves_the_boundary_and_the_other_controls(vgg16, control):
    picker = FreezePicker(vgg16)
    assert picker.boundary == "fc2"
    choose(picker, control, "block4_pool")
    assert picker.boundary == "block4_pool"
    assert state(picker) == (("block4_pool",),) * 3
    assert picker._strip.position == picker._slider.index
    assert '"block4_pool"' in picker.code
    assert "512 × 14 × 14 = 100,352 numbers" in picker._figures.value
    assert "401 kB" in picker._figures.value
    assert "block4_pool" in picker._code.value
    assert picker._strip.said.startswith("Frozen up to block4_pool: 7,635,264 parameters frozen")
    assert picker._strip.frozen.count(True) == len(vgg16.ancestors("block4_pool"))


def test_setting_the_boundary_moves_the_controls(vgg16):
    picker = FreezePicker(vgg16)
    picker.boundary = "block5_pool"
    assert state(picker) == (("block5_pool",),) * 3
    picker.boundary = -2  # an index, in this chain
    assert picker.boundary == "fc2"
    picker.boundary = None
    assert picker._slider.label == "(nothing frozen)"
    assert state(picker) == ((),) * 3
    assert picker._strip.position == 0
    picker.boundary = "fc1"
    picker._slider.value = ()
    assert picker.boundary is None


def test_the_buttons_move_one_place_and_stop_at_the_ends(vgg16):
    picker = FreezePicker(vgg16)
    assert picker._more.disabled
    assert not picker._less.disabled
    picker._less.click()
    assert picker.boundary == "fc1"
    assert not picker._more.disabled
    picker._more.click()
    picker._more.click()
    assert picker.boundary == "fc2"
    picker._slider.index = 0
    picker._less.click()
    assert picker.boundary is None
    assert picker._less.disabled


def test_several_boundaries_are_a_tuple_in_the_networks_order():
    net = residual()
    parts = {"a": (4,), "b": (4,)}
    two = tl.Network(
        {
            "left": tl.Vertex(nn.Linear(4, 4), ("a",)),
            "right": tl.Vertex(nn.Linear(4, 4), ("b",)),
            "out": tl.Vertex(nn.Bilinear(4, 4, 2), ("left", "right")),
        },
        inputs=parts,
        outputs=["out"],
    )
    picker = FreezePicker(two)
    assert picker.boundary is None  # no single vertex comes before the output
    picker._list.value = ("left",)
    picker.boundary = ["right", "left"]
    assert picker.boundary == ("left", "right")
    assert picker._list.value == ("left", "right")
    assert picker._slider.label == "(chosen in the list)"
    assert picker._strip.position == -1
    assert picker._strip.marks == [0, 1]
    assert picker._figures.value.count("4 numbers") == 2
    assert picker.code == 'net = tl.TransferLearning(net).set_feature_extractor("left", "right").build()'
    assert picker.net.frozen == {"left", "right"}
    assert repr(picker).startswith("FreezePicker(boundary=('left', 'right'): 40 parameters frozen")
    picker = FreezePicker(net)
    picker._list.value = ("first", "second")  # `second` alone says it
    assert picker.boundary == "second"
    assert picker._list.value == ("second",)


def test_a_vertex_in_a_branch_is_chosen_in_the_list_and_left_again_by_the_slider():
    net = residual()
    picker = FreezePicker(net)
    picker._list.value = ("second",)
    assert picker._slider.label == "(chosen in the list)"
    assert list(picker._cuts.at(("second",)).shapes) == ["first", "second"]
    assert not picker._more.disabled or picker._slider.index == len(picker._slider.options) - 1
    picker._less.click()
    assert picker.boundary == net.cut_points[-1]
    assert "(chosen in the list)" not in [label for label, _ in picker._slider.options]


def test_it_starts_where_the_network_is_frozen(net):
    frozen = tl.TransferLearning(net).set_feature_extractor(net.cut_points[1]).build()
    assert FreezePicker(frozen).boundary == net.cut_points[1]
    assert FreezePicker(net).boundary == net.cut_points[-1]


# -- what it shows --------------------------------------------------------------------------------------------------


def test_each_position_shows_what_the_built_network_has(net):
    picker = FreezePicker(net)
    assert len(net.cut_points) > 3
    for boundary in (None, *net.cut_points):
        picker.boundary = boundary
        summary = picker.net.summary()
        assert picker.net.frozen == (net.ancestors(boundary) if boundary else frozenset())
        for number in (summary.frozen, summary.trainable):
            assert f"{number:,}" in picker._figures.value
            assert f"{number:,}" in picker._strip.said


def test_the_shape_it_shows_is_that_of_the_features(net):
    picker = FreezePicker(net)
    images = torch.rand(2, 3, 8, 8)
    for boundary in net.cut_points:
        picker.boundary = boundary
        computed = tl.TransferLearningHelper(picker.net).featurize(images)
        (shape,) = picker._cuts.at((boundary,)).shapes.values()
        assert shape == tuple(computed.shape[1:])
        assert f"= {computed[0].numel():,} numbers" in picker._figures.value or computed.ndim == 2


def test_images_are_counted_in_whole_splits_too(vgg16):
    class Split:
        train, test = range(960), range(240)

    for images in (range(1200), Split()):
        face = FreezePicker(vgg16, images=images).face()
        assert "All 1,200 images, featurized, on disk" in face
        assert "19.7 MB" in face  # 1,200 x 4,096 x 4 bytes
    with pytest.raises(TypeError, match="images is a data set"):
        FreezePicker(vgg16, images=3)


def test_widths_show_parameters_or_time(vgg16):
    picker = FreezePicker(vgg16)
    fc1, conv = list(vgg16.vertices).index("fc1"), list(vgg16.vertices).index("block3_conv2")
    by_parameters = picker._strip.widths
    assert by_parameters[fc1] > 0.5 > 0.1 > by_parameters[conv]
    assert picker._strip.note.startswith("Widths: parameters.")
    picker._scale.value = "time"
    assert picker._strip.widths[conv] > picker._strip.widths[fc1]
    assert "multiplications" in picker._strip.note  # nothing was measured yet
    picker._scale.value = "parameters"
    assert picker._strip.widths == by_parameters


@pytest.mark.slow
def test_seconds_are_measured_when_asked_for_and_shown_for_every_boundary(net):
    picker = FreezePicker(net)
    assert picker._seconds.value == ""
    picker.measure()
    assert "For 1,000 images, as measured on this machine" in picker._seconds.value
    assert "Speed-up" in picker._seconds.value
    shown = picker._seconds.value
    picker.boundary = net.cut_points[0]
    assert picker._seconds.value != shown
    picker.boundary = None
    assert "One epoch, whole network" in picker._seconds.value
    assert "Speed-up" not in picker._seconds.value
    picker._scale.value = "time"
    assert "seconds" in picker._strip.note


@pytest.mark.slow
def test_the_button_measures_beside_the_notebook(net):
    picker = FreezePicker(net, range(50))
    picker._scale.value = "time"
    picker._measure.click()
    picker._background.settle()
    assert "For 50 images, as measured on this machine" in picker._seconds.value
    assert "seconds" in picker._strip.note
    assert not picker._measure.disabled


def test_a_measurement_that_fails_says_why(net, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("The fan has stopped.")

    monkeypatch.setattr("tlkit.widgets.freeze_picker.time_vertices", fail)
    picker = FreezePicker(net)
    picker._measure.click()
    picker._background.settle()
    assert "<b>Error:</b> The network could not be measured: The fan has stopped." in picker._seconds.value
    assert not picker._measure.disabled
    with pytest.raises(RuntimeError, match="The fan has stopped"):
        picker.measure()


# -- network and code -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [chain, residual])
@pytest.mark.parametrize("place", [0, 1, -1, "several"])
def test_running_its_code_gives_the_same_network(make, place):
    net = make()
    picker = FreezePicker(net)
    if place == "several":
        picker._list.value = tuple(net.vertices)[:2]
    else:
        picker._slider.index = place % len(picker._slider.options)
    made = run_code(picker.code, net=net)["net"]
    assert made is not picker.net
    assert made.frozen == picker.net.frozen
    assert str(made.summary()) == str(picker.net.summary())
    assert same_weights(made, picker.net)


def test_the_original_stays_as_it_was_and_each_boundary_keeps_its_network(net):
    picker = FreezePicker(net)
    first = picker.net
    assert picker.net is first
    picker.boundary = net.cut_points[0]
    assert picker.net is not first
    picker.boundary = net.cut_points[-1]
    assert picker.net is first
    assert net.frozen == frozenset()


# -- what goes wrong ------------------------------------------------------------------------------------------------


def test_a_wrong_name_is_answered_with_near_misses(vgg16):
    picker = FreezePicker(vgg16)
    with pytest.raises(KeyError, match=r"no vertex 'block4_poll'\. Did you mean 'block4_pool'"):
        picker.boundary = "block4_poll"
    with pytest.raises(ValueError, match="Frozen up to 'predictions', the whole network is frozen"):
        picker.boundary = "predictions"
    assert picker.boundary == "fc2"
    assert state(picker) == (("fc2",),) * 3


@pytest.mark.parametrize("control", ["slider", "list", "strip"])
def test_a_position_that_cannot_be_frozen_says_why_in_the_widget(control):
    net = shared()
    picker = FreezePicker(net)
    start = picker.boundary
    choose(picker, control, net.cut_points[1])
    assert "<b>Error:</b>" in picker._problem.value
    assert "share their weights" in picker._problem.value
    assert f".boundary is still {start!r}" in picker._problem.value.replace("&#x27;", "'")
    assert picker.boundary == start
    assert state(picker) == ((start,),) * 3  # the controls show what is
    choose(picker, control, net.cut_points[0])
    assert picker._problem.value == ""
    assert picker.boundary == net.cut_points[0]


def test_the_output_in_the_list_says_that_nothing_would_be_left_to_train(vgg16):
    picker = FreezePicker(vgg16)
    picker._list.value = ("predictions",)
    assert "nothing would be left to train" in picker._problem.value
    assert picker.boundary == "fc2"
    picker.boundary = "fc1"
    assert picker._problem.value == ""


# -- for those who cannot see or run it -----------------------------------------------------------------------------


def test_the_picker_has_a_static_face_for_viewers_without_widgets(vgg16):
    picker = FreezePicker(vgg16)
    assert repr(picker) == "FreezePicker(boundary='fc2': 134,260,544 parameters frozen, 4,097,000 trainable)"
    face = check_face(picker)
    assert face == check_face(FreezePicker(vgg16))
    assert "<img" not in face


@pytest.mark.slow
def test_the_face_has_no_measured_seconds(net):
    picker = FreezePicker(net)
    before = picker.face()
    picker.measure()
    assert picker.face() == before


def test_the_face_tells_the_parts_apart_by_words(vgg16):
    picker = FreezePicker(vgg16)
    picker.boundary = "block5_conv2"
    stages = picker.face().partition("to scale")[0]
    assert stages.count("<b>frozen</b>") == 5
    assert stages.count("<b>trainable</b>") == 5


def test_every_control_has_a_label(net):
    picker = FreezePicker(net)
    controls = [picker._slider, picker._less, picker._more, picker._list, picker._scale, picker._measure]
    assert all(control.description for control in controls)
