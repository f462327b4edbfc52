import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import seeded

from tlkit.features.rows import Features


def make(rows=10, classes=("daisy", "roses")):
    generator = torch.Generator().manual_seed(rows)
    tensors = {"fc2": torch.rand(rows, 4, generator=generator)}
    return Features(tensors, torch.arange(rows) % len(classes), classes)


def make_two(rows=10):
    generator = torch.Generator().manual_seed(rows)
    tensors = {"add": torch.rand(rows, 2, 3, generator=generator), "pool": torch.rand(rows, generator=generator)}
    return Features(tensors, torch.arange(rows) % 3, ["daisy", "roses", "tulips"])


def test_features_follow_the_data_protocol():
    features = make_two()
    assert len(features) == 10
    assert features.names == ("add", "pool")
    assert features.shapes == {"add": (2, 3), "pool": ()}
    assert features.dtype == torch.float32
    assert features.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert features.classes == ("daisy", "roses", "tulips")
    assert features.nbytes == 10 * (6 + 1) * 4


def test_without_an_order_the_batches_are_the_rows():
    features = make(10)
    batches = list(features.batches(4))
    assert [len(y) for _, y in batches] == [4, 4, 2]
    assert torch.equal(torch.cat([x for x, _ in batches]), features.tensors["fc2"])
    assert torch.equal(torch.cat([y for _, y in batches]), features.labels)


def test_several_boundaries_come_by_name():
    features = make_two()
    for x, y in features.batches(4):
        assert list(x) == ["add", "pool"]
        assert x["add"].shape == (len(y), 2, 3)
        assert x["pool"].shape == (len(y),)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_batches_follow_the_order(data):
    rows = data.draw(st.integers(1, 30))
    order = data.draw(st.lists(st.integers(0, rows - 1), max_size=60))
    size = data.draw(st.integers(1, 40))
    features = make_two(rows)
    batches = list(features.batches(size, order=torch.tensor(order, dtype=torch.long)))
    assert [len(y) for _, y in batches] == [min(size, len(order) - k) for k in range(0, len(order), size)]
    for k, (x, y) in enumerate(batches):
        chosen = order[k * size : (k + 1) * size]
        assert torch.equal(x["add"], features.tensors["add"][chosen])
        assert torch.equal(x["pool"], features.tensors["pool"][chosen])
        assert torch.equal(y, features.labels[chosen])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_batches_have_the_number_type_of_the_features(dtype):
    tensor = torch.rand(10, 3).to(dtype)
    ((x, _),) = Features({"fc2": tensor}, torch.zeros(10, dtype=torch.long), ["daisy"]).batches(10, range(9, -1, -1))
    assert x.dtype == dtype
    assert torch.equal(x, tensor.flip(0))


@pytest.mark.parametrize("small", [0, 10**9])
def test_rows_lie_where_they_may(small, monkeypatch):
    monkeypatch.setattr("tlkit.features.rows.SMALL_BATCH", small)
    columns = torch.rand(4, 10).T  # not one row after the other
    order = torch.tensor([3, 9, 3])
    ((x, _),) = Features({"fc2": columns}, torch.zeros(10, dtype=torch.long), ["daisy"]).batches(3, order)
    assert torch.equal(x, columns[order])


def test_changing_a_batch_leaves_the_features_alone():
    features = make()
    before = features.tensors["fc2"].clone()
    for x, y in features.batches(3):
        x.zero_()
        y.zero_()
    assert torch.equal(features.tensors["fc2"], before)
    assert features.labels.sum() == 5


@pytest.mark.parametrize("order", [range(3), [2, 0], torch.tensor([1], dtype=torch.int32)])
def test_an_order_may_be_any_whole_numbers(order):
    features = make()
    ((x, _),) = features.batches(5, order)
    assert torch.equal(x, features.tensors["fc2"][[int(row) for row in order]])


