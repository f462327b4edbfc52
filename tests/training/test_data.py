"""Data that networks are trained and tested on: what is a data set, and what is refused by whoever takes data."""

from __future__ import annotations

import pytest
import torch
from nets import classifier

import tlkit as tl
from tlkit.training.data import TensorRows, wrap_data
from tlkit.training.lbfgs import solve


class Split:
    train = test = None


TAKES_DATA = {"fit": lambda net, data: tl.fit(net, data, progress=False), "evaluate": tl.evaluate, "solve": solve}
takes_data = pytest.mark.parametrize("take", TAKES_DATA.values(), ids=TAKES_DATA)
NO_DATA = r"Expected images, features or a tuple of tensors \(x, y\), got "


@takes_data
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (torch.zeros(5, 4), "Tensor"),
        ([1, 2], "list"),
        ((1, 2, 3), "tuple"),
        (torch.utils.data.DataLoader([0]), "DataLoader"),
        (Split(), r"Split\. Pass its \.train or its \.test"),
    ],
    ids=["tensor", "list", "three", "loader", "split"],
)
def test_what_is_no_data_set_is_answered_with_what_one_is(take, data, said):
    with pytest.raises(TypeError, match=NO_DATA + said):
        take(classifier(4, 3), data)


@takes_data
def test_rows_without_a_partner_are_refused(take):
    with pytest.raises(ValueError, match=r"one label for each row of x; got 5 rows and 4 labels"):
        take(classifier(4, 3), (torch.zeros(5, 4), torch.zeros(4, dtype=torch.long)))


def test_inputs_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="got 3 and 2 rows and 3 labels"):
        TensorRows({"left": torch.zeros(3, 1), "right": torch.zeros(2, 1)}, torch.zeros(3))


@takes_data
def test_no_data_are_refused(take):
    with pytest.raises(ValueError, match=r"There is nothing to (train on|evaluate)"):
        take(classifier(4, 3), (torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)))


def test_data_for_other_inputs_are_refused():
    features = tl.Features({"fc1": torch.rand(4, 4)}, torch.tensor([0, 1, 2, 0]), ("a", "b", "c"))
    net = classifier(4, 3)
    with pytest.raises(ValueError, match=f"The network reads '{net.inputs[0]}', the data hold 'fc1'. Featurize again"):
        wrap_data(features, net)
    assert wrap_data(features) is features


def test_batches_follow_an_order_and_hold_tensors_by_name_where_there_are_several():
    x, y = torch.arange(5.0), torch.arange(5)
    data = wrap_data(({"left": x, "right": -x}, {"one": y, "two": y + 10}))
    assert len(data) == 5
    (first, labels), (last, _) = data.batches(3, torch.tensor([4, 0, 0, 2]))
    assert first["left"].tolist() == [4, 0, 0]
    assert last["right"].tolist() == [-2]
    assert labels["two"].tolist() == [14, 10, 10]
    assert next(iter(wrap_data(({"only": x}, y.tolist())).batches(5)))[0].equal(x)
