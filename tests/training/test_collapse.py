"""A training that makes a network worse says so once; ordinary noisy ones do not."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from by_hand import fit
from nets import blobs, classifier, seeded

import tlkit as tl
from tlkit.training.collapse import find_collapse

GUESSING = math.log(5)


def noisy(levels, spread):
    with seeded(1):
        return [level * float(torch.empty(1).uniform_(1 - spread, 1 + spread)) for level in levels]


def falling(start, end, count=60):
    return [end + (start - end) * math.exp(-step / 10) for step in range(count)]


@pytest.mark.parametrize(
    "levels",
    [
        falling(0.4, 0.2) + [1.7] * 40,
        falling(1.7, 0.5) + [1.62] * 40,
        [1.6, 9.0, 12.0, 8.0] * 10 + falling(9.0, 1.63),
        [1.6] * 3 + [50.0 * 1.1**step for step in range(60)],
    ],
    ids=["from good", "after learning", "at once", "without end"],
)
def test_a_collapse_is_found(levels):
    assert find_collapse(noisy(levels, 0.2), 32, GUESSING)


@pytest.mark.parametrize(
    "levels",
    [
        falling(1.7, 0.3),
        falling(6.0, 1.6),
        [1.61] * 100,
        falling(1.6, 1.3),
        falling(0.5, 0.001),
        [0.001] * 50 + [0.01] * 50,
        falling(1.6, 0.4) + [0.6] * 50,
        [1.6, 9.0, 12.0],
    ],
    ids=["learns", "bad start", "unlearnable", "slow", "fine-tunes", "tiny", "overshoots", "short"],
)
@pytest.mark.parametrize("batch_size", [4, 32])
def test_ordinary_trainings_are_none(levels, batch_size):
    assert find_collapse(noisy(levels, 0.7), batch_size, GUESSING) is None


@pytest.mark.slow  # nineteen trainings
@pytest.mark.parametrize("updater", [tl.Sgd(0.1), tl.Adam(0.01), tl.Nesterovs(0.05, 0.9)])
@pytest.mark.parametrize("batch_size", [2, 8, 24])
@pytest.mark.parametrize("learnable", [True, False])
def test_ordinary_fits_stay_silent(updater, batch_size, learnable):
    x, y = blobs(48)
    with seeded(3):
        y = y if learnable else y[torch.randperm(48)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(classifier(4, 16, 3, updater=updater, dropout=0.2), (x, y), epochs=10, batch_size=batch_size)


def test_a_learning_rate_that_destroys_what_was_learned_is_told_once_with_what_to_do():
    net = classifier(4, 16, 16, 3, updater=tl.Sgd(0.1))
    fit(net, epochs=30, batch_size=8)
    broken = (
        tl.TransferLearning(net)
        .fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Nesterovs(10.0, 0.9)))
        .build()
    )
    with pytest.warns(
        UserWarning, match=r"Training made the network worse: its loss went from .*smaller learning r"
    ) as told:
        history = fit(broken, epochs=20, batch_size=8)
    assert len(told) == 1
    assert history.stopped == ""
