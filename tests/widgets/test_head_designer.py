"""HeadDesigner without a browser: every control is set by its value, as a hand would."""

from __future__ import annotations

import threading

import pytest
import torch
from faces import CLASSES, check_face, features, run_code, same_weights

import tlkit as tl

pytest.importorskip("ipywidgets")

from tlkit.widgets import Head, HeadDesigner
from tlkit.widgets.head_bench import HeadBench

pytestmark = pytest.mark.slow  # trains a head in almost every test

OUTPUT = tl.Output(3)


@pytest.fixture
def designer():
    return HeadDesigner(features(), features(30, seed=1))


def shown(designer):
    """Everything that it says of its runs, once it has settled."""
    assert designer.runs is not None
    return designer._status.value + designer._comparison.value


def test_it_starts_with_the_last_layer_alone_trained(designer):
    (run,) = designer.runs
    assert run.head.hidden == ()
    assert designer.layers == run.layers == (OUTPUT,)
    assert run.accuracy == tl.evaluate(designer.net, features(30, seed=1)).accuracy
    assert run.parameters == 27 == sum(value.numel() for value in designer.net.parameters())
    designer._epochs.value = 30
    assert designer.runs[-1].accuracy > max(run.accuracy, 0.8)


# -- controls -------------------------------------------------------------------------------------------------------

CONTROLS = {
    "preset": (lambda designer: designer._presets, "1024-256 (III.B)", "1024-256"),
    "units": (lambda designer: designer._rows[0].units, 64, "64 relu"),
    "second layer": (lambda designer: designer._rows[1].units, 16, "8 relu, 16 relu"),
    "activation": (lambda designer: designer._rows[0].activation, "tanh", "8 tanh"),
    "dropout": (lambda designer: designer._rows[0].dropout, 0.5, "8 relu dropout 0.5"),
    "weight init": (lambda designer: designer._rows[0].weight_init, "zero", "8 relu zero"),
    "output's dropout": (lambda designer: designer._output.dropout, 0.3, "output dropout 0.3"),
    "output's weight init": (lambda designer: designer._output.weight_init, "lecun_uniform", "output lecun_uniform"),
    "learning rate": (lambda designer: designer._rate, 1e-3, "0.001"),
    "epochs": (lambda designer: designer._epochs, 2, "2 passes"),
}


@pytest.mark.parametrize("name", CONTROLS)
def test_every_control_trains_once_and_its_value_is_in_the_table(designer, name):
    control, value, text = CONTROLS[name]
    designer.layers = 8
    assert len(designer.runs) == 2
    control(designer).value = value
    assert len(designer.runs) == 3
    assert text in shown(designer)
    assert f"{designer.runs[-1].accuracy:.1%}" in shown(designer)
    assert designer.runs[-1].head == designer.head


def test_every_control_is_among_those_and_has_a_label(designer):
    rows = [control for row in designer._rows for control in row.controls]
    controls = [designer._presets, designer._pooling, *rows, *designer._output.controls]
    controls += [designer._rate, designer._epochs]
    assert len(rows) == 4 * 4
    assert len(CONTROLS) + 1 == 2 + 5 + 2 + 2  # pooling has a test of its own
    assert all(control.description for control in controls)


def test_a_change_by_hand_is_trained_in_another_thread_and_the_next_one_ends_it(designer, monkeypatch):
    threads, given_up, began = [], [], threading.Event()
    train = HeadBench.run

    def slow(bench, head, asked, told):
        threads.append(threading.current_thread())
        if head.epochs == 30:
            began.set()
            while not asked():
                pass
            given_up.append(head)
            return None
        return train(bench, head, asked, told)

    monkeypatch.setattr(HeadBench, "run", slow)
    designer._epochs.value = 30
    assert began.wait(10)
    designer._epochs.value = 4
    assert [run.head.epochs for run in designer.runs] == [5, 4]
    assert len(given_up) == 1
    assert threading.main_thread() not in threads


def test_changes_in_quick_succession_are_trained_once(designer):
    with designer._background._working:  # they come before training can begin
        for width in (8, 16, 32, 64, 128):
            designer._rows[0].units.value = width
    assert [run.head.words for run in designer.runs] == ["no hidden layer", "128"]


def test_a_change_by_code_is_trained_when_it_returns(designer):
    designer._epochs.value = 30  # by hand, and given up at once
    designer.layers = 16
    assert [run.head.words for run in designer._runs][-1] == "16"
    assert "Test accuracy" in designer._status.value


