"""The widgets without a browser: every control is set by its value, as a hand would."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tlkit as tl

pytest.importorskip("ipywidgets")

from tlkit.widgets import FreezePicker, HeadDesigner, hold_out
from tlkit.widgets.cuts import CutPoints
from tlkit.widgets.heads import Head, HeadBench

VIEW = "application/vnd.jupyter.widget-view+json"
CLASSES = ("daisy", "roses", "tulips")


@pytest.fixture(scope="module")
def vgg16():
    with torch.device("meta"):  # its structure alone
        return tl.zoo.load("vgg16", weights=None)


@pytest.fixture
def net():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 8),
        nn.Linear(8, 3),
    )
    return tl.Network.from_module(module, [torch.rand(1, 3, 8, 8)])


def features(rows=60, shape=(8,), seed=0, noise=0.5):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % 3
    centers = torch.randn(3, *shape, generator=torch.Generator().manual_seed(99))
    return tl.Features(
        {"cut": centers[labels] + noise * torch.randn(rows, *shape, generator=generator)}, labels, CLASSES
    )


@pytest.fixture
def designer():
    return HeadDesigner(features(), features(30, seed=1))


def run_code(code, **names):
    names = {"tl": tl, **names}
    exec(code, names)
    return names


def same_weights(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(ours[key].equal(theirs[key]) for key in ours)


# -- FreezePicker ---------------------------------------------------------------------------------------------------


def test_the_slider_offers_every_cut_point_and_nothing_frozen(vgg16):
    picker = FreezePicker(vgg16)
    assert [value for _, value in picker._slider.options] == ["", *vgg16.cut_points]


def test_each_position_means_what_the_built_network_has(net):
    picker = FreezePicker(net)
    assert len(net.cut_points) > 3
    for boundary in (None, *net.cut_points):
        picker.boundary = boundary
        summary, cut = picker.net.summary(), picker._cuts.at(boundary)
        assert (cut.frozen, cut.trainable) == (summary.frozen, summary.trainable)
        assert picker.net.frozen == (net.ancestors(boundary) if boundary else frozenset())
        for number in (cut.frozen, cut.trainable):
            assert f"{number:,}" in picker._picture.value


def test_its_shape_is_that_of_the_features(net):
    picker = FreezePicker(net)
    images = torch.rand(2, 3, 8, 8)
    for boundary in net.cut_points:
        picker.boundary = boundary
        computed = tl.TransferLearningHelper(picker.net).featurize(images)
        cut = picker._cuts.at(boundary)
        assert cut.shape == tuple(computed.shape[1:])
        assert cut.nbytes == computed[0].numel() * computed.element_size()


def test_moving_the_slider_moves_the_boundary_and_the_picture(vgg16):
    picker = FreezePicker(vgg16)
    assert picker.boundary == "fc2"
    picker._slider.value = "block4_pool"
    assert picker.boundary == "block4_pool"
    assert '"block4_pool"' in picker.code
    assert "512 × 14 × 14 = 100,352 numbers" in picker._picture.value
    assert "401 kB" in picker._picture.value


def test_setting_the_boundary_moves_the_slider(vgg16):
    picker = FreezePicker(vgg16)
    picker.boundary = "block5_pool"
    assert picker._slider.value == "block5_pool"
    picker.boundary = -2  # an index, in this chain
    assert picker._slider.value == picker.boundary == "fc2"
    picker.boundary = None
    assert picker._slider.label == "(nothing frozen)"


def test_the_buttons_move_one_place_and_stop_at_the_ends(vgg16):
    picker = FreezePicker(vgg16)
    assert picker._more.disabled
    assert not picker._less.disabled
    picker._less._click_handlers(picker._less)
    assert picker.boundary == "fc1"
    assert not picker._more.disabled
    picker._more._click_handlers(picker._more)
    picker._more._click_handlers(picker._more)
    assert picker.boundary == "fc2"
    picker._slider.index = 0
    picker._less._click_handlers(picker._less)
    assert picker.boundary is None
    assert picker._less.disabled


def test_it_starts_where_the_network_is_frozen(net):
    frozen = tl.TransferLearning(net).set_feature_extractor(net.cut_points[1]).build()
    assert FreezePicker(frozen).boundary == net.cut_points[1]
    assert FreezePicker(net).boundary == net.cut_points[-1]


@pytest.mark.parametrize("place", [0, 1, -1])
def test_running_its_code_gives_the_same_network(net, place):
    picker = FreezePicker(net)
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


def test_a_wrong_name_is_answered_with_near_misses(vgg16):
    picker = FreezePicker(vgg16)
    with pytest.raises(KeyError, match=r"no vertex 'block4_poll'\. Did you mean 'block4_pool'"):
        picker.boundary = "block4_poll"
    with pytest.raises(ValueError, match="'predictions' is no cut point: it is an output"):
        picker.boundary = "predictions"
    assert picker.boundary == picker._slider.value == "fc2"


def test_a_vertex_in_a_branch_is_no_cut_point():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            x = self.first(x)
            return self.last(x + self.second(x))

    picker = FreezePicker(tl.Network.from_module(Residual(), [torch.rand(1, 4)], granularity="layer"))
    with pytest.raises(ValueError, match="'second' is no cut point: it lies in a branch"):
        picker.boundary = "second"


def test_a_position_that_cannot_be_frozen_says_why_in_the_widget():
    shared = nn.Linear(4, 4)
    module = nn.Sequential(nn.Linear(4, 4), shared, nn.Linear(4, 4), shared, nn.Linear(4, 2))
    net = tl.Network.from_module(module, [torch.rand(1, 4)])
    picker = FreezePicker(net)
    start = picker.boundary
    picker._slider.value = net.cut_points[1]
    assert "share their weights" in picker._picture.value
    assert "<b>Error:</b>" in picker._picture.value
    assert picker.boundary == start
    picker._slider.value = start
    assert "Error" not in picker._picture.value
    assert "Parameters frozen" in picker._picture.value


def test_images_are_counted_in_whole_splits_too(vgg16):
    class Split:
        train, test = range(960), range(240)

    for images in (range(1200), Split()):
        face = FreezePicker(vgg16, images=images).face()
        assert "All 1,200 images, featurized" in face
        assert "19.7 MB" in face  # 1,200 x 4,096 x 4 bytes
    with pytest.raises(TypeError, match="images is a data set"):
        FreezePicker(vgg16, images=3)


def test_a_network_with_two_inputs_is_sent_to_the_builder():
    two = tl.Network(
        {"out": tl.Vertex(nn.Bilinear(2, 2, 2), ("a", "b"))}, inputs={"a": (2,), "b": (2,)}, outputs=["out"]
    )
    with pytest.raises(ValueError, match=r"one input.*2 inputs.*set_feature_extractor"):
        FreezePicker(two)


def test_the_picture_tells_the_stages_apart_by_words(vgg16):
    cuts = CutPoints(vgg16)
    parts = cuts.parts("block5_conv2")
    labels = [
        "block1",
        "block2",
        "block3",
        "block4",
        "block5 conv1–conv2",
        "block5 conv3–pool",
        "flatten",
        "fc1",
        "fc2",
    ]
    assert [part.label for part in parts] == [*labels, "predictions"]
    assert [part.frozen for part in parts] == [True] * 5 + [False] * 5
    assert sum(part.parameters for part in parts) == 138_357_544
    picker = FreezePicker(vgg16)
    picker.boundary = "block5_conv2"
    assert picker.face().count("<b>frozen</b>") == 5
    assert picker.face().count("<b>trainable</b>") == 5 + 1  # once more where the shares are drawn


def test_the_picker_has_a_static_face_for_viewers_without_widgets(vgg16):
    picker = FreezePicker(vgg16)
    bundle = picker._repr_mimebundle_()
    assert bundle["text/plain"] == repr(picker)
    assert repr(picker) == "FreezePicker(boundary='fc2': 134,260,544 parameters frozen, 4,097,000 trainable)"
    assert VIEW in bundle
    check_static(bundle["text/html"], picker.code)
    assert bundle["text/html"] == FreezePicker(vgg16)._repr_mimebundle_()["text/html"]


def check_static(face, code):
    from html import escape

    assert escape(code) in face
    for absent in ("<style", "<script", "base64", "class=", "<svg"):  # what untrusted viewers drop, or nbval trips over
        assert absent not in face


# -- HeadDesigner ---------------------------------------------------------------------------------------------------


def test_it_starts_with_the_last_layer_alone_trained(designer):
    (run,) = designer.runs
    assert run.head.hidden == ()
    assert designer.layers == run.layers == (tl.Output(3),)
    assert run.accuracy == tl.evaluate(designer.net, features(30, seed=1)).accuracy
    assert run.parameters == 27 == sum(value.numel() for value in designer.net.parameters())
    assert run.seconds > 0
    designer._epochs.value = 30
    assert designer.runs[-1].accuracy > max(run.accuracy, 0.8)


@pytest.mark.parametrize(
    ("control", "value", "shown"),
    [
        ("_presets", (1024, 256), "1024-256"),
        ("_activation", "tanh", "tanh"),
        ("_dropout", 0.5, "0.5"),
        ("_rate", 1e-3, "0.001"),
        ("_epochs", 2, "2 passes"),
    ],
)
def test_every_control_trains_once_and_its_value_is_in_the_table(designer, control, value, shown):
    designer.layers = 8
    before = len(designer.runs)
    getattr(designer, control).value = value
    assert len(designer.runs) == before + 1
    assert shown in designer._result.value
    assert f"{designer.runs[-1].accuracy:.1%}" in designer._result.value


def test_a_hidden_layer_brings_a_slider_for_the_next_one(designer):
    def visible():
        return [row.layout.display != "none" for row in designer._widths]

    assert visible() == [True, False, False, False]
    designer._widths[0].value = 64
    assert visible() == [True, True, False, False]
    designer._widths[1].value = 16
    assert designer.layers[:-1] == (tl.Dense(64, activation="relu"), tl.Dense(16, activation="relu"))
    assert [len(run.layers) for run in designer.runs] == [1, 2, 3]


def test_layers_are_set_by_widths_or_descriptions_and_trained_once(designer):
    designer.layers = 16, 10  # 10 is none of the slider's widths
    assert designer._widths[1].value == 10
    assert len(designer.runs) == 2
    assert designer._presets.value is None
    designer.layers = [tl.Dense(12, activation="elu", dropout=0.25), tl.Output(3, dropout=0.25)]
    assert len(designer.runs) == 3
    assert designer.runs[-1].head == Head((12,), activation="elu", dropout=0.25)
    designer.layers = ()
    assert designer._presets.value == ()
    assert len(designer.runs) == 4


@pytest.mark.parametrize(
    ("layers", "sentence"),
    [
        (["256"], "A hidden layer has a whole number of units, at least 1, such as 256; got '256'"),
        ((0,), "at least 1"),
        ((2.5,), "whole number of units"),
        ([4] * 5, "up to 4 hidden layers, got 5"),
        ([tl.Output(4)], "The data have 3 classes"),
        (
            [tl.Dense(4, activation="relu"), tl.Dense(4, activation="tanh")],
            "have one activation, got 'relu' and 'tanh'",
        ),
        ([tl.Dense(4, l2=0.1)], "says more"),
        ([tl.Conv2d(4)], "widths, such as"),
    ],
)
def test_wrong_layers_are_refused_in_words_and_nothing_is_trained(designer, layers, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        designer.layers = layers
    assert len(designer.runs) == 1
    assert designer.layers == (tl.Output(3),)


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize(("shape", "pooling"), [((8,), True), ((5, 3, 3), True), ((5, 3, 3), False), ((4, 6), True)])
def test_running_its_code_trains_the_same_head(shape, pooling, given):
    train, test = features(shape=shape), features(30, shape, seed=1)
    designer = HeadDesigner(train, test) if given else HeadDesigner(train)
    designer._pooling.value = pooling
    designer._dropout.value = 0.3
    designer.layers = 16, 8
    made = run_code(designer.code, features=train, **({"test": test} if given else {}))["head"]
    assert same_weights(made, designer.net)
    assert str(made.summary()) == str(designer.net.summary())
    assert designer.runs[-1].parameters == made.summary().total


def test_a_feature_store_serves_as_well_as_features_in_memory(tmp_path):
    from tlkit.store import StoreSpec

    kept = features()
    key = StoreSpec({"graph": "test"}, {"cut": (8,)}, "float32", CLASSES, kept.labels)
    store = tl.FeatureStore.fill(
        tmp_path / "store", key, lambda rows: {"cut": kept.tensors["cut"][rows.start : rows.stop]}, progress=False
    )
    assert same_weights(HeadDesigner(store).net, HeadDesigner(kept).net)


def test_the_same_head_ends_the_same_each_time(designer):
    designer._dropout.value = 0.5
    first = designer.net
    designer.layers = 8
    designer.layers = ()
    assert designer.net is not first
    assert same_weights(designer.net, first)
    assert designer.runs[-1].accuracy == designer.runs[1].accuracy


def test_training_that_diverges_says_so_in_the_widget(designer):
    designer._bench.train = tl.Features({"cut": torch.full((60, 8), 1e30)}, features().labels, CLASSES)
    before = designer.net
    designer.layers = 8
    assert "<b>Error:</b> Training 8 stopped: the loss is" in designer._result.value
    assert "One run." in designer._result.value
    assert designer.net is before
    designer._bench.train = features()
    designer._rate.value = 1e-3
    assert "Error" not in designer._result.value
    assert len(designer.runs) == 2


def test_any_other_failure_shows_its_sentence_too(designer, monkeypatch):
    def fail(head):
        raise RuntimeError("The disk is gone.")

    monkeypatch.setattr(designer._bench, "run", fail)
    designer._epochs.value = 3
    assert "<b>Error:</b> The disk is gone." in designer._result.value


def test_a_head_that_would_fill_the_memory_is_refused(designer, monkeypatch):
    monkeypatch.setattr("tlkit.widgets.heads.available_memory", lambda: 1_000_000)
    designer.layers = 4096, 4096
    assert "needs about 269 MB to train, and 1.0 MB are free. Choose fewer units." in designer._result.value


def test_the_best_run_is_marked_by_a_word_and_old_runs_leave_the_table(designer):
    for epochs in range(6, 14):
        designer._epochs.value = epochs
    shown = designer._result.value
    assert "The last 6 of 9 runs, newest first." in shown
    assert shown.count("<tr>") == 1 + 6
    best = max(run.accuracy for run in designer.runs)
    assert shown.count(">best<") == sum(run.accuracy == best for run in designer.runs[-6:])


def test_the_designer_has_a_static_face_without_seconds(designer):
    bundle = designer._repr_mimebundle_()
    assert bundle["text/plain"] == repr(designer)
    assert repr(designer) == "HeadDesigner(8 -> 3, 60 rows to train on, 30 rows to test on)"
    assert VIEW in bundle
    check_static(bundle["text/html"], designer.code)
    assert "seconds" in designer._result.value
    assert "seconds" not in bundle["text/html"]
    again = HeadDesigner(features(), features(30, seed=1))
    assert bundle["text/html"] == again._repr_mimebundle_()["text/html"]


def test_pooling_is_offered_only_where_there_is_height_and_width(designer):
    assert designer._pooling.layout.display == "none"
    spatial = HeadDesigner(features(shape=(5, 3, 3)))
    assert spatial._pooling.layout.display != "none"
    assert spatial.layers == (tl.GlobalPool(), tl.Output(3))
    spatial._pooling.value = False
    assert spatial.layers == (tl.Flatten(), tl.Output(3))
    assert [run.parameters for run in spatial.runs] == [3 * 6, 3 * 46]
    assert repr(spatial) == "HeadDesigner(5 x 3 x 3 -> 3, 48 rows to train on, 12 rows to test on)"


def test_every_control_has_a_label(designer, net):
    controls = [*designer._controls(), *FreezePicker(net).children[0].children]
    assert len(controls) == 13
    assert all(control.description for control in controls)


# -- holding out ----------------------------------------------------------------------------------------------------


def test_a_fifth_of_every_class_is_held_out():
    whole = features(60)
    train, test = hold_out(whole)
    assert torch.bincount(train.labels).tolist() == [16, 16, 16]
    assert torch.bincount(test.labels).tolist() == [4, 4, 4]
    rows = torch.cat([train.tensors["cut"], test.tensors["cut"]])
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, whole.tensors["cut"].tolist()))
    again = hold_out(whole)[1]
    assert again.tensors["cut"].equal(test.tensors["cut"])
    assert not hold_out(whole, seed=1)[1].tensors["cut"].equal(test.tensors["cut"])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: HeadDesigner(torch.rand(3, 4)), "A head is designed on features, got Tensor. Featurize the images"),
        (lambda: HeadDesigner(features(), features(shape=(9,))), "differ in their shapes"),
        (lambda: hold_out(features(), 1.0), "share is the part of the rows"),
        (lambda: hold_out(features(4)), "class 'roses' has a single row"),
        (
            lambda: HeadDesigner(
                tl.Features({"a": torch.rand(6, 2), "b": torch.rand(6, 2)}, torch.arange(6) % 3, CLASSES)
            ),
            "one boundary; these have 'a' and 'b'",
        ),
        (lambda: hold_out(tl.Features({"a": torch.rand(6, 2)}, torch.zeros(6).long(), ["daisy"])), "two classes"),
    ],
)
def test_data_that_cannot_serve_are_refused_in_words(make, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        make()


def test_features_too_large_to_divide_are_refused(monkeypatch):
    monkeypatch.setattr("tlkit.widgets.heads.available_memory", lambda: 100)
    with pytest.raises(ValueError, match=r"take 1\.9 kB, too much"):
        hold_out(features())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"dropout": 1.0}, "dropout is the share"),
        ({"learning_rate": 0.0}, "learning rate is a number above 0"),
        ({"epochs": 0}, "epochs is a whole number"),
        ({"activation": "rleu"}, "Did you mean 'relu'"),
    ],
)
def test_a_head_is_checked_when_it_is_described(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Head((4,), **options)


def test_a_boundary_that_is_called_like_a_new_layer_is_no_trouble():
    labels = torch.arange(12) % 3
    data = tl.Features({"predictions": torch.rand(12, 4)}, labels, CLASSES)
    net, run = HeadBench(data, data).run(Head((4,)))
    assert net.outputs == ("new_predictions",)
    assert run.parameters == net.summary().total
