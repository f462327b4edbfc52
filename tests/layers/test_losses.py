from __future__ import annotations

import pytest
import torch
from nets import blobs, chain, classifier, seeded
from torch import nn
from torch.nn import functional as F

import tlkit as tl
from tlkit.layers.activations import ACTIVATIONS, make_activation
from tlkit.layers.losses import ACTIVATION_OF, MISSING, average_loss, check_output, is_known

LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def own(loss):
    return make_activation(ACTIVATION_OF[loss])


def raw_values(units=3):
    with seeded(0):
        return torch.randn(6, units, dtype=torch.float64)


# -- values ---------------------------------------------------------------------------------------------------------


def test_negative_log_likelihood_is_the_cross_entropy_of_the_answers():
    raw = raw_values()
    expected = -raw.softmax(1)[torch.arange(6), LABELS].log().mean()
    assert torch.allclose(average_loss("negative_log_likelihood", nn.Softmax(1), raw, LABELS), expected)
    assert torch.allclose(
        average_loss("negative_log_likelihood", nn.Softmax(1), raw, F.one_hot(LABELS).double()), expected
    )


def test_binary_cross_entropy_takes_several_labels_a_row():
    raw = raw_values()
    several = torch.tensor([[1, 0, 1], [0, 0, 0]] * 3)
    p = raw.sigmoid()
    expected = -(several * p.log() + (1 - several) * (1 - p).log()).mean()
    assert torch.allclose(average_loss("binary_cross_entropy", nn.Sigmoid(), raw, several), expected)


def test_mean_squared_error_compares_numbers():
    raw, targets = raw_values(), raw_values().flip(0)
    assert torch.allclose(average_loss("mean_squared_error", None, raw, targets), (raw - targets).square().mean())


def test_hinge_asks_for_a_margin_of_one_on_the_right_side():
    raw = torch.tensor([[2.0, -3.0, 0.5]])
    # class 0 is right: 2 is far enough; -3 is far enough on the other side; 0.5 is on the wrong side by 1.5
    assert float(average_loss("hinge", None, raw, torch.tensor([0]))) == pytest.approx(1.5 / 3)


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "mean_squared_error", "hinge"])
def test_class_numbers_are_one_for_their_class_and_zero_for_the_others(loss):
    raw = raw_values()
    one_hot = F.one_hot(LABELS, 3).double()
    assert torch.equal(average_loss(loss, own(loss), raw, LABELS), average_loss(loss, own(loss), raw, one_hot))


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "mean_squared_error", "hinge"])
def test_one_unit_takes_labels_without_a_column(loss):
    raw, labels = raw_values(1), torch.tensor([0, 1, 1, 0, 1, 0])
    assert torch.equal(
        average_loss(loss, own(loss), raw, labels),
        average_loss(loss, own(loss), raw, labels[:, None].double()),
    )


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "mean_squared_error", "hinge"])
def test_labels_of_another_shape_are_named(loss):
    with pytest.raises(ValueError, match=r"values of shape \(6, 3\) with labels, got shape \(6,\)"):
        average_loss(loss, own(loss), torch.zeros(6, 3), torch.zeros(6))


def test_the_fused_loss_stays_finite_where_the_probabilities_are_zero():
    loss = average_loss("negative_log_likelihood", nn.Softmax(1), torch.tensor([[1000.0, -1000.0]]), torch.tensor([1]))
    assert float(loss) == pytest.approx(2000)


@pytest.mark.parametrize("loss", ACTIVATION_OF)
def test_losses_of_images_are_means_over_their_points(loss):
    with seeded(0):
        raw, labels = torch.randn(2, 3, 4, 5), torch.randint(3, (2, 4, 5))
    flat = raw.permute(0, 2, 3, 1).reshape(-1, 3)
    assert torch.allclose(
        average_loss(loss, own(loss), raw, labels), average_loss(loss, own(loss), flat, labels.flatten())
    )


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "tanh", "hard_sigmoid", "identity"])
@pytest.mark.parametrize("loss", ACTIVATION_OF)
def test_any_activation_can_be_trained_and_its_gradient_is_the_numerical_one(loss, activation):
    raw = (raw_values() / 4).requires_grad_()  # inside the range where hard activations bend
    assert torch.autograd.gradcheck(lambda value: average_loss(loss, make_activation(activation), value, LABELS), raw)


def test_a_fused_loss_is_the_one_that_is_computed_from_the_answers():
    class Same(nn.Module):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def forward(self, x):
            return self.function(x)

    raw = raw_values()
    for loss, function in (
        ("negative_log_likelihood", lambda x: x.softmax(1)),
        ("binary_cross_entropy", torch.sigmoid),
    ):
        apart = average_loss(loss, Same(function), raw, LABELS)
        assert torch.allclose(average_loss(loss, own(loss), raw, LABELS), apart, atol=1e-9)