def test_a_hidden_layer_brings_a_row_for_the_next_one(designer):
    def visible():
        return [row.layout.display != "none" for row in designer._rows]

    assert visible() == [True, False, False, False]
    assert designer._rows[0].options.layout.display == "none"  # there is no layer to activate
    designer._rows[0].units.value = 64
    assert designer._rows[0].options.layout.display == ""
    assert visible() == [True, True, False, False]
    designer._rows[1].units.value = 16
    assert designer.layers[:-1] == (tl.Dense(64, activation="relu"), tl.Dense(16, activation="relu"))
    designer._rows[0].units.value = 0
    assert designer.layers[:-1] == (tl.Dense(16, activation="relu"),)


def test_presets_are_recognized(designer):
    assert designer._presets.value == "last layer (III.A)"
    designer.layers = 1024, 256
    assert designer._presets.value == "1024-256 (III.B)"
    designer._rows[1].dropout.value = 0.5
    assert designer._presets.value is None
    designer._presets.value = "last layer (III.A)"
    assert designer.layers == (OUTPUT,)


def test_pooling_is_offered_only_where_there_is_height_and_width(designer):
    assert designer._pooling.layout.display == "none"
    spatial = HeadDesigner(features(shape=(5, 3, 3)))
    assert spatial._pooling.layout.display != "none"
    assert spatial.layers == (tl.GlobalPool(), OUTPUT)
    spatial._pooling.value = False
    assert spatial.layers == (tl.Flatten(), OUTPUT)
    assert [run.parameters for run in spatial.runs] == [3 * 6, 3 * 46]
    assert repr(spatial) == "HeadDesigner(5 x 3 x 3 -> 3, 48 rows to train on, 12 rows to test on)"


# -- layers from code -----------------------------------------------------------------------------------------------


def test_layers_are_set_by_widths_or_descriptions_and_trained_once(designer):
    designer.layers = 16, 10  # 10 is none of the slider's widths
    assert designer._rows[1].units.value == 10
    assert len(designer.runs) == 2
    layers = (tl.Dense(12, activation="elu", dropout=0.25), tl.Output(3, dropout=0.25, weight_init=tl.Normal(0, 0.01)))
    designer.layers = layers
    assert len(designer.runs) == 3
    assert designer.runs[-1].head == Head(layers)
    assert designer._rows[0].dropout.label == "0.25"
    designer.layers = tl.Dense(7)
    assert designer.layers == (tl.Dense(7, activation="identity"), layers[-1])
    designer.layers = ()
    assert len(designer.runs) == 5


@pytest.mark.parametrize("shape", [(8,), (5, 3, 3), (4, 6)])
def test_layers_that_were_read_can_be_set(shape):
    designer = HeadDesigner(features(shape=shape))
    designer.layers = [tl.Dense(4, activation="tanh", weight_init="relu"), tl.Output(3, dropout=0.5)]
    read, net = designer.layers, designer.net
    designer.layers = ()
    designer.layers = read
    assert designer.layers == read
    assert same_weights(designer.net, net)