@pytest.mark.parametrize(
    ("order", "error", "text"),
    [
        ([0, 10], IndexError, "There is no row 10: the 10 rows are numbered from 0 to 9"),
        ([-1], IndexError, "There is no row -1"),
        (torch.ones(10, dtype=torch.bool), ValueError, r"got bool of shape \(10,\).*mask.nonzero"),
        ([0.5], ValueError, "whole numbers"),
        ([[0, 1]], ValueError, r"in one dimension; got int64 of shape \(1, 2\)"),
    ],
)
def test_an_impossible_order_is_refused_at_once(order, error, text):
    with pytest.raises(error, match=text):
        make().batches(4, order)


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="at least one row; batch_size is 0"):
        make().batches(0)


def test_a_subset_has_the_rows_in_the_given_order():
    features = make_two()
    part = features.subset([7, 2, 2])
    assert torch.equal(part.tensors["add"], features.tensors["add"][[7, 2, 2]])
    assert part.labels.tolist() == [1, 2, 2]
    assert part.classes == features.classes
    assert len(features.subset([])) == 0


def test_features_move_to_another_device():
    features = make_two().to("meta")
    assert features.tensors["add"].device.type == features.labels.device.type == "meta"


@pytest.mark.gpu
def test_batches_stay_on_the_gpu():
    features = make()
    order = torch.randperm(10)
    for x, y in features.to("cuda").batches(10, order):
        assert x.is_cuda
        assert y.is_cuda
        assert torch.equal(x.cpu(), features.tensors["fc2"][order])


@pytest.mark.parametrize(
    ("tensors", "labels", "text"),
    [
        ({}, [0, 1], "at least one boundary tensor"),
        ({"fc2": torch.zeros(3, 4)}, [0, 1], r"'fc2' has the shape \(3, 4\); 2 labels need as many rows"),
        ({"fc2": torch.zeros(2, 4)}, [0, 5], "from 0 to 1; got labels from 0 to 5"),
        ({"fc2": torch.zeros(2, 4)}, [0, -1], "got labels from -1 to 0"),
        ({"fc2": torch.zeros(2, 4)}, [0.0, 1.0], r"Labels are whole numbers.*got float32"),
        ({"a": torch.zeros(2), "b": torch.zeros(2).half()}, [0, 1], "one dtype.*'a' float32 on cpu, 'b' float16"),
    ],
)
def test_what_does_not_belong_together_is_refused(tensors, labels, text):
    with pytest.raises(ValueError, match=text):
        Features(tensors, torch.tensor(labels), ["daisy", "roses"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_features_of_half_the_size_train_a_network_of_full_precision(dtype):
    import tlkit as tl

    with seeded(0):
        layers = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU())
    body = tl.Network.from_module(layers, [torch.zeros(1, 4)])
    tuning = tl.FineTuneConfiguration(updater=tl.Sgd(lr=0.1), seed=1)
    edit = tl.TransferLearning(body).fine_tune_configuration(tuning).set_feature_extractor("0")
    net = edit.add_layer("head", tl.Output(n_out=2)).build()
    helper = tl.TransferLearningHelper(net)
    data = (torch.rand(8, 4, generator=torch.Generator().manual_seed(1)), torch.arange(8) % 2)
    features = helper.featurize(data, dtype=dtype, progress=False)
    assert features.dtype == dtype
    expected = net(data[0])
    assert torch.allclose(helper.output_from_featurized(features.tensors["0"]), expected, atol=1e-2)
    history = helper.fit_featurized(features, epochs=5, progress=False)
    assert history.losses[-1] < history.losses[0]
    assert tl.evaluate(helper.unfrozen_network, features).probabilities.dtype == torch.float32


def test_the_representation_is_short_and_stable():
    assert repr(make()) == "Features(10 rows of 'fc2' (4,), float32, 2 classes, 160 bytes)"
    assert repr(make_two(1)) == "Features(1 row of 'add' (2, 3), 'pool' (), float32, 3 classes, 28 bytes)"


def test_the_table_escapes_names():
    page = Features({"<b>": torch.zeros(2, 3, 4)}, torch.tensor([0, 0]), ["daisy"])._repr_html_()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "3 × 4" in page
    assert "2 rows, 1 class" in page