# -- missing labels -------------------------------------------------------------------------------------------------


def test_missing_labels_are_nan_among_numbers_and_minus_100_among_class_numbers():
    assert is_known(torch.tensor([0, MISSING, 3])).tolist() == [True, False, True]
    assert is_known(torch.tensor([0.0, float("nan"), -100.0])).tolist() == [True, False, True]
    assert tl.MISSING == MISSING == nn.CrossEntropyLoss().ignore_index


@pytest.mark.parametrize("loss", ACTIVATION_OF)
def test_rows_without_a_label_change_neither_loss_nor_gradient(loss):
    some = torch.tensor([0, MISSING, 2, MISSING, 1, 2])
    rows = some != MISSING
    raw, fewer = raw_values().requires_grad_(), raw_values()[rows].requires_grad_()
    value, expected = (
        average_loss(loss, own(loss), raw, some),
        average_loss(loss, own(loss), fewer, some[rows]),
    )
    assert torch.allclose(value, expected)
    value.backward()
    expected.backward()
    assert torch.allclose(raw.grad[rows], fewer.grad)
    assert not raw.grad[~rows].any()


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "mean_squared_error", "hinge"])
def test_single_numbers_may_be_missing(loss):
    raw = raw_values().requires_grad_()
    targets = F.one_hot(LABELS, 3).double()
    targets[0, 1] = targets[4] = float("nan")
    average_loss(loss, own(loss), raw, targets).backward()
    assert raw.grad.isfinite().all()
    assert raw.grad[0, 1] == 0
    assert not raw.grad[4].any()
    assert raw.grad[0, 0] != 0


@pytest.mark.parametrize("loss", ACTIVATION_OF)
def test_a_batch_without_any_label_has_no_loss_and_no_gradient(loss):
    raw = raw_values().requires_grad_()
    value = average_loss(loss, own(loss), raw, torch.full((6,), MISSING))
    value.backward()
    assert float(value.detach()) == 0
    assert not raw.grad.any()


@pytest.mark.slow
def test_training_and_evaluation_leave_out_rows_without_a_label():
    x, labels = blobs(24)
    some = labels.clone()
    some[::3] = MISSING
    nets = [classifier(4, 8, 3), classifier(4, 8, 3)]
    tl.fit(nets[0], (x, some), epochs=3, batch_size=24, shuffle=False, progress=False)
    tl.fit(nets[1], (x[some >= 0], labels[some >= 0]), epochs=3, batch_size=24, shuffle=False, progress=False)
    for name, value in nets[0].state_dict().items():
        assert torch.allclose(value, nets[1].state_dict()[name], atol=1e-6)
    assert tl.evaluate(nets[0], (x, some)).accuracy == tl.evaluate(nets[1], (x[some >= 0], labels[some >= 0])).accuracy
    assert len(tl.evaluate(nets[0], (x, some)).labels) == 16


def test_labels_that_are_all_missing_are_an_error():
    with pytest.raises(ValueError, match=r"Every label of the output '1' is missing \(-100\)"):
        tl.fit(classifier(4, 8, 3), (torch.zeros(2, 4), torch.tensor([MISSING, MISSING])), progress=False)


# -- several outputs ------------------------------------------------------------------------------------------------


def two_outputs(weights=(1.0, 1.0)):
    return (
        tl.TransferLearning(chain(4, 8))
        .fine_tune_configuration(tl.FineTuneConfiguration(seed=1, updater=tl.Sgd(0.1)))
        .add_layer("kind", tl.Output(3, loss_weight=weights[0]), "0")
        .add_layer("size", tl.Output(1, loss="mean_squared_error", loss_weight=weights[1]), "0")
        .set_outputs("kind", "size")
        .build()
    )


def test_losses_of_several_outputs_are_added_with_their_weights():
    from tlkit.training.loop import compute_loss

    x, kinds = blobs(12)
    labels = {"kind": kinds, "size": x[:, 0]}
    parts = [compute_loss(two_outputs(weights), x, labels) for weights in ((1, 0), (0, 1), (2, 0.5))]
    assert torch.allclose(parts[2], 2 * parts[0] + 0.5 * parts[1])


def test_an_output_whose_labels_are_missing_leaves_the_other_one_alone():
    x, kinds = blobs(12)
    net = two_outputs()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    tl.fit(net, (x, {"kind": kinds, "size": torch.full((12,), float("nan"))}), progress=False)
    after = net.state_dict()
    assert torch.equal(after["size.weight"], before["size.weight"])
    assert not torch.equal(after["kind.weight"], before["kind.weight"])


