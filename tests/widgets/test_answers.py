"""What a network says of one picture."""

from __future__ import annotations

import pytest
import torch
from nets import classifier

pytest.importorskip("ipywidgets")

from tlkit.widgets.answers import are_scores, rank_answers


def test_the_most_probable_classes_come_first_under_their_names():
    net = classifier(4, 3)
    net.classes = ("a", "b", "c")
    said = torch.tensor([0.2, 0.5, 0.3])
    assert [answer.name for answer in rank_answers(net, said, 2)] == ["b", "c"]
    net.classes = None
    assert rank_answers(net, said)[0] == ("class 1", 0.5)


def test_scores_become_probabilities_and_probabilities_stay():
    assert not are_scores(torch.tensor([0.2, 0.8]))
    assert are_scores(torch.tensor([-1.0, 3.0]))
    ranked = rank_answers(classifier(4, 2), torch.tensor([-1.0, 3.0]))
    assert sum(answer.probability for answer in ranked) == pytest.approx(1)
