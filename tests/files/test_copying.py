from __future__ import annotations

import copy
import gc

import pytest
import torch
from nets import seeded
from safetensors.torch import load, save
from torch import Tensor, nn

from tlkit.files.copying import copy_module, copy_state

PATHS = ["lazily", "at once"]


@pytest.fixture(params=PATHS)
def path(request, monkeypatch):
    """Copies with torch's lazy clone, and as a torch without it makes them."""
    if request.param == "at once":
        monkeypatch.delattr(torch, "_lazy_clone")
    return request.param


def small() -> nn.Sequential:
    with seeded(1):
        return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3))


def values(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def from_torch_file(tensors, folder, *, mmap):
    torch.save(tensors, folder / "weights.pth")
    return torch.load(folder / "weights.pth", weights_only=True, mmap=mmap)


def views_of_one(tensors):
    """Parts of one storage, as tensors of a file that was read at once are; whole numbers stay alone."""
    numbers = {name: value for name, value in tensors.items() if value.is_floating_point()}
    parts = torch.cat([value.flatten() for value in numbers.values()]).split([v.numel() for v in numbers.values()])
    joined = {name: part.view(value.shape) for (name, value), part in zip(numbers.items(), parts, strict=True)}
    return tensors | joined


MEMORIES = {
    "own": lambda tensors, _: tensors,
    "torch.load": lambda tensors, folder: from_torch_file(tensors, folder, mmap=False),
    "torch.load mmap": lambda tensors, folder: from_torch_file(tensors, folder, mmap=True),
    "safetensors": lambda tensors, _: load(save(tensors)),
    "numpy": lambda tensors, _: {name: torch.from_numpy(value.numpy().copy()) for name, value in tensors.items()},
    "shared": lambda tensors, _: {name: value.share_memory_() for name, value in tensors.items()},
    "views of one": lambda tensors, _: views_of_one(tensors),
}


def train(module: nn.Module, optimizer: type[torch.optim.Optimizer]) -> None:
    """Take two steps, which change all weights and the statistics."""
    rule = optimizer(module.requires_grad_().train().parameters(), lr=0.5)
    for _ in range(2):
        rule.zero_grad()
        with seeded(2):
            module(torch.randn(6, 4)).square().sum().backward()
        rule.step()


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_training_a_module_or_its_copy_never_changes_the_other(path, memory, optimizer, tmp_path):
    module = small()
    module.load_state_dict(MEMORIES[memory](values(module), tmp_path), assign=True)
    twin = copy_module(module, {})
    for trained, other in ((twin, module), (module, twin)):
        before, own = values(other), values(trained)
        train(trained, optimizer)
        assert not any(torch.equal(value, own[name]) for name, value in trained.state_dict().items())
        assert same(values(other), before)


def test_memory_is_shared_until_one_of_the_two_is_changed():
    module = small()
    twin = copy_module(module, {})
    address = torch._C._data_address
    assert all(address(a) == address(b) for a, b in zip(module.parameters(), twin.parameters(), strict=True))
    with torch.no_grad():
        twin[0].weight.add_(1)
    assert address(module[0].weight) != address(twin[0].weight)


def test_what_numpy_can_write_to_is_copied_at_once(path):
    module = small()
    before = values(module)
    alias = module[0].weight.detach().numpy()
    twin = copy_module(module, {})
    alias[:] = 7
    assert same(values(twin), before)
    assert (module[0].weight == 7).all()


@pytest.mark.slow
def test_a_copy_is_equal_and_outlives_its_original(path):
    module = small().eval()
    module[0].bias.requires_grad_(False)
    twin, expected = copy_module(module, {}), module(torch.ones(2, 4))
    assert [p.requires_grad for p in twin.parameters()] == [p.requires_grad for p in module.parameters()]
    assert not any(part.training for part in twin.modules())
    del module
    gc.collect()
    assert torch.equal(twin(torch.ones(2, 4)), expected)


def test_weights_that_modules_share_stay_shared_in_their_copies(path):
    one, other = small(), small()
    other[0].weight = one[0].weight
    memo = {}
    twins = copy_module(one, memo), copy_module(other, memo)
    assert twins[0][0].weight is twins[1][0].weight
    assert twins[0][0].bias is not twins[1][0].bias
    assert twins[0][0].weight is not one[0].weight


def test_a_copied_state_keeps_what_it_was(path):
    module = small()
    state, before = copy_state(module), copy.deepcopy(module.state_dict())
    train(module, torch.optim.SGD)
    assert same(state, before)
    assert not any(value.requires_grad for value in state.values())
