"""Between a widget and a training: shown now and then, ended when that is wished."""

from __future__ import annotations

import pytest
from nets import blobs, classifier

import tlkit as tl
from tlkit.training.data import wrap_data

pytest.importorskip("ipywidgets")

from faces import At

from tlkit.widgets.training_watch import Watch


def train(listeners):
    return tl.fit(classifier(4, 8, 3), blobs(), 3, batch_size=8, listeners=listeners, progress=False)


def test_a_wish_to_stop_ends_training_within_the_batch_with_its_reason():
    shown = []
    watch = Watch(lambda *doing: shown.append(doing))
    history = train([At(4, lambda: watch.stop("enough")), watch])
    assert (history.stopped, history.examples) == ("enough", 4 * 8)
    assert watch.history is history
    assert shown[0] == ()


def test_a_measurement_is_announced_and_without_data_there_is_none():
    shown = []
    watch = Watch(lambda *doing: shown.append(doing))
    assert watch.testing(None, 3) == []
    history = train([*watch.testing(wrap_data(blobs(9), classifier(4, 8, 3)), 4), watch])
    assert [iteration for iteration, _ in history.evaluations] == [4, 8, 9]
    assert shown.count(("Testing …",)) == 3
