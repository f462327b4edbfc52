"""ONNX files: they answer what the network answers, for any number of examples, or they are not there."""

from __future__ import annotations

import json
import logging
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from nets import chain, classifier, narrow_vgg16, seeded, weights
from PIL import Image
from torch import nn
from torchvision.models import VisionTransformer

import tlkit as tl
from tlkit import exporting

pytest.importorskip("onnxscript")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

pytestmark = [
    pytest.mark.slow,  # torch translates each network to ONNX
    pytest.mark.filterwarnings("error"),  # not one warning reaches the reader
]

Vertex = tl.Vertex


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.onnx"


def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def inputs_for(net, rows=5):
    with seeded(4):
        return [torch.randn(rows, *shape) for shape in net.input_shapes.values()]


def answers(path, *inputs):
    run = session(path)
    return run.run(None, {value.name: x.numpy() for value, x in zip(run.get_inputs(), inputs, strict=True)})


def check_same(net, path, rows=5):
    """Compare the file with the network in evaluation mode."""
    inputs = inputs_for(net, rows)
    with torch.no_grad():
        expected = net(*inputs)
    expected = (expected,) if isinstance(expected, torch.Tensor) else expected
    for found, value in zip(answers(path, *inputs), expected, strict=True):
        assert found.shape == tuple(value.shape)
        assert np.abs(found - value.numpy()).max() <= 1e-4 * float(value.abs().max())


def one_vertex(module):
    """A network with a good vertex before and another beside the one in question."""
    with seeded(5):
        vertices = {
            "before": Vertex(nn.Linear(4, 4), ("x",)),
            "special": Vertex(module, ("before",)),
            "beside": Vertex(nn.Linear(4, 4), ("before",)),
        }
    return tl.Network(vertices, {"x": (4,)}, ["special", "beside"])


def with_random_statistics(net):
    with seeded(6):
        for part in net.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 2)
                nn.init.normal_(part.weight)
                nn.init.normal_(part.bias)
    return net


# -- what can be written --------------------------------------------------------------------------------------------


def test_a_chain_is_written_under_its_own_names_for_any_number_of_examples(tmp_path):
    net = classifier(4, 8, 3)
    path = tmp_path / "a new folder" / "net.onnx"
    assert tl.export_onnx(net, str(path)) == path
    run = session(path)
    assert [value.name for value in run.get_inputs()] == list(net.inputs)
    assert [value.name for value in run.get_outputs()] == list(net.outputs)
    assert [value.shape for value in run.get_inputs()] == [["batch", 4]]
    assert [value.shape for value in run.get_outputs()] == [["batch", 3]]
    for rows in (1, 2, 7):
        check_same(net, path, rows)


def test_several_inputs_and_outputs_keep_their_order(path):
    with seeded(7):
        net = tl.Network(
            {
                "left": Vertex(nn.Linear(4, 5), ("words",)),
                "right": Vertex(nn.Linear(3, 5), ("numbers",)),
                "sum": Vertex(tl.ElementWise("add").make(), ("left", "right")),
                "both": Vertex(tl.Merge().make(), ("right", "left")),
                "answer": Vertex(nn.Linear(10, 2), ("both",)),
            },
            inputs={"words": (4,), "numbers": (3,), "unread": (2,)},
            outputs=["sum", "answer", "right"],
        )
    tl.export_onnx(net, path)
    run = session(path)
    assert [value.name for value in run.get_inputs()] == ["words", "numbers", "unread"]
    assert [value.name for value in run.get_outputs()] == ["sum", "answer", "right"]
    check_same(net, path)


def test_batch_norm_uses_its_statistics_and_dropout_is_off_and_the_network_stays_as_it_is(path):
    net = with_random_statistics(narrow_vgg16(batch_norm=True)).freeze("block2_pool").train()
    modes = [part.training for part in net.modules()]
    trainable = [weight.requires_grad for weight in net.parameters()]
    before, random = weights(net), torch.random.get_rng_state()
    tl.export_onnx(net, path)
    assert [part.training for part in net.modules()] == modes
    assert [weight.requires_grad for weight in net.parameters()] == trainable
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random)
    check_same(net.eval(), path)


def test_the_default_backbone_comes_with_its_classes_and_preprocessing(path, tmp_path):
    net = tl.zoo.load()
    tl.export_onnx(net, path)
    check_same(net, path, rows=2)
    properties = session(path).get_modelmeta().custom_metadata_map
    assert json.loads(properties["classes"]) == list(net.classes)
    how = json.loads(properties["preprocessing"])
    assert tl.Preprocessing.from_dict(how) == net.preprocessing
    # a user without tlkit
    with seeded(8):
        pixels = torch.randint(0, 256, (how["size"], how["size"], 3), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(tmp_path / "noise.png")
    picture = np.asarray(Image.open(tmp_path / "noise.png"), dtype=np.float32) / 255
    x = ((picture - how["mean"]) / how["std"]).transpose(2, 0, 1)[None].astype(np.float32)
    (found,) = session(path).run(None, {net.inputs[0]: x})
    with torch.no_grad():
        expected = net(pixels.permute(2, 0, 1)[None]).numpy()
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_a_vision_transformer(path):
    with seeded(9):
        module = VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5)
        nn.init.normal_(module.heads.head.weight)
    net = tl.Network.from_module(module, [torch.empty(1, 3, 32, 32)])
    tl.export_onnx(net, path)
    check_same(net, path)


