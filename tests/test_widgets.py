"""The widgets without a browser: every control is set by its value, as a hand would."""

from __future__ import annotations

import pytest
import torch

import tlkit as tl

pytest.importorskip("ipywidgets")

from tlkit.widgets import HeadDesigner, hold_out
from tlkit.widgets.heads import Head, HeadBench

VIEW = "application/vnd.jupyter.widget-view+json"
CLASSES = ("daisy", "roses", "tulips")


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


def test_every_control_has_a_label(designer):
    controls = designer._controls()
    assert len(controls) == 10
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
