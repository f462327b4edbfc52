"""TrainingMonitor: trains as `tl.fit` does, stops within one batch, and says in words how it stands."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
import torch
from nets import blobs, classifier, furthest, weights
from torch import nn

import tlkit as tl

pytest.importorskip("ipywidgets")

from tlkit.widgets import TrainingMonitor
from tlkit.widgets.curves import draw_line
from tlkit.widgets.layer_table import layer_table
from tlkit.widgets.steps import UpdateRatios, describe_ratio
from tlkit.widgets.stopwatch import describe_seconds, seconds_left
from tlkit.widgets.training_log import LayerSteps, TrainingLog

VIEW = "application/vnd.jupyter.widget-view+json"


class At(tl.Listener):
    """Does something after some iterations."""

    def __init__(self, iteration, action):
        self.iteration, self.action = iteration, action

    def iteration_done(self, training):
        if training.iteration == self.iteration:
            self.action()


class Slow(tl.Listener):
    """Takes a while for each batch."""

    def iteration_done(self, training):
        time.sleep(0.01)


def monitored(net=None, *listeners, epochs=3, **options):
    """A monitor of nine iterations on rows that a linear layer can tell apart."""
    net = net or classifier(4, 8, 3)
    return TrainingMonitor(tl.fit, net, blobs(), epochs, batch_size=8, listeners=listeners, **options)


def run(monitor):
    return asyncio.run(monitor.run())


def finish(monitor):
    """Wait for a training that a click started."""
    monitor._thread.join(20)
    assert not monitor.running


def helper_and_features():
    net = classifier(4, 8, 6, 3).freeze("0")
    helper = tl.TransferLearningHelper(net)
    return helper, helper.featurize(blobs(), progress=False)


# -- it trains as fit does ------------------------------------------------------------------------------------------


def test_it_trains_as_fit_does():
    net, twin = classifier(4, 8, 3, dropout=0.5), classifier(4, 8, 3, dropout=0.5)
    history = run(monitored(net))
    expected = tl.fit(twin, blobs(), 3, batch_size=8, progress=False)
    assert furthest(weights(net), weights(twin)) == 0
    assert history.losses == expected.losses
    assert (history.examples, history.stopped) == (expected.examples, "")
    assert not net.training


def test_nothing_is_trained_before_it_is_started():
    net = classifier(4, 8, 3)
    before = weights(net)
    monitor = monitored(net)
    assert repr(monitor) == "TrainingMonitor(tl.fit: 9 iterations of 8, not started)"
    assert "Not started." in monitor._status.value
    assert furthest(weights(net), before) == 0
    assert monitor.history is None


@pytest.mark.parametrize("options", [{}, {"test": blobs(9)}, {"test": blobs(9), "test_every": 2, "max_iterations": 5}])
@pytest.mark.parametrize("own", [False, True])
def test_running_its_code_trains_the_same_network(options, own):
    net, twin = classifier(4, 8, 3), classifier(4, 8, 3)
    names = {"tl": tl, "net": twin, "data": blobs(), "test": blobs(9), "listeners": [tl.Unfreeze(1)]}
    monitor = monitored(net, *names["listeners"] * own, **options)
    history = run(monitor)
    exec(monitor.code, names)
    assert furthest(weights(net), weights(twin)) == 0
    assert names["history"].evaluations == history.evaluations
    assert len(history.evaluations) == (0 if not options else 3)


def test_a_helpers_training_is_followed_too_and_its_code_does_the_same():
    (helper, features), (other, same) = helper_and_features(), helper_and_features()
    monitor = TrainingMonitor(helper.fit_featurized, features, epochs=2, batch_size=8, test=features)
    history = run(monitor)
    assert monitor.code == (
        "history = helper.fit_featurized(features, epochs=2, batch_size=8, listeners=[tl.EvaluateEvery(3, test)])"
    )
    names = {"tl": tl, "helper": other, "features": same, "test": same}
    exec(monitor.code, names)
    assert furthest(weights(helper.network), weights(other.network)) == 0
    assert names["history"].evaluations == history.evaluations
    assert repr(monitor) == "TrainingMonitor(helper.fit_featurized: 6 iterations of 8, finished)"
    assert [layer.name for layer in monitor._seen.layers] == ["1", "2"]


def test_the_code_names_data_and_writes_what_is_short():
    monitor = monitored(shuffle=False, progress=True)
    assert monitor.code == "history = tl.fit(net, data, epochs=3, batch_size=8, shuffle=False)"


def test_long_code_is_written_in_lines():
    code = monitored(None, tl.Unfreeze(1), shuffle=False, max_iterations=5, test=blobs(9), test_every=2).code
    assert code.splitlines()[0] == "history = tl.fit("
    assert code.splitlines()[-2:] == ["    listeners=[*listeners, tl.EvaluateEvery(2, test)],", ")"]
    assert max(map(len, code.splitlines())) < 80


def test_nothing_is_printed_and_no_bar_is_drawn(capfd):
    run(monitored(test=blobs(9)))
    assert capfd.readouterr() == ("", "")


# -- start and stop -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batches", [1, 4, 8])
def test_stop_ends_within_the_batch_and_leaves_what_that_many_batches_make(batches):
    net, twin = classifier(4, 8, 3, dropout=0.5), classifier(4, 8, 3, dropout=0.5)
    monitor = monitored(net, At(batches, lambda: monitor._stop.click()))
    history = run(monitor)
    tl.fit(twin, blobs(), 3, batch_size=8, max_iterations=batches, progress=False)
    assert len(history.losses) == batches
    assert history.stopped == "by hand"
    assert furthest(weights(net), weights(twin)) == 0
    assert not net.training
    assert f"Stopped after iteration {batches} of 9: by hand." in monitor._status.value
    assert repr(monitor).endswith("stopped: by hand)")


def test_a_stop_in_the_last_batch_is_no_stop():
    monitor = monitored(None, At(9, lambda: monitor.stop()))
    assert run(monitor).stopped == ""
    assert "Finished: 9 iterations." in monitor._status.value


def test_a_stopped_training_goes_on_from_where_it_was():
    net, twin = classifier(4, 8, 3, updater=tl.Adam(0.01)), classifier(4, 8, 3, updater=tl.Adam(0.01))
    monitor = monitored(net, At(4, lambda: None if len(monitor._seen.starts) > 1 else monitor.stop()))
    run(monitor)
    run(monitor)
    tl.fit(twin, blobs(), 3, batch_size=8, max_iterations=4, progress=False)
    tl.fit(twin, blobs(), 3, batch_size=8, progress=False)
    assert furthest(weights(net), weights(twin)) == 0
    assert len(monitor.history.losses) == 9  # those of the last call
    assert (len(monitor._seen.losses), monitor._seen.starts) == (13, [0, 4])
    assert monitor._charts.value.count("started again") == 1


def test_a_click_on_start_trains_without_anybody_waiting():
    monitor = monitored(None, Slow())
    monitor._start.click()
    assert monitor.running
    finish(monitor)
    assert len(monitor.history.losses) == 9
    assert "Finished: 9 iterations." in monitor._status.value
    assert (monitor._start.disabled, monitor._stop.disabled) == (False, True)


def test_the_buttons_and_the_bar_follow_the_training():
    seen = []
    monitor = monitored(
        None, At(5, lambda: seen.append((monitor._start.disabled, monitor._stop.disabled, repr(monitor))))
    )
    assert (monitor._start.disabled, monitor._stop.disabled) == (False, True)
    run(monitor)
    assert seen == [(True, False, "TrainingMonitor(tl.fit: 9 iterations of 8, training)")]
    assert (monitor._bar.value, monitor._bar.max) == (9, 9)


def test_a_second_start_while_it_trains_changes_nothing_and_run_waits_for_the_first():
    monitor = monitored(None, Slow())
    monitor.start()
    first = monitor._thread
    monitor._start.click()
    assert monitor._thread is first
    assert len(run(monitor).losses) == 9
    assert monitor._seen.starts == [0]


def test_stop_cuts_a_measurement_short():
    class Endless:
        """Test data that end only when training is to stop."""

        classes = ()
        names = ("input_1",)

        def __len__(self):
            return 8

        def batches(self, batch_size):
            x, labels = blobs(8)
            while True:
                monitor.stop()
                yield x, labels

    net = classifier(4, 8, 3)
    Endless.names = net.inputs
    monitor = monitored(net, test=Endless(), test_every=2)
    history = run(monitor)
    assert (len(history.losses), history.evaluations, history.stopped) == (2, [], "by hand")
    assert not net.training


def test_an_interrupt_stops_training_and_goes_on_to_the_cell():
    monitor = monitored(None, Slow(), epochs=1000)

    async def interrupted():
        task = asyncio.ensure_future(monitor.run())
        while not monitor._seen.losses:
            await asyncio.sleep(0.01)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(interrupted())
    assert not monitor.running
    assert monitor.history.stopped == "interrupted"
    assert not monitor._call.net.training


def test_the_event_loop_is_free_while_it_trains():
    monitor = monitored(None, Slow())
    turns = []

    async def both():
        training = asyncio.ensure_future(monitor.run())
        while not training.done():
            turns.append(1)
            await asyncio.sleep(0.01)

    asyncio.run(both())
    assert len(turns) > 2
    assert threading.current_thread() is not monitor._thread


# -- errors ---------------------------------------------------------------------------------------------------------


def test_an_error_is_shown_with_the_sentence_of_fit_and_raised():
    net = classifier(4, 8, 3).freeze("1")
    with pytest.raises(ValueError, match="Everything is frozen") as expected:
        tl.fit(net, blobs(), progress=False)
    monitor = monitored(net)
    with pytest.raises(ValueError, match="Everything is frozen") as raised:
        run(monitor)
    assert str(raised.value) == str(expected.value)
    assert "<b>Error:</b> Everything is frozen, so there is nothing to train." in monitor._status.value
    assert repr(monitor).endswith("failed)")
    assert (monitor._start.disabled, monitor._stop.disabled) == (False, True)
    net.unfreeze()
    assert run(monitor).stopped == ""
    assert "Error" not in monitor._status.value


def test_after_a_click_an_error_is_shown_alone():
    def fail():
        raise KeyError("No such flower.")

    net = classifier(4, 8, 3)
    monitor = monitored(net, At(2, fail))
    monitor._start.click()
    finish(monitor)
    assert "<b>Error:</b> No such flower." in monitor._status.value
    assert len(monitor.history.losses) == 2
    assert not net.training


def test_training_that_diverges_says_why_it_stopped():
    monitor = monitored(classifier(4, 8, 3, updater=tl.Sgd(1e30)))
    history = run(monitor)
    assert "the loss is" in history.stopped
    assert "try a smaller learning rate" in monitor._status.value
    monitor.face()


@pytest.mark.parametrize(
    ("arguments", "options", "sentence"),
    [
        ((), {}, r"tl\.fit: missing a required argument: 'net'\. Write what it is called with behind it"),
        (("net", blobs()), {"epoch": 3}, r"tl\.fit has no parameter 'epoch'\. Did you mean 'epochs'\? It has 'net'"),
        (("net", blobs()), {"tests": blobs()}, "Did you mean 'test'"),
        (("net", [1, 2]), {}, r"Expected images, features or a tuple of tensors"),
        (("net", blobs()), {"test": 3}, r"Expected images, features or a tuple of tensors \(x, y\), got int"),
        (("net", blobs()), {"test_every": 3}, "there is nothing to test on"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_at_once(arguments, options, sentence):
    net = classifier(4, 8, 3)
    with pytest.raises((TypeError, ValueError), match=sentence):
        TrainingMonitor(tl.fit, *(net if argument == "net" else argument for argument in arguments), **options)


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (tl.evaluate, "the function is tl.fit or helper.fit_featurized, got evaluate"),
        (tl.History(), r"got History\. It was called already: write tl\.fit, net, data"),
        (None, "got NoneType"),
    ],
)
def test_a_function_that_does_not_train_is_refused(function, sentence):
    with pytest.raises(TypeError, match=sentence):
        TrainingMonitor(function, classifier(4, 3), blobs())


@pytest.mark.parametrize("options", [{"epochs": 0}, {"test": blobs(9), "test_every": 0}])
def test_amounts_that_make_no_sense_are_answered_by_the_call(options):
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        run(monitored(**options))


# -- what is shown --------------------------------------------------------------------------------------------------


def test_it_has_a_static_face_without_seconds_that_is_the_same_each_time():
    monitor, again = monitored(test=blobs(9)), monitored(test=blobs(9))
    assert "Not started." in monitor.face()
    run(monitor)
    run(again)
    bundle = monitor._repr_mimebundle_()
    assert VIEW in bundle
    assert bundle["text/plain"] == repr(monitor)
    face = bundle["text/html"]
    assert face == again.face()
    assert "s in all" in monitor._status.value
    assert "s in all" not in face
    assert face.count("<img") == face.count(' alt="') == 2
    assert "EvaluateEvery(3, test)" in face
    for absent in ("<style", "<script", "class=", "<svg"):  # what untrusted viewers drop
        assert absent not in face
    assert len(face) < 80_000


def test_the_curves_and_the_table_say_in_words_what_they_show():
    monitor = monitored(test=blobs(9))
    run(monitor)
    losses, accuracy = monitor._seen.losses, monitor._seen.evaluations[-1][1]
    assert f"falls from {losses[0]:.2f} to {losses[-1]:.2f}" in monitor._charts.value
    assert f"Accuracy on test data (dashed): {accuracy:.1%}." in monitor._charts.value
    assert monitor._charts.value.count('role="img" aria-label="') == 2
    assert monitor._table.value.count("<tr>") == 1 + 2
    assert "0.1" in monitor._table.value


def test_accuracy_that_another_listener_measured_is_shown_too():
    monitor = monitored(None, tl.EarlyStopping(blobs(9), patience=9))
    run(monitor)
    assert [iteration for iteration, _ in monitor._seen.evaluations] == [3, 6, 9]


def test_every_control_has_a_label():
    monitor = monitored()
    assert all(control.description for control in (monitor._start, monitor._stop, monitor._bar))
    assert monitor._start.tooltip
    assert monitor._stop.tooltip


def test_time_left_is_that_of_the_steps_so_far_and_coarse():
    assert seconds_left(0, 30, 0.0) is None
    assert seconds_left(1, 30, 2.0) is None
    assert seconds_left(10, 30, 5.0) == 10.0
    assert seconds_left(30, 30, 5.0) == 0
    assert [describe_seconds(value) for value in (0.2, 1, 9.1, 11, 61, 91, 5400, 9000)] == [
        "1 s", "1 s", "10 s", "20 s", "70 s", "2 min", "90 min", "2.5 h",
    ]  # fmt: skip


def test_time_left_is_shown_while_it_trains():
    texts = []
    monitor = monitored(None, Slow(), At(5, lambda: texts.append(monitor._report(seconds=True))))
    run(monitor)
    assert "iteration 4 of 9, epoch 2 of 3. About 1 s left." in texts[0]


# -- sizes of steps -------------------------------------------------------------------------------------------------


def test_the_ratio_is_that_of_the_mean_step_to_the_mean_weight():
    net = classifier(4, 8, 3, updater=tl.Sgd(0.5))
    log = TrainingLog()
    before = weights(net)
    tl.fit(net, blobs(), max_iterations=1, batch_size=8, listeners=[log], progress=False)
    for layer in log.layers:
        key = f"{layer.name}.weight"
        step = (net.state_dict()[key] - before[key]).abs().mean() / before[key].abs().mean()
        assert layer.ratio == pytest.approx(float(step), rel=1e-5)
    assert [layer.rate for layer in log.layers] == [0.5, 0.5]


def test_frozen_layers_have_no_steps_and_unfrozen_ones_join():
    net = classifier(4, 8, 3).freeze("0")
    log, names = TrainingLog(), []
    note = At(2, lambda: names.append([layer.name for layer in log.layers]))
    tl.fit(net, blobs(), 2, batch_size=8, listeners=[tl.Unfreeze(1), log, note], progress=False)
    assert names == [["1"]]
    assert [layer.name for layer in log.layers] == ["0", "1"]


def test_a_large_layer_is_judged_by_a_sample_of_its_weights():
    with torch.no_grad():
        layer = nn.Linear(600, 200, bias=False)
        net = tl.Network.from_module(layer, [torch.zeros(1, 600)])
        ratios = UpdateRatios()
        ratios.measure(net)
        weight = next(net.parameters())
        before = weight.clone()
        weight.add_(0.01 * torch.randn(200, 600, generator=torch.Generator().manual_seed(1)))
        exact = float((weight - before).abs().mean() / before.abs().mean())
        (estimate,) = ratios.measure(net).values()
    assert estimate == pytest.approx(exact, rel=0.05)
    assert estimate != exact


def test_sizes_are_told_in_words_with_the_line_at_a_thousandth():
    assert describe_ratio(0.001) == (-3.0, "usual")
    assert [describe_ratio(ratio)[1] for ratio in (0.2, 0.011, 0.0099, 1e-4, 1e-5, 0.0)] == [
        "large steps", "usual", "usual", "usual", "small steps", "does not move",
    ]  # fmt: skip
    table = layer_table([LayerSteps("fc<2>", 0.01, 0.001), LayerSteps("head", None, 0.0)])
    assert "fc&lt;2&gt;" in table
    assert "−3.0" in table
    assert "does not move" in table
    assert layer_table([]) == ""


def test_of_very_many_layers_the_last_twenty_are_listed():
    table = layer_table([LayerSteps(f"layer{number}", 0.1, 0.001) for number in range(160)])
    assert table.count("<tr>") == 1 + 20
    assert "The first 140 of 160 layers are left out." in table
    assert "layer159" in table


def test_a_chart_of_very_many_points_stays_small_and_keeps_the_last():
    chart = draw_line("Loss.", [(step, 1 / step) for step in range(1, 100_001)], last=100_000)
    assert len(chart) < 8000
    assert chart.split('points="')[1].split('"')[0].split()[-1].startswith("388.0,")


@pytest.mark.parametrize("points", [[], [(1, 0.0)], [(1, float("nan")), (2, float("inf"))], [(1, -3.0), (2, 5.0)]])
def test_a_chart_of_odd_values_is_drawn(points):
    chart = draw_line("A < B.", points, last=2)
    assert "A &lt; B." in chart
    assert "nan" not in chart
    assert "inf" not in chart
