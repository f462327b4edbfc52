"""TrainingMonitor: trains as `tl.fit` does, stops within one batch, and says in words how it stands."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from faces import At
from nets import blobs, classifier, furthest, weights

import tlkit as tl

pytest.importorskip("ipywidgets")

from tlkit.widgets import TrainingMonitor

VIEW = "application/vnd.jupyter.widget-view+json"


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


@pytest.mark.slow
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


@pytest.mark.parametrize("options", [{"epochs": 0}, {"test": blobs(9), "test_every": 0}])
def test_amounts_that_make_no_sense_are_answered_by_the_call(options):
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        run(monitored(**options))


# -- what is shown --------------------------------------------------------------------------------------------------


@pytest.mark.slow
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


def test_time_left_is_shown_while_it_trains():
    texts = []
    monitor = monitored(None, Slow(), At(5, lambda: texts.append(monitor._report(seconds=True))))
    run(monitor)
    assert "iteration 4 of 9, epoch 2 of 3. About 1 s left." in texts[0]