def test_an_output_that_is_frozen_adds_nothing_to_the_loss():
    from tlkit.training.loop import compute_loss

    x, kinds = blobs(12)
    net = two_outputs()
    net.freeze_exactly({"0": False, "size": False})
    losses = [compute_loss(net, x, {"kind": kinds, "size": torch.full((12,), size)}) for size in (0.0, 99.0)]
    assert torch.equal(*losses)
    assert torch.equal(losses[0], compute_loss(two_outputs((1, 0)), x, {"kind": kinds, "size": x[:, 0]}))


def test_a_network_trained_on_margins_is_evaluated_by_its_largest_score():
    net = classifier(4, 8, 3, loss="hinge")
    x, labels = blobs(30)
    history = tl.fit(net, (x, labels), epochs=40, listeners=[tl.EvaluateEvery(10, (x, labels))], progress=False)
    found = tl.evaluate(net, (x, labels))
    scores = net(x)
    assert found.accuracy == float((scores.argmax(1) == labels).float().mean()) > 0.8
    assert history.evaluations[-1][1] == found.accuracy
    assert torch.allclose(found.probabilities.sum(1), torch.ones(30))


# -- what cannot be meant -------------------------------------------------------------------------------------------

GOOD = [
    ("negative_log_likelihood", "softmax", 2),
    ("binary_cross_entropy", "sigmoid", 1),
    ("binary_cross_entropy", "hard_sigmoid", 3),
    *(("mean_squared_error", name, 3) for name in ("identity", "relu", "tanh", "softmax", "sigmoid")),
    ("hinge", "tanh", 1),
]
BAD = [
    ("negative_log_likelihood", "softmax", 1, "A softmax over one class always answers 1"),
    ("mean_squared_error", "softmax", 1, "A softmax over one class always answers 1"),
    ("binary_cross_entropy", "softmax", 3, "needs the answers of the activation 'sigmoid', got 'softmax'"),
    ("negative_log_likelihood", "sigmoid", 3, "needs the answers of the activation 'softmax', got 'sigmoid'"),
    *(
        (loss, name, 3, f"needs the answers of the activation '{ACTIVATION_OF[loss]}', got '{name}'")
        for loss in ("negative_log_likelihood", "binary_cross_entropy")
        for name in ACTIVATIONS
        if name not in ("softmax", "sigmoid", "hard_sigmoid")
    ),
]


@pytest.mark.parametrize(("loss", "activation", "units"), GOOD)
def test_outputs_that_make_sense_are_built(loss, activation, units):
    check_output("out", loss, make_activation(activation), units)
    assert built(loss, activation, units).outputs == ("out",)


@pytest.mark.parametrize(("loss", "activation", "units", "sentence"), BAD)
def test_outputs_that_contradict_their_loss_are_refused_unless_told_otherwise(loss, activation, units, sentence):
    with pytest.raises(
        ValueError, match=rf"The output 'out' cannot be meant\. .*{sentence}.*validate_output_layer=False"
    ):
        built(loss, activation, units)
    net = built(loss, activation, units, validate_output_layer=False)
    x, labels = blobs(12, classes=max(units, 1))
    history = tl.fit(net, (x, labels % units), epochs=2, progress=False)
    assert all(torch.isfinite(torch.tensor(history.losses)))


def built(loss, activation, units, **options):
    return (
        tl.TransferLearning(chain(4, 8))
        .add_layer("out", tl.Output(units, loss=loss, activation=activation), "0")
        .set_outputs("out")
        .build(**options)
    )


def test_a_softmax_loss_behind_one_unit_is_refused_too():
    edits = tl.TransferLearning(chain(4, 1)).add_layer("answer", tl.Loss(), "0").set_outputs("answer")
    with pytest.raises(ValueError, match=r"The output 'answer' cannot be meant\. A softmax over one class"):
        edits.build()


def test_a_saved_network_that_was_not_validated_comes_back(tmp_path):
    net = chain(4, 8)
    odd = tl.TransferLearning(net).add_layer("out", tl.Output(1), "0").set_outputs("out")
    tl.save(odd.build(validate_output_layer=False), tmp_path / "odd.tlk")
    assert tl.load(tmp_path / "odd.tlk", source=net).outputs == ("out",)


def test_a_network_with_its_own_head_is_trained_by_an_added_loss():
    net = chain(4, 8, 3)
    net.classes = ("a", "b", "c")
    trained = (
        tl.TransferLearning(net)
        .fine_tune_configuration(tl.FineTuneConfiguration(seed=1, updater=tl.Sgd(0.5)))
        .add_layer("answer", tl.Loss(), "1")
        .set_outputs("answer")
        .build()
    )
    assert trained.classes == net.classes  # the answers mean what they meant
    x, labels = blobs(24)
    tl.fit(trained, (x, labels), epochs=20, progress=False)
    assert tl.evaluate(trained, (x, labels)).accuracy > 0.9
