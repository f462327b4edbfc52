"""Heads on a boundary's features."""

from __future__ import annotations

import torch

import tlkit as tl
from tlkit.training.heads import build_head


def test_a_head_is_a_chain_that_reads_the_boundary():
    tuning = tl.FineTuneConfiguration(updater=tl.Sgd(0.5), seed=3)
    head = build_head("cut", (4,), [("hidden", tl.Dense(8)), ("answer", tl.Output(3))], tuning)
    assert head.input_shapes == {"cut": (4,)}
    assert [vertex.inputs for vertex in head.vertices.values()] == [("cut",), ("hidden",)]
    assert head.vertices["hidden"].settings.updater == tl.Sgd(0.5)
    assert head.seed == 3
    assert head(torch.zeros(2, 4)).shape == (2, 3)


def test_a_layer_of_the_boundarys_name_gets_another():
    head = build_head("hidden", (4,), [("hidden", tl.Dense(8)), ("answer", tl.Output(3))])
    assert list(head.vertices) == ["new_hidden", "answer"]