def test_names_that_are_no_python_and_names_that_the_exporter_takes_too(path):
    with seeded(10):
        net = tl.Network(
            {
                "linear_1": Vertex(nn.Linear(4, 5), ("1st picture",)),  # what torch calls the second linear layer
                "class": Vertex(nn.Linear(5, 5), ("linear_1",)),
                "graph": Vertex(nn.ReLU(), ("class",)),
                "block 1/conv-2": Vertex(nn.Linear(5, 5), ("graph",)),
                "linear": Vertex(nn.Linear(5, 3), ("block 1/conv-2",)),
                "0": Vertex(nn.Linear(5, 3), ("block 1/conv-2",)),
            },
            inputs={"1st picture": (4,)},
            outputs=["linear", "class", "0"],
        )
    tl.export_onnx(net, path)
    run = session(path)
    assert [value.name for value in run.get_inputs()] == ["1st picture"]
    assert [value.name for value in run.get_outputs()] == ["linear", "class", "0"]
    check_same(net, path)


def test_the_file_computes_in_float32(path):
    net = classifier(4, 6, 3).half()
    tl.export_onnx(net, path)
    assert {weight.dtype for weight in net.parameters()} == {torch.float16}
    assert {value.data_type for value in onnx.load(path).graph.initializer} == {onnx.TensorProto.FLOAT}
    check_same(net.float(), path)


@pytest.mark.gpu
def test_a_network_on_a_gpu_stays_there(path):
    net = classifier(4, 6, 3).to("cuda")
    tl.export_onnx(net, path)
    assert {weight.device.type for weight in net.parameters()} == {"cuda"}
    check_same(net.cpu(), path)


def test_exporting_does_not_end_the_sharing_of_weights(path):
    net = chain(4, 6, 3)
    built = tl.TransferLearning(net).set_feature_extractor("0").build()
    shared = [torch._C._is_cow_tensor(weight) for weight in built.parameters()]
    assert any(shared)
    tl.export_onnx(built, path)
    assert [torch._C._is_cow_tensor(weight) for weight in built.parameters()] == shared


# -- the file -------------------------------------------------------------------------------------------------------


