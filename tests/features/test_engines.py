"""Whatever runs the frozen part, it says what the frozen part says."""

from __future__ import annotations

import copy
import importlib.util
import json
import warnings

import pytest
import torch
from nets import chain, seeded
from torch import nn

import tlkit as tl
from tlkit.features import engines
from tlkit.features.engines import FEW_ROWS, MANY_ROWS, Engine, choose_batch_size, is_exact
from tlkit.features.folding import fold
from tlkit.layers.modules import NORMS

pytestmark = pytest.mark.slow  # torch translates each network to ONNX

needs_onnxruntime = pytest.mark.skipif(not importlib.util.find_spec("onnxruntime"), reason="needs onnxruntime")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Where converted networks are kept."""
    monkeypatch.setenv("TLKIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "engines"


@pytest.fixture(scope="module")
def plain():
    """The frozen part of a small convolutional network, with statistics that matter."""
    net = tl.zoo.load("timm/test_resnet", weights=None)
    with seeded(0), torch.no_grad():
        for part in net.modules():
            if isinstance(part, NORMS):
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.5, 1.5)
    return net.freeze(net.cut_points[-1]).split()[0]


def pictures(rows=6):
    with seeded(1):
        return torch.randint(0, 256, (rows, 3, 64, 64), dtype=torch.uint8)


def answer(network, x):
    with torch.no_grad():
        return network(x)


def only(found):
    (value,) = found.values()
    return value


# -- which one runs -------------------------------------------------------------------------------------------------


def test_a_few_rows_run_through_the_network_itself(plain):
    engine = Engine("auto", plain, FEW_ROWS - 1)
    assert torch.equal(only(engine(pictures())), answer(plain, pictures()))
    assert engine.name == f"torch {torch.__version__}"


def test_torch_is_exact_for_any_number_of_rows(plain):
    assert torch.equal(only(Engine("torch", plain, 10**6)(pictures())), answer(plain, pictures()))
    assert [engine for engine in engines.ENGINES if is_exact(engine)] == ["torch"]


@needs_onnxruntime
@pytest.mark.parametrize("engine", ["auto", "onnxruntime"])
def test_many_rows_run_through_onnxruntime_and_say_the_same(plain, engine):
    runs = Engine(engine, plain, MANY_ROWS)
    found, expected = only(runs(pictures())), answer(plain, pictures())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * max(1.0, float(expected.abs().max())))
    assert runs.name.startswith("onnxruntime 1.")
    for rows in (1, 4, 13):  # any number of rows, also larger ones than the first batch
        torch.testing.assert_close(only(runs(pictures(rows))), answer(plain, pictures(rows)), rtol=0, atol=1e-3)


def test_without_onnxruntime_many_rows_run_through_the_folded_network(plain, monkeypatch):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    runs = Engine("auto", plain, MANY_ROWS)
    found, expected = only(runs(pictures())), answer(plain, pictures())
    assert torch.equal(found, answer(fold(plain), pictures()))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * max(1.0, float(expected.abs().max())))
    assert runs.name == f"torch {torch.__version__}, folded"


def test_networks_with_large_weights_are_not_held_a_second_time(plain, monkeypatch):
    monkeypatch.setattr(engines, "LARGEST_EXPORT", 1000)
    runs = Engine("auto", plain, MANY_ROWS)
    runs(pictures())
    assert runs.name.endswith("folded")


def test_a_wrong_name_is_an_error_before_anything_runs(plain):
    with pytest.raises(ValueError, match=r"engine is one of .*, got 'atuo'\. Did you mean 'auto'"):
        Engine("atuo", plain, 5)


# -- what does not agree --------------------------------------------------------------------------------------------


def doubled(engine, few):
    return lambda x: tuple(2 * value for value in engines._contiguous(engine.network(x)))


def impossible(engine, few):
    msg = "it is closed today"
    raise RuntimeError(msg)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [(doubled, r"wrong differs by .* more than rounding, and is not used"), (impossible, "wrong cannot run .* closed")],
)
def test_a_form_that_fails_or_differs_is_left_with_a_warning(plain, monkeypatch, make, sentence):
    monkeypatch.setattr(engines, "_forms", lambda *_: {"wrong": make})
    runs = Engine("auto", plain, MANY_ROWS)
    with pytest.warns(UserWarning, match=sentence):
        found = only(runs(pictures()))
    assert torch.equal(found, answer(plain, pictures()))
    assert runs.name == f"torch {torch.__version__}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runs(pictures())


def test_answers_that_are_not_numbers_never_agree(plain, monkeypatch):
    broken = {"broken": lambda engine, few: lambda x: (answer(engine.network, x) * float("nan"),)}
    monkeypatch.setattr(engines, "_forms", lambda *_: broken)
    with pytest.warns(UserWarning, match="broken differs by inf"):
        Engine("auto", plain, MANY_ROWS)(pictures())


class Singular(nn.Module):
    """Computes what ONNX has no word for."""

    def forward(self, x):
        return torch.linalg.svdvals(x.reshape(-1, 2, 2))


@needs_onnxruntime
def test_a_network_that_onnx_cannot_say_runs_folded_and_says_so():
    vertices = {"odd": tl.Vertex(Singular(), "x"), "out": tl.Vertex(nn.Linear(2, 2), "odd")}
    front = tl.Network(vertices, {"x": (4,)}, "out").freeze("odd").split()[0]
    runs = Engine("auto", front, MANY_ROWS)
    x = torch.randn(3, 4)
    with pytest.warns(UserWarning, match=r"onnxruntime .* cannot run this network.* Vertex 'odd' \(Singular\)"):
        found = only(runs(x))
    assert torch.equal(found, answer(front, x))
    assert runs.name.endswith("folded")


@pytest.fixture
def unusual():
    """The frozen part of a network that only torch.onnx can convert."""
    net = tl.Network.from_module(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softmax(1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)),
        torch.zeros(1, 3, 8, 8),
        granularity="layer",
    )
    return net.freeze(net.cut_points[-1]).split()[0]


@needs_onnxruntime
def test_what_is_converted_in_no_time_is_not_kept(plain, place):
    runs = Engine("auto", plain, FEW_ROWS)
    runs(pictures().float())
    assert runs.name.startswith("onnxruntime")
    assert not place.exists()


@needs_onnxruntime
def test_a_few_hundred_rows_don_t_wait_for_torch_onnx_unless_it_has_run_before(unusual, recwarn):
    x = pictures().float()
    few, many, again = (Engine("auto", unusual, rows) for rows in (MANY_ROWS - 1, MANY_ROWS, MANY_ROWS - 1))
    for runs in (few, many, again):
        torch.testing.assert_close(only(runs(x)), answer(unusual, x), rtol=0, atol=1e-3)
    assert [runs.name.split()[0] for runs in (few, many, again)] == ["torch", "onnxruntime", "onnxruntime"]
    assert not recwarn.list


@needs_onnxruntime
def test_a_changed_bit_of_a_kept_network_is_noticed(unusual, place, monkeypatch):
    x = pictures().float()
    first = only(Engine("auto", unusual, MANY_ROWS)(x))
    (kept,) = place.iterdir()
    whole, converted = kept.read_bytes(), []
    monkeypatch.setattr("tlkit.exporting.convert_to_onnx", lambda *_: converted.append(whole) or whole)
    positions = range(0, len(whole), len(whole) // 50)
    for position in positions:
        kept.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert torch.equal(only(Engine("auto", unusual, MANY_ROWS)(x)), first)
        (kept,) = place.iterdir()
        assert kept.read_bytes() == whole
    assert len(converted) == len(positions)


@needs_onnxruntime
def test_a_converted_network_is_kept_and_taken_again_while_it_is_the_same(unusual, place, monkeypatch):
    plain, x = unusual, pictures().float()
    first = only(Engine("auto", plain, MANY_ROWS)(x))
    (kept,) = place.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr("tlkit.exporting._convert", lambda *_: pytest.fail("it was converted again"))
        assert torch.equal(only(Engine("auto", plain, MANY_ROWS)(x)), first)
    other = copy.deepcopy(plain)
    with torch.no_grad():
        next(other.parameters()).mul_(1.5)
    found = only(Engine("auto", other, MANY_ROWS)(x))
    torch.testing.assert_close(found, answer(other, x), rtol=0, atol=1e-3)
    assert len(list(place.iterdir())) == 2
    kept.write_bytes(kept.read_bytes()[:1000])
    assert torch.equal(only(Engine("auto", plain, MANY_ROWS)(x)), first), "a damaged file is replaced"


@needs_onnxruntime
def test_only_the_networks_used_last_are_kept(unusual, place, monkeypatch):
    monkeypatch.setattr(engines, "MOST_KEPT", 1)
    for batch_size in (4, 6):
        Engine("auto", unusual, MANY_ROWS, batch_size)(pictures().float())
    assert len(list(place.iterdir())) == 1


@needs_onnxruntime
def test_pictures_of_another_size_than_the_networks_run_through_onnxruntime_too(plain):
    runs = Engine("auto", plain, MANY_ROWS)
    assert pictures().shape[1:] != plain.input_shapes["x"]
    runs(pictures())
    assert runs.name.startswith("onnxruntime")


def test_several_boundary_tensors_keep_their_names():
    vertices = {
        "left": tl.Vertex(nn.Linear(4, 3), "x"),
        "right": tl.Vertex(nn.Linear(4, 2), "x"),
        "both": tl.Vertex(tl.Merge().make((3,), (2,)), ("left", "right")),
        "out": tl.Vertex(nn.Linear(5, 2), "both"),
    }
    front = tl.Network(vertices, {"x": (4,)}, "out").freeze("left", "right").split()[0]
    x = torch.randn(5, 4)
    expected = dict(zip(front.outputs, answer(front, x), strict=True))
    for rows in (1, MANY_ROWS):
        found = Engine("auto", front, rows)(x)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value)


# -- in a store -----------------------------------------------------------------------------------------------------


@needs_onnxruntime
def test_a_store_names_what_computed_it_and_exact_features_are_other_features(tmp_path):
    net = chain(4, 8, 3)
    helper = tl.TransferLearningHelper(net, "0")
    with seeded(0):
        data = torch.randn(MANY_ROWS, 4), torch.arange(MANY_ROWS) % 3
    fast = helper.featurize(data, to=tmp_path, progress=False)
    records = [json.loads(path.read_text()) for path in sorted((tmp_path / "shards").glob("*.json"))]
    assert {engine.split()[0] for record in records for engine in record["engines"]} == {"onnxruntime"}
    assert helper.featurize(data, to=tmp_path, progress=False).rows_computed == 0
    before = fast.load().tensors["0"]
    exact = helper.featurize(data, to=tmp_path, engine="torch", progress=False)
    assert exact.rows_computed == len(data[0])
    assert exact.reasons == ("precision within 1e-4 -> exact",)
    torch.testing.assert_close(before, exact.load().tensors["0"])


@pytest.mark.parametrize("engine", ["auto", "onnxruntime"])
@needs_onnxruntime
def test_a_helper_follows_other_picture_sizes_and_other_activations(engine):
    net = tl.Network.from_module(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)),
        torch.zeros(1, 3, 8, 8),
    )
    boundary = net.cut_points[-1]
    helper = tl.TransferLearningHelper(net, boundary)

    def check(size):
        with seeded(size):
            x = torch.randn(MANY_ROWS, 3, size, size)
        found = helper.featurize((x, torch.zeros(len(x), dtype=torch.long)), engine=engine, progress=False)
        torch.testing.assert_close(found.tensors[boundary], answer(helper.frozen_network, x), rtol=0, atol=1e-4)

    check(8)
    check(12)
    net.vertices["0"].module.activation = nn.Tanh()
    check(12)


@needs_onnxruntime
def test_modules_of_ones_own_that_print_alike_are_not_taken_for_each_other(recwarn):
    class Scaled(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def forward(self, x):
            return x * self.factor

    for factor in (2.0, 3.0):
        vertices = {"own": tl.Vertex(Scaled(factor), "x"), "out": tl.Vertex(nn.Linear(4, 2), "own")}
        front = tl.Network(vertices, {"x": (4,)}, "out").freeze("own").split()[0]
        runs = Engine("auto", front, MANY_ROWS)
        assert torch.equal(only(runs(torch.ones(2, 4))), torch.full((2, 4), factor))
        assert runs.name.startswith("onnxruntime")
    assert not recwarn.list


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_on_a_gpu_the_folded_network_says_the_same_within_what_is_stored(plain, dtype):
    moved = copy.deepcopy(plain).to("cuda")
    runs = Engine("auto", moved, MANY_ROWS, dtype=dtype)
    found, expected = only(runs(pictures())), answer(moved, pictures().cuda())
    share = 1e-4 if dtype == torch.float32 else 2e-2
    assert found.is_cuda
    assert float((found.float() - expected).abs().max()) <= share * max(1.0, float(expected.abs().max()))
    assert runs.name.endswith("folded")


def test_batches_are_as_large_as_take_little_memory():
    small = tl.Network.from_module(nn.Sequential(nn.Conv2d(3, 4, 3)), torch.zeros(1, 3, 32, 32))
    assert choose_batch_size(small) == 16
    large = tl.Network.from_module(nn.Sequential(nn.Conv2d(3, 64, 3, padding=1)), torch.zeros(1, 3, 512, 512))
    assert choose_batch_size(large) == 1  # it reads 3 MB and answers 67 MB for each image
    assert choose_batch_size(tl.zoo.load("vgg16", weights=None)) == 4
