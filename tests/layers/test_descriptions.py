from __future__ import annotations

import json

import pytest
import torch

import tlkit as tl
from tlkit.layers.descriptions import description_from_dict
from tlkit.layers.losses import ACTIVATION_OF
from tlkit.layers.modules import (
    OutputLayer,
)

DESCRIPTIONS = [
    (tl.Dense(5, activation="tanh", dropout=0.2), [(7,)], (5,)),
    (tl.Dense(5), [(9, 7)], (9, 5)),
    (tl.Output(5), [(7,)], (5,)),
    (tl.Conv2d(5, 3, padding="same", activation="relu"), [(2, 8, 6)], (5, 8, 6)),
    (tl.Conv2d(4, kernel_size=2, stride=2, groups=2), [(2, 8, 6)], (4, 4, 3)),
    (tl.BatchNorm(), [(7,)], (7,)),
    (tl.BatchNorm(), [(7, 4)], (7, 4)),
    (tl.BatchNorm(), [(7, 4, 4)], (7, 4, 4)),
    (tl.Activation("RELU"), [(7, 4)], (7, 4)),
    (tl.Activation("identity"), [(7,)], (7,)),
    (tl.Dropout(0.2), [(7,)], (7,)),
    (tl.Flatten(), [(2, 3, 4)], (24,)),
    (tl.GlobalPool(), [(2, 3, 4)], (2,)),
    (tl.GlobalPool("max"), [(2, 3, 4)], (2,)),
    (tl.Pool2d(), [(2, 6, 4)], (2, 3, 2)),
    (tl.Pool2d("average", kernel_size=3, stride=1, padding=1), [(2, 6, 4)], (2, 6, 4)),
    (tl.Merge(), [(2, 4, 4), (3, 4, 4)], (5, 4, 4)),
    (tl.Merge(dim=2), [(2, 4), (2, 1)], (2, 5)),
    *((tl.ElementWise(name), [(4,), (4,), (4,)], (4,)) for name in ("add", "subtract", "product", "average", "max")),
    (tl.Subset(1, 3), [(5, 4, 4)], (2, 4, 4)),
]


@pytest.mark.parametrize(("description", "shapes", "expected"), DESCRIPTIONS, ids=lambda value: repr(value)[:40])
def test_a_description_makes_a_module_for_what_it_reads(description, shapes, expected):
    module = description.make(*shapes).eval()
    values = [torch.rand(3, *shape) for shape in shapes]
    assert module(*values).shape == (3, *expected)
    plain = json.loads(json.dumps(description.to_dict()))
    again = description_from_dict(plain)
    assert again == description
    assert repr(again.make(*shapes).eval()) == repr(module)