def test_a_new_file_replaces_the_older_one_and_nothing_is_said(path, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    path.write_bytes(b"older")
    tl.export_onnx(chain(4, 3), path)
    assert os.listdir(path.parent) == ["net.onnx"]
    assert session(path).get_modelmeta().custom_metadata_map == {"classes": "[]"}
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert logging.root.manager.disable == logging.NOTSET
    data = path.read_bytes()  # and it tells nothing of this machine
    for place in (os.getcwd(), os.path.dirname(torch.__file__), os.path.dirname(tl.__file__), str(path.parent)):
        assert place.encode() not in data


def test_weights_that_do_not_fit_are_written_beside_and_replaced_with_the_file(path, monkeypatch):
    mine = path.with_name("net.onnx.mine.data")
    mine.touch()
    net, data = chain(20, 30), "net.onnx.????????.data"
    monkeypatch.setattr(exporting, "LARGEST", 1000)
    tl.export_onnx(net, path)
    (beside,) = path.parent.glob(data)
    assert beside.stat().st_size >= 4 * 20 * 30
    check_same(net, path)
    with monkeypatch.context() as patch:
        patch.setattr(exporting, "TOLERANCE", -1.0)
        with pytest.raises(ValueError, match="would answer something else"):
            tl.export_onnx(net, path)
    assert sorted(path.parent.iterdir()) == sorted([path, beside, mine])
    check_same(net, path)
    tl.export_onnx(net, path)
    (other,) = path.parent.glob(data)
    assert other != beside
    monkeypatch.setattr(exporting, "LARGEST", 3000)
    tl.export_onnx(net, path)
    assert sorted(path.parent.iterdir()) == sorted([path, mine])
    check_same(net, path)


# -- what cannot be written -----------------------------------------------------------------------------------------


class DependsOnValues(nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 0 else x


class UnknownToOnnx(nn.Module):
    def forward(self, x):
        return torch.linalg.qr(x[:, :, None] @ x[:, None])[0][:, 0]


class DependsOnRows(nn.Module):
    def forward(self, x):
        return torch.stack([row * 2 for row in x])


class Random(nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)


def check_older_stays(net, path, match):
    """An older file stays when the new one fails, nothing is left beside it, and nothing is said but the error."""
    path.write_bytes(b"older")
    with pytest.raises(ValueError, match=match) as caught:
        tl.export_onnx(net, path)
    assert path.read_bytes() == b"older"
    assert os.listdir(path.parent) == [path.name]
    return str(caught.value)


@pytest.mark.parametrize(("module", "reason"), [
    (DependsOnValues(), r"its steps depend on values, as in `if x.sum\(\) > 0`"),
    (UnknownToOnnx(), "No ONNX function found for .*linalg_qr"),
    (DependsOnRows(), "what it computes depends on the number of examples, and a file must take any number"),
])  # fmt: skip
def test_a_vertex_that_onnx_cannot_say_is_named(module, reason, path, capfd):
    said = check_older_stays(
        one_vertex(module), path, rf"Vertex 'special' \({type(module).__name__}\) cannot be written as ONNX: {reason}"
    )
    assert said.endswith("Nothing was written. Give it another module, or end the network before it: set_outputs(...).")
    assert "\n" not in said
    assert capfd.readouterr() == ("", "")


def test_an_answer_that_differs_is_not_published(path):
    check_older_stays(
        one_vertex(Random()),
        path,
        r"something else than the network: 'special' differs by [\d.]+, with values up to [\d.]+, for a batch of 1\.",
    )


def test_a_difference_in_any_output_and_batch_is_found(path, monkeypatch):
    convert = exporting._export

    def changed(*arguments):
        model = convert(*arguments)
        (name,) = (name for name in model.graph.initializers if name.startswith("beside") and "bias" in name)
        value = model.graph.initializers[name]
        value.const_value = type(value.const_value)(value.const_value.raw + 1e-2, name=name)
        return model

    monkeypatch.setattr(exporting, "_export", changed)
    check_older_stays(one_vertex(nn.Tanh()), path, "'beside' differs by 0.01,")


def test_answers_of_zero_can_be_compared_and_nan_cannot():
    exporting._check_answer("a", torch.zeros(2, 3), torch.zeros(2, 3), 2)
    exporting._check_answer("a", torch.zeros(2, 0), torch.zeros(2, 0), 2)
    with pytest.raises(ValueError, match="something else than the network: 'a' differs by nan"):
        exporting._check_answer("a", torch.zeros(2, 3), torch.full((2, 3), torch.nan), 2)
    with pytest.raises(ValueError, match="The network answers NaN at 'a' to random inputs, so nothing can be compared"):
        exporting._check_answer("a", torch.tensor([[1, torch.nan]]), torch.tensor([[1, torch.nan]]), 1)


def test_an_input_is_no_output_and_an_output_is_named_once(path):
    vertices = {"hidden": Vertex(nn.Linear(4, 5), ("x",))}
    with pytest.raises(ValueError, match="The network answers with its own input 'x'"):
        tl.export_onnx(tl.Network(vertices, {"x": (4,)}, ["hidden", "x"]), path)
    with pytest.raises(ValueError, match="The network answers 'hidden' twice"):
        tl.export_onnx(tl.Network(vertices, {"x": (4,)}, ["hidden", "hidden"]), path)
    assert os.listdir(path.parent) == []


def test_a_wrong_shape_of_an_answer_is_said():
    with pytest.raises(ValueError, match=r"would answer 'a' with shape \(2,\) where the network answers \(3,\)"):
        exporting._check_answer("a", torch.zeros(3), torch.zeros(2), 1)


def test_an_interrupted_export_leaves_the_older_file(path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "_export", interrupted)
    path.write_bytes(b"older")
    with pytest.raises(KeyboardInterrupt):
        tl.export_onnx(chain(4, 3), path)
    assert path.read_bytes() == b"older"
    assert os.listdir(path.parent) == ["net.onnx"]


def test_a_file_that_onnxruntime_cannot_read_is_not_published(path, monkeypatch):
    monkeypatch.setattr(exporting, "_export", lambda *arguments: SimpleNamespace(metadata_props={}))
    monkeypatch.setattr(exporting, "_write", lambda model, file, data: file.write_bytes(b"broken"))
    check_older_stays(chain(4, 3), path, "onnxruntime cannot read the file that was to be written: ")


def test_a_folder_is_refused_in_words(tmp_path):
    with pytest.raises(IsADirectoryError, match=r"is a folder\. Give the name of a file in it, such as .*network.onnx"):
        tl.export_onnx(chain(4, 3), tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_plain_module_is_answered_with_how_to_import_it(path):
    with pytest.raises(TypeError, match=r"takes a tl\.Network, got Linear\. tl\.Network\.from_module"):
        tl.export_onnx(nn.Linear(4, 3), path)


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_how_to_install_it(package, path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'needs {package}, which is not installed: pip install "tlkit\[onnx\]"\.'):
        tl.export_onnx(chain(4, 3), path)
    assert os.listdir(path.parent) == []
