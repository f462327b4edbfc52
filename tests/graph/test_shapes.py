from __future__ import annotations

import pytest
import torch
from torch import nn

import tlkit as tl
from tlkit.graph.shapes import run_on_meta


def test_shapes_need_no_values_and_leave_the_module_alone():
    module = nn.Sequential(nn.Conv2d(3, 4, 9), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    before = {name: (value.clone(), value._version) for name, value in module.state_dict().items()}
    answer = run_on_meta(module, torch.empty(1, 3, 9, 9, device="meta"))  # too few values for batch norm to train on
    assert answer.is_meta
    assert answer.shape == (1, 4, 1, 1)
    assert module.training
    assert module[2].training
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name][0])
        assert not value.is_meta


def test_a_module_that_remembers_shapes_remembers_nothing_of_this_call():
    class Remembering(nn.Module):
        seen = None

        def forward(self, x):
            self.seen = x if self.seen is None else self.seen
            return self.seen + x

    module = Remembering()
    run_on_meta(module, torch.empty(2, 3, device="meta"))
    assert module.seen is None


@pytest.mark.parametrize("keeps", ["a tensor", "a decision"])
def test_what_needs_values_gets_zeros(keeps):
    class Needy(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)
            self.kept = torch.arange(4.0)

        def forward(self, x, *, shift=0):
            if keeps == "a decision" and x.sum() > 5:
                return x
            return self.layer(x + self.kept) + shift

    answer = run_on_meta(Needy(), torch.empty(3, 4, device="meta"), shift=torch.empty(2, device="meta"))
    assert answer.is_meta
    assert answer.shape == (3, 2)


def test_errors_of_the_module_come_through():
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        run_on_meta(nn.Linear(4, 2), torch.empty(1, 5, device="meta"))


# -- rows -----------------------------------------------------------------------------------------------------------


class Pairs(nn.Module):
    """Right for eight numbers an example only."""

    def __init__(self, rows=-1):
        super().__init__()
        self.layer, self.rows = nn.Linear(4, 8), rows

    def forward(self, x):
        return self.layer(x).reshape(self.rows, 2, 4).flatten(1)


def test_a_width_that_turns_one_example_into_two_rows_is_refused_by_the_vertexs_name():
    net = tl.Network.from_module(Pairs(), torch.zeros(1, 4))
    edits = tl.TransferLearning(net).n_out_replace("layer", 16)
    with pytest.raises(ValueError, match=r"Vertex 'reshape' makes shape \(6, 2, 4\) of 3 examples.*one row for each"):
        edits.build()


def test_an_input_that_turns_one_example_into_two_rows_is_refused():
    net = tl.Network({"pairs": tl.Vertex(Reshaped(), "x")}, {"x": (8,)}, "pairs")
    with pytest.raises(ValueError, match=r"Vertex 'pairs' makes shape \(6, 2, 4\) of 3 examples"):
        tl.TransferLearning(net).set_inputs({"x": (16,)}).build()


class Reshaped(nn.Module):
    def forward(self, x):
        return x.reshape(-1, 2, 4)


class OneRow(nn.Module):
    def forward(self, x):
        return x.reshape(1, -1)


def test_a_module_that_takes_all_examples_for_one_is_refused_at_import():
    with pytest.raises(ValueError, match=r"Vertex 'reshape' makes shape \(1, 12\) of 3 examples"):
        tl.Network.from_module(OneRow(), torch.zeros(1, 4))


def test_rows_may_change_on_the_way_when_the_answer_is_one_an_example():
    class There(nn.Module):
        def forward(self, x):
            return x.reshape(-1, 2).relu().reshape(-1, 8)

    net = tl.Network.from_module(There(), torch.zeros(1, 8))
    assert net(torch.zeros(5, 8)).shape == (5, 8)
