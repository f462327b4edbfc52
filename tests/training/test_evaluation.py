"""Scores against cases counted by hand, and what must hold for any data."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import warnings
from html.parser import HTMLParser

import pytest
import torch
from torch import Tensor, nn

from tlkit.features.rows import Features
from tlkit.training.evaluation import Evaluation, evaluate

FLOWERS = ("daisy", "roses", "tulips")


def answers(*predicted: int, classes: int = 3) -> Tensor:
    """Probabilities of 0.8 for the predicted class, the rest shared."""
    return torch.full((len(predicted), classes), 0.2 / (classes - 1)).scatter(1, torch.tensor(predicted)[:, None], 0.8)


@pytest.fixture
def by_hand() -> Evaluation:
    # true:                     daisy x3  roses x2  tulips x1
    return Evaluation(answers(0, 0, 1, 1, 0, 0), torch.tensor([0, 0, 0, 1, 1, 2]), FLOWERS)


@pytest.fixture
def random_case() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    probabilities = torch.randn(200, 7, generator=generator).softmax(1)
    return probabilities, torch.randint(7, (200,), generator=generator)


class Rows:
    """The smallest data set that follows the data protocol."""

    def __init__(self, x: Tensor | dict[str, Tensor], labels: Tensor, classes: tuple[str, ...]) -> None:
        self.x, self.labels, self.classes = x, labels, classes

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, batch_size: int, order: Tensor | None = None):
        for rows in torch.arange(len(self)).split(batch_size):
            x = {name: tensor[rows] for name, tensor in self.x.items()} if isinstance(self.x, dict) else self.x[rows]
            yield x, self.labels[rows]


def test_scores_equal_those_counted_by_hand(by_hand):
    assert by_hand.confusion.tolist() == [[2, 1, 0], [1, 1, 0], [1, 0, 0]]
    assert by_hand.accuracy == 3 / 6
    # Daisy: 2 of 4 predictions, 2 of 3 found. Roses: 1 of 2, 1 of 2. Tulips: never predicted, counts as 0.
    assert by_hand.precision == pytest.approx((2 / 4 + 1 / 2 + 0) / 3, abs=1e-6)
    assert by_hand.recall == pytest.approx((2 / 3 + 1 / 2 + 0) / 3, abs=1e-6)
    assert by_hand.f1 == pytest.approx((4 / 7 + 1 / 2 + 0) / 3, abs=1e-6)
    assert by_hand.predicted.tolist() == [0, 0, 1, 1, 0, 0]


def test_per_class_scores_equal_those_counted_by_hand(by_hand):
    daisy, roses, tulips = by_hand.per_class
    assert (daisy.name, daisy.support, roses.support, tulips.support) == ("daisy", 3, 2, 1)
    assert (daisy.precision, daisy.recall) == (0.5, pytest.approx(2 / 3, abs=1e-6))
    assert (tulips.precision, tulips.recall, tulips.f1) == (0, 0, 0)


def test_classes_that_never_occur_are_left_out_of_the_means():
    result = Evaluation(answers(0, 1, 1, classes=10), torch.tensor([0, 1, 0]))
    assert result.precision == pytest.approx((1 + 1 / 2) / 2, abs=1e-6)
    assert result.recall == pytest.approx((1 / 2 + 1) / 2, abs=1e-6)


def test_top_n_counts_true_classes_among_the_most_probable():
    probabilities = torch.tensor([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])
    result = Evaluation(probabilities, torch.tensor([0, 1, 2]))
    assert [result.top(n) for n in (1, 2, 3)] == pytest.approx([1 / 3, 2 / 3, 1])


def test_losses_are_the_negative_logarithm_of_the_true_class_probability():
    result = Evaluation(torch.tensor([[0.25, 0.75], [1.0, 0.0]]), torch.tensor([1, 1]))
    assert result.losses[0].item() == pytest.approx(-math.log(0.75))
    assert result.losses[1].isfinite()
    assert result.losses[1] > 80


def test_the_order_of_the_rows_changes_nothing(random_case):
    probabilities, labels = random_case
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(2))
    one, other = Evaluation(probabilities, labels), Evaluation(probabilities[order], labels[order])
    assert str(one) == str(other)
    assert one.per_class == other.per_class
    assert torch.equal(one.losses[order], other.losses)


def test_scores_agree_with_each_other(random_case):
    probabilities, labels = random_case
    result = Evaluation(probabilities, labels)
    assert result.confusion.sum(1).tolist() == [row.support for row in result.per_class] == labels.bincount().tolist()
    assert result.confusion.sum(0).tolist() == result.predicted.bincount(minlength=7).tolist()
    assert result.accuracy == result.confusion.trace().item() / 200 == pytest.approx(result.top(1))
    tops = [result.top(n) for n in range(1, 8)]
    assert tops == sorted(tops)
    assert tops[-1] == 1
    assert result.recall == pytest.approx(sum(row.recall for row in result.per_class) / 7, abs=1e-5)


def test_ties_do_not_make_top_1_differ_from_accuracy():
    result = Evaluation(torch.full((9, 3), 1 / 3), torch.arange(9) % 3)
    assert result.top(1) == pytest.approx(result.accuracy) == pytest.approx(1 / 3)
    assert result.top(3) == 1


def test_a_network_is_evaluated_batch_by_batch_like_all_at_once(random_case):
    probabilities, labels = random_case
    net = nn.Sequential(nn.Linear(7, 4), nn.Softmax(dim=1))
    whole = evaluate(net, (probabilities, labels % 4), batch_size=1000)
    parts = evaluate(net, (probabilities, labels % 4), batch_size=7)
    torch.testing.assert_close(whole.probabilities, parts.probabilities)
    assert str(whole) == str(parts)
    assert not whole.probabilities.requires_grad
    assert not whole.probabilities.is_inference()


def test_features_of_several_boundaries_reach_the_network_by_name():
    class Sum(nn.Module):
        def forward(self, features: dict[str, Tensor]) -> Tensor:
            return (features["left"] + features["right"]).softmax(1)

    left, right = torch.eye(3), torch.eye(3)
    result = evaluate(Sum(), Rows({"left": left, "right": right}, torch.arange(3), FLOWERS), batch_size=2)
    assert result.accuracy == 1
    assert result.classes == FLOWERS
    assert evaluate(Sum(), ({"left": left, "right": right}, torch.arange(3))).accuracy == 1


def test_every_module_gets_its_training_mode_back_even_after_an_error():
    seen = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append((self.training, torch.is_inference_mode_enabled()))
            return x

    net = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(3), Spy(), nn.Softmax(dim=1))
    net.train()
    net[1].eval()
    before = [module.training for module in net.modules()]
    statistics = net[1].running_mean.clone()
    evaluate(net, (torch.randn(5, 3), torch.zeros(5, dtype=torch.long)))
    assert [module.training for module in net.modules()] == before
    assert torch.equal(net[1].running_mean, statistics)
    with pytest.raises(ValueError, match="out of range"):
        evaluate(net, (torch.randn(5, 3), torch.full((5,), 9)))
    assert [module.training for module in net.modules()] == before
    assert seen == [(False, True), (False, True)]


@pytest.mark.gpu
@pytest.mark.gpu
def test_a_network_on_the_gpu_gets_its_batches_there():
    net = nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=1))
    data = (torch.randn(10, 4), torch.arange(10) % 3)
    here, there = evaluate(net, data), evaluate(net.to("cuda"), data)
    torch.testing.assert_close(here.probabilities, there.probabilities, rtol=1e-4, atol=1e-4)


def test_text_shows_scores_and_matrix_with_names(by_hand):
    text = str(by_hand)
    assert text.startswith("Accuracy 0.5000  Precision 0.3333  Recall 0.3889  F1 0.3571\n6 rows;")
    assert re.search(r"^ 0  daisy   2  1  0$", text, re.MULTILINE)
    assert re.search(r"^ 2  tulips  1  0  0$", text, re.MULTILINE)
    assert repr(by_hand) == "Evaluation(6 rows, 3 classes)"


def test_numbers_stay_in_columns_for_large_counts():
    result = Evaluation(answers(*[0] * 12345, 1), torch.tensor([0] * 12345 + [1]))
    rows = str(result).splitlines()[-4:]
    assert len({len(row) for row in rows}) == 1
    assert "12345" in rows[1]


def test_classes_without_names_are_called_by_number():
    result = evaluate(nn.Identity(), (torch.eye(4), [0, 1, 2, 3]))
    assert result.classes == ("0", "1", "2", "3")


def test_a_large_matrix_is_counted_but_not_printed():
    result = Evaluation(torch.eye(21), torch.arange(21))
    assert "not shown for more than 20 classes" in str(result)
    assert "not shown for more than 20 classes" in result._repr_html_()
    assert result.confusion.shape == (21, 21)
    assert "Confusion matrix (row" in str(Evaluation(torch.eye(20), torch.arange(20)))


def test_html_escapes_names_and_leaves_text_colors_to_the_page(by_hand):
    result = Evaluation(by_hand.probabilities, by_hand.labels, ("<script>x</script>", "a & b", "tulips"))
    html = result._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;x&lt;/script&gt;" in html
    assert "a &amp; b" in html
    assert not re.search(r"[\"; ]color:", html)
    assert "text-align:right" in html

    class Balance(HTMLParser):
        depth = 0

        def handle_starttag(self, tag, attrs):
            self.depth += 1

        def handle_endtag(self, tag):
            self.depth -= 1

    parser = Balance()
    parser.feed(html)
    assert parser.depth == 0
    assert html.count("<tr>") == 5


@pytest.mark.parametrize(
    ("probabilities", "labels", "classes", "sentence"),
    [
        (torch.empty(0, 3), torch.empty(0, dtype=torch.long), (), "nothing to evaluate"),
        (torch.eye(3), torch.tensor([0, 1, 3]), (), "Label 3 is out of range.*between 0 and 2"),
        (torch.eye(3), torch.tensor([0, 1, -1]), (), "Label -1 is out of range"),
        (torch.eye(3), torch.tensor([0, 1, 2]), ("daisy", "roses"), "answers 3 classes, but the data has 2.*n_out=2"),
        (torch.eye(3), torch.eye(3), (), r"expected shape \(3,\), got torch.float32 of shape \(3, 3\).*argmax"),
        (torch.eye(3), torch.tensor([0, 1]), (), r"expected shape \(3,\)"),
        (torch.ones(3), torch.tensor([0, 0, 0]), (), r"got shape \(3,\)"),
        (torch.ones(3, 1), torch.tensor([0, 0, 0]), (), "two classes or more"),
        (torch.eye(3) * 7, torch.arange(3), (), "values from 0 to 7.*Softmax"),
        (torch.eye(3) / 0, torch.arange(3), (), "NaN for 3 of 3 rows.*smaller learning rate"),
    ],
)
def test_what_does_not_fit_together_is_said_in_a_sentence(probabilities, labels, classes, sentence):
    with pytest.raises(ValueError, match=sentence):
        Evaluation(probabilities, labels, classes)
    if len(labels) == len(probabilities):
        with pytest.raises(ValueError, match=sentence):
            evaluate(nn.Identity(), Rows(probabilities, labels, classes))


def test_a_misfit_is_found_at_the_first_batch():
    calls = []

    class Counting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(len(x))
            return x.softmax(1)

    with pytest.raises(ValueError, match="out of range"):
        evaluate(Counting(), (torch.eye(100), torch.full((100,), 100)), batch_size=10)
    assert calls == [10]


def test_other_names_for_the_classes_are_noticed():
    net = nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=1))
    net.classes = FLOWERS
    features = Features({"fc2": torch.randn(6, 4)}, torch.arange(6) % 3, ["daisy", "tulips", "roses"])
    with pytest.warns(UserWarning, match="Class 1 is 'roses' to the network and 'tulips' in the data") as caught:
        evaluate(net, features)
    assert caught[0].filename == __file__
    net.classes = ("daisy", "tulips", "roses")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(net, features)


def test_what_cannot_be_evaluated_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="at least 1; got 0"):
        evaluate(nn.Identity(), (torch.eye(3), torch.arange(3)), batch_size=0)
    with pytest.raises(ValueError, match=r"between 1 and that; got 4"):
        Evaluation(torch.eye(3), torch.arange(3)).top(4)
    with pytest.raises(ValueError, match="got a tuple"):
        evaluate(nn.LSTM(3, 3), (torch.zeros(2, 3), torch.tensor([0, 1])))


@pytest.mark.slow
def test_importing_the_module_loads_neither_torchmetrics_nor_matplotlib():
    code = "import sys, tlkit.training.evaluation; print({'torchmetrics', 'matplotlib'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
