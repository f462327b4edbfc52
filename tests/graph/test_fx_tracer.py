from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

from tlkit.graph.importing import from_module


class Steps(nn.Module):
    """A layer, and what a function makes of it."""

    def __init__(self, step) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.step = step

    def forward(self, x):
        return self.step(self, x)


def in_a_tuple(m, x):
    return m.first(x) + torch.ones((x.shape[0], x.shape[1]))


def one_by_one(m, x):
    return m.first(x) + torch.ones(x.shape[0], 4, dtype=x.dtype, device=x.device)


def of_the_whole_shape(m, x):
    return m.first(x) * torch.zeros(x.shape)


def filled(m, x):
    out = torch.empty(x.size(0), x.size(1), 2)
    out[:, :, 0] = m.first(x)
    out[..., 1] = x
    return out


def a_mask(m, x):
    mask = torch.tril(torch.ones(x.size(1), x.size(1)))
    return m.first(x) @ mask


def a_length(m, x):
    return m.first(x) * len(x.shape) if len(x[0]) == 4 else x


@pytest.mark.parametrize("step", [in_a_tuple, one_by_one, of_the_whole_shape, filled, a_mask, a_length])
def test_sizes_of_the_input_may_be_asked_for_and_used(step):
    module = Steps(step).eval()
    net = from_module(module, [torch.zeros(1, 4)])
    for rows in (1, 2, 5):
        x = torch.randn(rows, 4)
        assert torch.equal(net(x), module(x))
    again = pickle.loads(pickle.dumps(net))
    assert torch.equal(again(x), net(x))
    assert torch.equal(from_module(net.to_module(), [x])(x), net(x))


def test_tracing_leaves_torchs_own_functions_alone():
    before = {name: getattr(torch, name) for name in ("empty", "ones", "rand", "randn", "zeros")}

    def fails(m, x):
        assert torch.zeros is not before["zeros"]
        raise RuntimeError("on the way")

    with pytest.raises(ValueError, match="on the way"):
        from_module(Steps(fails), [torch.zeros(1, 4)])
    assert before == {name: getattr(torch, name) for name in before}
    with torch.device("meta"):
        assert all(make(2, 2).is_meta for make in before.values())


def test_control_flow_on_sizes_is_followed():
    def step(m, x):
        for _ in range(x.shape[1] // 2):
            x = m.first(x) if x.shape[1] == 4 else x
        return x

    module, x = Steps(step).eval(), torch.randn(2, 4)
    net = from_module(module, [x])
    assert list(net.vertices) == ["first", "first_2"]
    assert torch.equal(net(x), module(x))


def test_a_module_that_holds_no_other_is_a_leaf_by_itself():
    class Leaf(nn.Module):
        def forward(self, x):
            return x * 2 if x.sum() > 0 else x - 1

    module = nn.Sequential(nn.Linear(4, 4), Leaf(), nn.Linear(4, 2)).eval()
    net = from_module(module, [torch.zeros(1, 4)])
    assert net.output_shapes()["1"] == (4,)
    for sign in (1, -1):
        x = sign * torch.rand(2, 4)
        assert torch.equal(net(x), module(x))


class Block(nn.Module):
    """Two layers around a sum; opened at layer granularity."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return x + self.two(self.one(x))


class Stack(nn.Module):
    """Two blocks of one class: no block itself."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def test_a_block_is_one_vertex_and_a_stack_of_blocks_is_opened():
    module = nn.Sequential(Block(), Stack())
    assert list(from_module(module, [torch.zeros(1, 4)]).vertices) == ["0", "1_blocks_0", "1_blocks_1"]
    opened = from_module(module, [torch.zeros(1, 4)], granularity="layer").vertices
    assert [name for name in opened if name.startswith("0")] == ["0_one", "0_two"]
    assert len(opened) == 9