@pytest.mark.parametrize(
    ("layers", "sentence"),
    [
        ("256", "A hidden layer has a whole number of units, at least 1, such as 256; got '256'"),
        ([4] * 5, "up to 4 hidden layers, got 5"),
        ([tl.Output(4)], "The data have 3 classes"),
    ],
)
def test_wrong_layers_are_refused_in_words_and_nothing_is_trained(designer, layers, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        designer.layers = layers
    assert len(designer.runs) == 1
    assert designer.layers == (OUTPUT,)


# -- network and code -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize(("shape", "pooling"), [((8,), True), ((5, 3, 3), True), ((5, 3, 3), False), ((4, 6), True)])
def test_running_its_code_trains_the_same_head(shape, pooling, given):
    train, test = features(shape=shape), features(30, shape, seed=1)
    designer = HeadDesigner(train, test) if given else HeadDesigner(train)
    designer._pooling.value = pooling
    designer._rows[0].dropout.value = 0.3
    designer._rate.value = 3e-3
    designer.layers = 16, tl.Dense(8, activation="gelu", weight_init=tl.Uniform(-0.1, 0.1))
    made = run_code(designer.code, features=train, **({"test": test} if given else {}))["head"]
    assert same_weights(made, designer.net)
    assert str(made.summary()) == str(designer.net.summary())
    assert designer.runs[-1].parameters == made.summary().total


def test_a_feature_store_serves_as_well_as_features_in_memory(tmp_path):
    from tlkit.features.store import StoreSpec

    kept = features()
    key = StoreSpec({"graph": "test"}, {"cut": (8,)}, "float32", CLASSES, kept.labels)
    store = tl.FeatureStore.fill(
        tmp_path / "store", key, lambda rows: {"cut": kept.tensors["cut"][rows.start : rows.stop]}, progress=False
    )
    assert same_weights(HeadDesigner(store).net, HeadDesigner(kept).net)


def test_the_same_head_ends_the_same_each_time(designer):
    layers = [tl.Dense(8, activation="relu", dropout=0.5), OUTPUT]
    designer.layers = layers
    first = designer.net
    designer.layers = 4
    designer.layers = layers
    assert designer.net is not first
    assert same_weights(designer.net, first)
    assert designer.runs[-1].accuracy == designer.runs[1].accuracy


def test_a_helper_is_told_to_featurize_first():
    net = tl.TransferLearning(tl.Network({}, inputs={"x": (4,)}, outputs=["x"]))
    net = net.add_layer("a", tl.Dense(3), "x").add_layer("b", tl.Output(2), "a").set_outputs("b").build()
    with pytest.raises(TypeError, match=r"designed on features, got TransferLearningHelper\. Featurize the images"):
        HeadDesigner(tl.TransferLearningHelper(net, "a"))


# -- what goes wrong ------------------------------------------------------------------------------------------------


def test_training_that_diverges_says_so_in_the_widget(designer):
    designer._bench.train = tl.Features({"cut": torch.full((60, 8), 1e30)}, features().labels, CLASSES)
    before = designer.net
    designer.layers = 8
    assert "<b>Error:</b>" in designer._status.value
    assert "a smaller learning rate" in designer._status.value
    assert "One run." in designer._comparison.value
    assert designer.net is before
    designer._bench.train = features()
    designer._rate.value = 1e-3
    assert "Error" not in shown(designer)
    assert len(designer.runs) == 2


def test_any_other_failure_shows_its_sentence_too(designer, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("The disk is gone.")

    monkeypatch.setattr(designer._bench, "run", fail)
    designer._epochs.value = 3
    assert "<b>Error:</b> The disk is gone." in shown(designer)


def test_a_control_that_cannot_be_says_why(designer):
    designer.layers = 16
    designer._rows[0].weight_init.value = "identity"
    assert "<b>Error:</b>" in shown(designer)
    assert "weight_init=&#x27;identity&#x27; needs a square layer" in shown(designer)
    designer.layers = 8  # as wide as the features
    assert "Error" not in shown(designer)


def test_a_head_that_would_fill_the_memory_is_refused(designer, monkeypatch):
    monkeypatch.setattr("tlkit.widgets.head_bench.available_memory", lambda: 1_000_000)
    designer.layers = 4096, 4096
    assert "needs about 269 MB to train, and 1.0 MB are free. Choose fewer units." in designer._status.value


def test_a_designer_whose_first_head_fails_has_a_face(monkeypatch):
    monkeypatch.setattr("tlkit.widgets.head_bench.available_memory", lambda: 10)
    designer = HeadDesigner(features(), features(30, seed=1))
    assert designer.net is None
    assert designer.runs == []
    assert "Nothing was trained yet." in check_face(designer)


# -- comparison -----------------------------------------------------------------------------------------------------


def test_the_best_run_is_marked_by_a_word_and_old_runs_leave_the_table(designer):
    for width in range(1, 8):
        designer.layers = width
    text = designer._comparison.value
    assert "The last 5 of 8 runs, newest first." in text
    assert text.count("<tr>") == 1 + 5
    best = max(run.accuracy for run in designer.runs)
    assert text.count(">best<") == sum(run.accuracy == best for run in designer.runs[-5:])


def test_the_curves_of_the_last_runs_are_one_picture_with_words(designer):
    designer.layers = 8
    designer.layers = 1
    text = designer._comparison.value
    assert text.count("<img") == 1
    assert "3: 1 goes from" in text
    assert "1: no hidden layer goes from" in text
    assert f"Run 3 (1) ends at {designer.runs[-1].accuracy:.1%}" in text


def test_the_designer_has_a_static_face_without_seconds(designer):
    assert repr(designer) == "HeadDesigner(8 -> 3, 60 rows to train on, 30 rows to test on)"
    face = check_face(designer)
    assert "seconds" in designer._comparison.value
    assert "seconds" not in face
    assert face == check_face(HeadDesigner(features(), features(30, seed=1)))
    assert face.count("<img") == 1


def test_the_face_waits_for_what_was_changed_last(designer):
    designer._rows[0].units.value = 32
    assert "Test accuracy" in designer.face()
    assert ": 32, 5 passes" in designer.face()
