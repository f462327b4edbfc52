"""Which pictures a network gets wrong, by pairs of classes."""

from __future__ import annotations

import torch

import tlkit as tl
from tlkit.widgets.mistakes import Mistakes


def test_pairs_are_counted_and_the_most_frequent_comes_first():
    images = tl.images.load("drawn", split=None, per_class=4)
    guesses = torch.randn(len(images), 5, generator=torch.Generator().manual_seed(0)).softmax(1)
    mistakes = Mistakes(tl.Evaluation(guesses, images.labels, images.classes), images)
    counts = [pair.count for pair in mistakes.pairs()]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == len(mistakes.rows())
    assert all(len(mistakes.rows(pair[:2])) == pair.count for pair in mistakes.pairs())
