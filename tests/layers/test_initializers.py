from __future__ import annotations

import math

import pytest
import torch

from tlkit.layers.initializers import (
    SCHEMES,
    Constant,
    LogNormal,
    Normal,
    Orthogonal,
    TruncatedNormal,
    Uniform,
    as_weight_init,
    initialize,
    make_generator,
)


def drawn(scheme, shape=(300, 200), seed=1) -> torch.Tensor:
    weight = torch.full(shape, math.nan)
    initialize(weight, scheme, make_generator(seed, "layer"))
    assert weight.isfinite().all()
    return weight


# DL4J's table of schemes: (fan in, fan out) -> variance of a normal, or bound of a uniform distribution
NORMAL = {
    "xavier": lambda i, o: 2 / (i + o),
    "xavier_fan_in": lambda i, o: 1 / i,
    "relu": lambda i, o: 2 / i,
    "lecun": lambda i, o: 1 / i,
    "lecun_normal": lambda i, o: 1 / i,
    "normal": lambda i, o: 1 / i,
}
UNIFORM = {
    "xavier_uniform": lambda i, o: math.sqrt(6 / (i + o)),
    "relu_uniform": lambda i, o: math.sqrt(6 / i),
    "lecun_uniform": lambda i, o: math.sqrt(3 / i),
    "uniform": lambda i, o: 1 / math.sqrt(i),
    "sigmoid_uniform": lambda i, o: 4 * math.sqrt(6 / (i + o)),
}
# shape of the weight, its fan in and its fan out: torch keeps (out, in, height, width)
SHAPES = [((300, 200), 200, 300), ((64, 32, 3, 5), 32 * 15, 64 * 15)]


def test_every_scheme_is_in_the_tables():
    assert SCHEMES.keys() == NORMAL.keys() | UNIFORM.keys() | {"zero", "ones", "identity"}


@pytest.mark.parametrize(("shape", "fan_in", "fan_out"), SHAPES)
@pytest.mark.parametrize("scheme", NORMAL)
def test_normal_schemes_have_the_variance_of_their_formula(scheme, shape, fan_in, fan_out):
    weight = drawn(scheme, shape)
    variance = NORMAL[scheme](fan_in, fan_out)
    assert float(weight.var()) == pytest.approx(variance, rel=0.05)
    assert abs(float(weight.mean())) < 4 * math.sqrt(variance / weight.numel())
    beyond = (weight.abs() > 3 * math.sqrt(variance)).float().mean()
    assert 0.0005 < float(beyond) < 0.006  # a normal distribution has 0.0027 of its mass there


@pytest.mark.parametrize(("shape", "fan_in", "fan_out"), SHAPES)
@pytest.mark.parametrize("scheme", UNIFORM)
def test_uniform_schemes_fill_their_bounds(scheme, shape, fan_in, fan_out):
    weight = drawn(scheme, shape)
    bound = UNIFORM[scheme](fan_in, fan_out)
    assert float(weight.abs().max()) <= bound
    assert float(weight.max()) == pytest.approx(bound, rel=0.01)
    assert float(weight.min()) == pytest.approx(-bound, rel=0.01)
    assert float(weight.var()) == pytest.approx(bound**2 / 3, rel=0.03)


def test_constant_schemes():
    assert not drawn("zero").any()
    assert (drawn("ones") == 1).all()
    assert torch.equal(drawn("identity", (5, 5)), torch.eye(5))


@pytest.mark.parametrize("shape", [(4, 5), (4, 4, 1, 1)])
def test_identity_needs_a_square_layer(shape):
    with pytest.raises(ValueError, match=r"'identity' needs a square layer, got a weight of shape \(4, "):
        drawn("identity", shape)


def test_distributions():
    normal = drawn(Normal(1, 0.01))
    assert float(normal.mean()) == pytest.approx(1, abs=1e-3)
    assert float(normal.std()) == pytest.approx(0.01, rel=0.03)
    uniform = drawn(Uniform(2, 3))
    assert 2 <= float(uniform.min()) < float(uniform.max()) <= 3
    assert (drawn(Constant(0.5)) == 0.5).all()
    log = drawn(LogNormal(0.5, 0.2)).log()
    assert float(log.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(log.std()) == pytest.approx(0.2, rel=0.03)
    cut = drawn(TruncatedNormal(1, 0.1))
    assert 0.8 <= float(cut.min()) < 0.81
    assert 1.19 < float(cut.max()) <= 1.2
    wide = drawn(Orthogonal(2.0), (20, 3, 2, 2)).flatten(1)
    assert torch.allclose(wide.T @ wide, 4 * torch.eye(12), atol=1e-4)


def test_draws_depend_on_seed_and_name_alone():
    torch.manual_seed(0)
    first = drawn("xavier")
    torch.manual_seed(1)
    torch.rand(10)
    assert torch.equal(drawn("xavier"), first)
    assert not torch.equal(drawn("xavier", seed=2), first)
    other = torch.empty(300, 200)
    initialize(other, "xavier", make_generator(1, "another layer"))
    assert not torch.equal(other, first)
    assert not torch.equal(other + first, torch.zeros_like(first))


def test_the_global_generator_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    for scheme in ("xavier", "relu_uniform", Orthogonal(), TruncatedNormal(), LogNormal()):
        drawn(scheme)
    assert torch.equal(torch.rand(3), expected)


def test_a_parameter_that_trains_can_be_drawn():
    weight = torch.nn.Parameter(torch.zeros(4, 4))
    initialize(weight, "relu", make_generator(1, "layer"))
    assert weight.is_leaf
    assert weight.requires_grad
    assert weight.any()


def test_weights_without_values_take_no_draw():
    weight = torch.empty(3, 3, device="meta")
    initialize(weight, "xavier", make_generator(1, "layer"))
    assert weight.is_meta


@pytest.mark.gpu
def test_draws_on_a_gpu_are_those_of_the_cpu():
    weight = torch.zeros(30, 20, device="cuda")
    initialize(weight, "xavier", make_generator(1, "layer"))
    assert torch.equal(weight.cpu(), drawn("xavier", (30, 20)))


@pytest.mark.parametrize(
    "distribution",
    [Normal(0, 0.01), Uniform(-0.1, 0.1), Constant(1), LogNormal(), TruncatedNormal(0, 2), Orthogonal(1.5)],
)
def test_distributions_survive_as_plain_data(distribution):
    assert as_weight_init(distribution.to_dict()) == as_weight_init(distribution) == distribution


def test_names_are_read_in_any_case():
    assert as_weight_init("XAVIER_UNIFORM") == "xavier_uniform"


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("xavier_unifrom", r"got 'xavier_unifrom'\.? ?Did you mean 'xavier_uniform'"),
        ("kaiming", "weight_init is one of xavier, .*or a distribution such as tl.Normal"),
        (0.01, "got 0.01"),
        ({"distribution": "Cauchy"}, "Cauchy"),
    ],
)
def test_unknown_schemes_list_what_there_is(value, sentence):
    with pytest.raises(ValueError, match=sentence):
        as_weight_init(value)
