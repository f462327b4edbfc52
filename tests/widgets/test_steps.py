"""The sizes of steps: from a sample of the weights, and in words."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tlkit as tl

pytest.importorskip("ipywidgets")

from tlkit.widgets.steps import UpdateRatios, describe_ratio


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