def test_options_of_a_description_survive_as_plain_data():
    layer = tl.Dense(
        4,
        activation=None,
        weight_init=tl.Normal(0, 0.1),
        bias_init=0.1,
        dropout=0.2,
        updater=tl.Adam(1e-3),
        l2=0.1,
        weight_noise=tl.DropConnect(0.1),
        constraints=[tl.MaxNorm(1.0), tl.NonNegative()],
    )
    again = description_from_dict(json.loads(json.dumps(layer.to_dict())))
    assert again == layer
    assert again.given() == layer.given()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: tl.Dense(5).make((3, 4, 4)), r"Dense takes a flat input, got shape \(3, 4, 4\).*tl\.GlobalPool\(\)"),
        (lambda: tl.Output(5).make((3, 4, 4)), "Output takes a flat input"),
        (lambda: tl.Dense(5, n_in=3).make((4,)), r"Dense\(n_in=3\) reads an input of size 4\. Leave n_in out"),
        (lambda: tl.Conv2d(5).make((4,)), r"Conv2d takes an input of shape \(channels, height, width\), got \(4,\)"),
        (lambda: tl.Conv2d(5, n_in=3).make((4, 8, 8)), r"Conv2d\(n_in=3\) reads an input of size 4"),
        (lambda: tl.Dense(5, activation="rellu"), r"got 'rellu'\. Did you mean 'relu'"),
        (lambda: tl.Dense(5, dropout=1.0), "probability to drop an element, at least 0 and below 1, got 1.0"),
        (lambda: tl.Dense(5, weight_init="xavir"), "Did you mean 'xavier'"),
        (lambda: tl.Output(5, loss="mean_squared"), "got 'mean_squared'. Did you mean 'mean_squared_error'"),
        (lambda: tl.Activation("sofmax"), "Did you mean 'softmax'"),
        (lambda: tl.Dropout(1.5), "below 1, got 1.5"),
        (lambda: tl.GlobalPool("avg"), "kind is 'average' or 'max', got 'avg'. Did you mean 'average'"),
        (lambda: tl.Pool2d("maximum"), "kind is 'max' or 'average', got 'maximum'"),
        (lambda: tl.ElementWise("sum"), "operation is one of add, subtract, product, average, max, got 'sum'"),
    ],
)
def test_wrong_descriptions_are_sentences(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


@pytest.mark.parametrize("kind", [tl.Dense, tl.Output, tl.Conv2d])
@pytest.mark.parametrize("n_out", [0, -3, 2.5])
def test_a_width_is_a_whole_number_above_zero(kind, n_out):
    with pytest.raises(ValueError, match=f"{kind.__name__}.* got {n_out}"):
        kind(n_out)


# -- outputs and their losses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ACTIVATION_OF)
def test_an_output_has_the_activation_of_its_loss(loss):
    description = tl.Output(3, loss=loss)
    layer = description.make((4,))
    assert isinstance(layer, OutputLayer)
    assert description.activation == ACTIVATION_OF[loss]
    x = torch.randn(5, 4)
    raw = layer.preactivation(x)
    answers = {"softmax": raw.softmax(1), "sigmoid": raw.sigmoid(), "identity": raw}
    assert torch.allclose(layer(x), answers[description.activation])


@pytest.mark.parametrize("loss", ACTIVATION_OF)
def test_a_loss_vertex_answers_and_trains_like_an_output_without_its_weights(loss):
    output, vertex = tl.Output(3, loss=loss).make((4,)), tl.Loss(loss).make((3,))
    x, labels = torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
    raw = output.preactivation(x)
    assert torch.equal(vertex(raw), output(x))
    assert torch.equal(vertex.compute_loss(vertex.preactivation(raw), labels), output.compute_loss(raw, labels))


@pytest.mark.parametrize("make", [lambda **options: tl.Output(3, **options), tl.Loss])
def test_a_loss_and_its_weight_are_checked(make):
    with pytest.raises(ValueError, match=r"loss is one of .* got 'hinges'.* Did you mean 'hinge'"):
        make(loss="hinges")
    with pytest.raises(ValueError, match=r"loss_weight is the factor .* got -1"):
        make(loss_weight=-1)


# -- tokens ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: tl.Output(5).make((197, 12)),
        lambda: tl.Dense(5, activation="softmax").make((197, 12)),
        lambda: tl.Loss().make((197, 5)),
    ],
)
def test_a_softmax_over_tokens_is_refused_with_what_to_put_between(make):
    with pytest.raises(ValueError, match=r"197 tokens.*tl\.GlobalPool\(\).*tl\.Subset\(0, 1\), then tl\.Flatten"):
        make()


@pytest.mark.parametrize("kind", ["average", "max"])
def test_a_global_pool_over_tokens_gives_one_vector(kind):
    tokens = torch.rand(3, 7, 4)
    expected = {"average": tokens.mean(1), "max": tokens.max(1).values}[kind]
    assert torch.equal(tl.GlobalPool(kind).make((7, 4))(tokens), expected)


def test_an_output_reads_tokens_through_a_pool_or_the_class_token():
    net = tl.Network({}, {"tokens": (7, 4)}, ["tokens"])
    pooled = tl.TransferLearning(net).add_vertex("pool", tl.GlobalPool(), "tokens").add_layer("out", tl.Output(3))
    first = tl.TransferLearning(net).add_vertex("first", tl.Subset(0, 1), "tokens").add_vertex("flat", tl.Flatten())
    for edits in (pooled, first.add_layer("out", tl.Output(3))):
        assert edits.build()(torch.rand(2, 7, 4)).shape == (2, 3)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: tl.Conv2d(4, kernel_size=0), "kernel_size of Conv2d is a whole number, 1 or more, got 0"),
        (lambda: tl.Conv2d(4, stride=1.5), "stride of Conv2d is a whole number, 1 or more, got 1.5"),
        (lambda: tl.Conv2d(4, padding="some"), "padding of Conv2d is a whole number, 0 or more or 'same', got 'some'"),
        (lambda: tl.Pool2d(kernel_size=-1), "kernel_size of Pool2d is a whole number, 1 or more, got -1"),
        (lambda: tl.Subset("a", 3), "start and stop of Subset are whole numbers, got 'a' and 3"),
        (lambda: tl.Merge(7).make((3, 4, 4), (2, 4, 4)), "dim of Merge is .* here 1 to 3, got 7"),
        (lambda: tl.Merge(0).make((3,), (2,)), "dim of Merge is .* here 1, the only one, got 0"),
        (lambda: tl.GlobalPool().make((5,)), r"GlobalPool takes maps .* or tokens .*, got shape \(5,\)"),
        (lambda: tl.Dense(5).make((3, 4, 4, 4)), r"Dense takes a flat input, got shape \(3, 4, 4, 4\)"),
    ],
)
def test_sizes_that_cannot_be_are_sentences(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
