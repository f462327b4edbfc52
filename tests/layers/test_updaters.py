import functools
import json

import pytest
import torch
from torch import nn

import tlkit as tl
from tlkit.layers.updaters import NAMED, TorchUpdater, as_updater

RULES = {
    "Sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "Nesterovs": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.05),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.01),
    "AdaMax": lambda p: torch.optim.Adamax(p, lr=0.05),
    "Nadam": lambda p: torch.optim.NAdam(p, lr=0.05),
    "RmsProp": lambda p: torch.optim.RMSprop(p, lr=0.05, alpha=0.95),
    "AdaGrad": lambda p: torch.optim.Adagrad(p, lr=0.05, eps=1e-6),
    "AdaDelta": lambda p: torch.optim.Adadelta(p, lr=0.05, rho=0.95, eps=1e-6),
}


def steps(make, number=5):
    weight = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    optimizer = make([weight])
    for _ in range(number):
        optimizer.zero_grad()
        (weight**2).sum().backward()
        optimizer.step()
    return weight.detach()


@pytest.mark.parametrize("name", RULES)
def test_each_updater_steps_as_its_torch_optimizer_and_takes_the_learning_rate_first(name):
    updater = getattr(tl, name)(0.05)
    assert updater.lr == 0.05
    assert torch.equal(steps(updater.build), steps(RULES[name]))
    assert not torch.equal(steps(updater.build), steps(lambda p: torch.optim.SGD(p, lr=0.0)))


def test_every_named_updater_is_covered():
    assert set(NAMED) == {*RULES, "TorchUpdater"}


def test_nesterovs_with_one_number_takes_the_learning_rate():
    assert tl.Nesterovs(5e-5) == tl.Nesterovs(lr=5e-5, momentum=0.9)


@pytest.mark.parametrize("name", RULES)
def test_json_brings_back_the_same_updater(name):
    updater = getattr(tl, name)(0.05)
    back = as_updater(json.loads(json.dumps(updater.to_dict())))
    assert back == updater
    assert hash(back) == hash(updater)


def test_a_partial_of_a_torch_optimizer_is_an_updater():
    updater = as_updater(functools.partial(torch.optim.RMSprop, lr=0.05, momentum=0.5))
    assert torch.equal(steps(updater.build), steps(lambda p: torch.optim.RMSprop(p, lr=0.05, momentum=0.5)))
    assert as_updater(json.loads(json.dumps(updater.to_dict()))) == updater


def test_two_partials_that_say_the_same_are_equal():
    first = as_updater(functools.partial(torch.optim.Adam, lr=0.1, betas=[0.8, 0.9]))
    second = as_updater(functools.partial(torch.optim.Adam, betas=(0.8, 0.9), lr=0.1))
    assert first == second
    assert len({first, second}) == 1


def test_numbers_in_a_list_make_the_same_updater():
    assert tl.Adam(0.1, betas=[0.8, 0.9]) == tl.Adam(0.1, betas=(0.8, 0.9))
    assert hash(tl.Adam(0.1, betas=[0.8, 0.9])) == hash(tl.Adam(0.1, betas=(0.8, 0.9)))


def test_a_torch_optimizer_class_is_an_updater():
    assert as_updater(torch.optim.SGD) == TorchUpdater("SGD")


@pytest.mark.parametrize(
    "value",
    [
        "adam",
        0.01,
        functools.partial(dict, lr=0.1),
        nn.Linear,
        {"updater": "Adem"},
        {"updater": "TorchUpdater", "name": "__builtins__", "arguments": []},
        torch.optim.LBFGS,
        object(),
    ],
)
def test_anything_else_is_answered_with_what_an_updater_is(value):
    with pytest.raises(TypeError, match=r"An updater is one of Sgd, .*tl.Adam\(lr=1e-3\).*functools.partial"):
        as_updater(value)


def test_a_mistyped_name_is_answered_with_near_misses():
    with pytest.raises(TypeError, match=r"got 'Nesterov'. Did you mean 'Nesterovs'"):
        as_updater("Nesterov")


def test_an_optimizer_of_ones_own_is_refused():
    class Mine(torch.optim.SGD):
        pass

    with pytest.raises(TypeError, match="An updater is one of"):
        as_updater(functools.partial(Mine, lr=0.1))
