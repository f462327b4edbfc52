from __future__ import annotations

import pytest
import torch
from nets import blobs, chain, classifier, furthest, seeded, weights

import tlkit as tl
from tlkit.layers.losses import ACTIVATION_OF
from tlkit.training import lbfgs
from tlkit.training.lbfgs import solve
from tlkit.training.loop import compute_loss


def head(width=4, classes=3, *, l2=0.0, updater=None, **options):
    """The helper of a network whose last layer alone is trainable."""
    net = (
        tl.TransferLearning(chain(width, width))
        .fine_tune_configuration(tl.FineTuneConfiguration(seed=1, l2=l2, updater=updater))
        .set_feature_extractor("0")
        .add_layer("out", tl.Output(classes, **options))
        .build()
    )
    return tl.TransferLearningHelper(net)


def gradient(net, x, y, l2):
    layer = net.vertices["out"].module
    loss = compute_loss(net, x, y) + l2 / 2 * layer.weight.square().sum()
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, [layer.weight, layer.bias])])


@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("loss", [loss for loss in ACTIVATION_OF if loss != "hinge"])
def test_the_solution_is_where_the_gradient_of_all_rows_vanishes(loss, l2, monkeypatch):
    monkeypatch.setattr(lbfgs, "TOLERANCE", 1e-7)
    helper = head(loss=loss, l2=l2)
    helper.network.double()
    x, y = blobs(60)
    x = x.double() * torch.tensor([0.01, 1.0, 30.0, 0.0], dtype=torch.float64) + 5  # of any size, even constant
    before = gradient(helper.unfrozen_network, x, y, l2 or 1 / 60).abs().max()
    history = helper.fit_featurized((x, y), solver="lbfgs", max_iterations=2000)
    after = gradient(helper.unfrozen_network, x, y, l2 or 1 / 60).abs().max()
    assert after < 1e-4 * before
    assert history.losses[-1] <= history.losses[0]


def test_the_networks_own_weights_are_the_solution_and_frozen_ones_stay():
    helper = head()
    frozen = helper.network.vertices["0"].module.weight.clone()
    x, y = blobs(60)
    features = helper.featurize((x, y), progress=False)
    helper.fit_featurized(features, solver="lbfgs")
    assert tl.evaluate(helper.network, (x, y)).accuracy > 0.95
    assert torch.equal(helper.network.vertices["0"].module.weight, frozen)


def test_it_is_the_same_from_anywhere_and_every_time(monkeypatch):
    monkeypatch.setattr(lbfgs, "TOLERANCE", 1e-6)
    first, second = head(), head()
    with torch.no_grad():
        second.network.vertices["out"].module.weight.normal_()
    for helper in (first, second):
        helper.fit_featurized(blobs(60), solver="lbfgs")
    x, _ = blobs(60)  # answers, because the same number on every bias changes none
    answers = [helper.output_from_featurized(x) for helper in (first, second)]
    assert torch.allclose(*answers, atol=1e-3)
    again = head()
    again.fit_featurized(blobs(60), solver="lbfgs")
    assert furthest(weights(first.network), weights(again.network)) == 0


@pytest.mark.slow
def test_it_finds_what_long_training_finds(monkeypatch):
    monkeypatch.setattr(lbfgs, "TOLERANCE", 1e-6)
    solved, trained = head(l2=0.05), head(l2=0.05, updater=tl.Nesterovs(0.3, 0.9))
    solved.fit_featurized(blobs(60), solver="lbfgs")
    trained.fit_featurized(blobs(60), epochs=1500, batch_size=60, progress=False)
    with seeded(3):
        x = torch.randn(20, 4)
    difference = solved.output_from_featurized(x) - trained.output_from_featurized(x)
    assert difference.abs().max() < 0.02


def test_parts_of_the_rows_add_up_to_all_of_them(monkeypatch):
    whole, parts = head(), head()
    whole.fit_featurized(blobs(60), solver="lbfgs")
    monkeypatch.setattr(lbfgs, "ROWS", 7)
    parts.fit_featurized(blobs(60), solver="lbfgs")
    assert furthest(weights(whole.network), weights(parts.network)) < 1e-3


def test_missing_labels_and_probabilities_are_taken_too():
    x, y = blobs(60)
    some = y.clone()
    some[::4] = tl.MISSING
    helper = head()
    helper.fit_featurized((x, some), solver="lbfgs")
    assert tl.evaluate(helper.unfrozen_network, (x, y)).accuracy > 0.9


def test_what_it_cannot_solve_is_said():
    x, y = blobs()
    deep = tl.TransferLearningHelper(classifier(4, 8, 8, 3), "0")
    with pytest.raises(
        ValueError, match=r"ONE tl.Output layer, and the part to train is 1, 2\. Set the boundary right"
    ):
        deep.fit_featurized((torch.zeros(24, 8), y), solver="lbfgs")
    with pytest.raises(ValueError, match=r"'out' drops elements at random"):
        head(dropout=0.5).fit_featurized((x, y), solver="lbfgs")
    with pytest.raises(ValueError, match=r"ONE tl.Output layer, and the part to train is 0"):
        solve(chain(4, 3), (x, y))
    with pytest.raises(ValueError, match=r"no epochs to tell listeners of"):
        head().fit_featurized((x, y), solver="lbfgs", listeners=[tl.Listener()])
    with pytest.raises(ValueError, match=r"solver is 'updater' or 'lbfgs', got 'bfgs'\. Did you mean 'lbfgs'"):
        head().fit_featurized((x, y), solver="bfgs")
    with pytest.raises(ValueError, match="tells 3 classes apart"):
        head().fit_featurized((x, y + 1), solver="lbfgs")
