"""Tensors that are brought to a network's device."""

from __future__ import annotations

import torch
from torch import nn

from tlkit.features.moving import find_device, move


def test_nested_tensors_move_and_other_values_stay():
    moved = move(({"x": torch.zeros(2)}, (torch.ones(1), "text")), torch.device("meta"))
    assert moved[0]["x"].is_meta
    assert moved[1][0].is_meta
    assert moved[1][1] == "text"


def test_what_is_there_already_is_not_copied():
    x = torch.zeros(3)
    assert move({"x": x}, torch.device("cpu"))["x"] is x


def test_a_network_is_where_its_weights_or_else_its_buffers_are():
    buffers = nn.BatchNorm1d(2, affine=False)
    assert find_device(nn.Linear(2, 2, device="meta")) == find_device(buffers.to("meta")) == torch.device("meta")
    assert find_device(nn.ReLU()) == torch.device("cpu")
