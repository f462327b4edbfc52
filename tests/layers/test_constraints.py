from __future__ import annotations

import pytest
import torch
from nets import blobs, classifier, seeded

import tlkit as tl
from tlkit.layers.constraints import as_constraints

SHAPES = [(3, 4), (3, 2, 5, 5)]


def weight(shape):
    with seeded(0):
        return torch.randn(shape) * torch.tensor([0.1, 1.0, 10.0]).reshape(-1, *[1] * (len(shape) - 1))


def norms(value):
    return value.flatten(1).norm(dim=1)


@pytest.mark.parametrize("shape", SHAPES)
def test_max_norm_shortens_what_is_too_long_and_leaves_the_rest(shape):
    before, after = weight(shape), weight(shape)
    tl.MaxNorm(1.5).apply(after)
    assert torch.allclose(norms(after), norms(before).clamp(max=1.5))
    short = norms(before) <= 1.5
    assert torch.equal(after[short], before[short])
    directions = [value.flatten(1) / norms(value)[:, None] for value in (before, after)]
    assert torch.allclose(*directions, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_unit_norm_gives_every_unit_a_norm_of_one(shape):
    after = weight(shape)
    tl.UnitNorm().apply(after)
    assert torch.allclose(norms(after), torch.ones(3))


@pytest.mark.parametrize("constraint", [tl.MaxNorm(1.0), tl.UnitNorm(), tl.NonNegative()])
def test_weights_of_zero_stay_finite(constraint):
    value = torch.zeros(2, 3)
    constraint.apply(value)
    assert not value.any()


def test_non_negative_sets_negative_weights_to_zero():
    before, after = weight((3, 4)), weight((3, 4))
    tl.NonNegative().apply(after)
    assert torch.equal(after, before.clamp(min=0))


def built(**options):
    return (
        tl.TransferLearning(classifier(4, 8, 6, 3))
        .fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Sgd(1.0), **options))
        .set_feature_extractor("0")
        .build()
    )


def test_constraints_hold_after_every_step_on_weights_and_not_on_biases_or_frozen_layers():
    net = built(constraints=[tl.NonNegative(), tl.UnitNorm()])
    before = {name: value.clone() for name, value in net.state_dict().items()}
    tl.fit(net, blobs(), epochs=2, progress=False)
    after = net.state_dict()
    for name in ("1.weight", "2.weight"):
        assert (after[name] >= 0).all()
        assert torch.allclose(norms(after[name]), torch.ones(len(after[name])))
    assert torch.equal(after["0.weight"], before["0.weight"])
    assert (after["1.bias"] < 0).any()


def test_one_constraint_needs_no_list():
    assert as_constraints(tl.MaxNorm(3.0)) == (tl.MaxNorm(3.0),) == as_constraints([tl.MaxNorm(3.0)])


@pytest.mark.parametrize("constraint", [tl.MaxNorm(3.0), tl.UnitNorm(), tl.NonNegative()])
def test_constraints_are_plain_data(constraint):
    assert as_constraints(constraint.to_dict()) == (constraint,)


def test_bad_constraints_are_answered_with_good_ones():
    with pytest.raises(
        TypeError, match=r"A constraint is one of MaxNorm, NonNegative, UnitNorm .* got 'MaxNorms'.*Did"
    ):
        tl.FineTuneConfiguration(constraints="MaxNorms")
    with pytest.raises(ValueError, match="above 0, got -1"):
        tl.MaxNorm(-1)
