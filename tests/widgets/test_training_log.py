"""What is collected of a training: losses, learning rates and the sizes of steps."""

from __future__ import annotations

import pytest
from nets import blobs, classifier, weights

import tlkit as tl

pytest.importorskip("ipywidgets")

from faces import At

from tlkit.widgets.training_log import TrainingLog


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
