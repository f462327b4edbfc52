"""Small networks that several test modules edit and train."""

from __future__ import annotations

import copy
import json
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.vgg import VGG, make_layers

import tlkit as tl
from tlkit.graph.importing import from_module, take_over
from tlkit.zoo import find_landmarks, name_vgg_layers

NARROW = [4, 4, "M", 6, 6, "M", 8, 8, 8, "M", 8, 8, 8, "M", 8, 8, 8, "M"]


def narrow_vgg16(*, batch_norm: bool = False, classes: int = 10) -> tl.Network:
    """VGG16's structure and vertex names with few channels, for float images of 32 pixels."""
    with seeded(0):
        with torch.device("meta"):
            module = VGG(nn.Identity(), init_weights=False)  # its own classifier would take half a gigabyte
        module.features = make_layers(NARROW, batch_norm=batch_norm)
        wide = nn.Linear(8 * 7 * 7, 16), nn.ReLU(), nn.Dropout()
        module.classifier = nn.Sequential(*wide, nn.Linear(16, 12), nn.ReLU(), nn.Dropout(), nn.Linear(12, classes))
        for weight in module.parameters():
            if weight.ndim > 1:
                nn.init.kaiming_normal_(weight)
    net = take_over(module, [torch.empty(1, 3, 32, 32, device="meta")], rename=name_vgg_layers(module.features))
    net.landmarks = find_landmarks(net)
    return net


def chain(*widths: int, dropout: float = 0.0) -> tl.Network:
    """Linear layers "0", "1", ... with a ReLU behind each but the last."""
    with seeded(1):
        parts = []
        for n_in, n_out in pairwise(widths):
            parts.append(nn.Sequential(nn.Dropout(dropout), nn.Linear(n_in, n_out), nn.ReLU()))
        parts[-1] = parts[-1][:2]
        module = nn.Sequential(*(layer for part in parts for layer in part if not is_idle(layer)))
    net = from_module(module, [torch.empty(1, widths[0])])
    names = {old: str(number) for number, old in enumerate(net.vertices)}
    return tl.Network(
        {names[old]: tl.Vertex(v.module, tuple(names.get(i, i) for i in v.inputs)) for old, v in net.vertices.items()},
        net.input_shapes,
        [names[net.outputs[0]]],
        recipe=net.recipe,
    )


def is_idle(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Dropout) and layer.p == 0


def classifier(*widths: int, dropout: float = 0.0, **output: object) -> tl.Network:
    """A chain whose last layer is a `tl.Output`; trains with plain gradient descent unless told otherwise."""
    net = chain(*widths, dropout=dropout)
    last = list(net.vertices)[-1]
    options = {"updater": tl.Sgd(0.1)} | output
    return (
        tl.TransferLearning(net)
        .fine_tune_configuration(tl.FineTuneConfiguration(seed=1, updater=options["updater"]))
        .remove_vertex_keep_connections(last)
        .add_layer(last, tl.Output(widths[-1], **options), *net.vertices[last].inputs)
        .build()
    )


def branches(updater: tl.Updater | None = None) -> tl.Network:
    """Two inputs; "left" and "right" are two layers each, joined by a concatenation and by an addition."""
    with seeded(5):
        modules = {
            "left1": (nn.Linear(4, 6), ("a",)),
            "left2": (nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Tanh()), ("left1",)),
            "right1": (nn.Linear(3, 6), ("b",)),
            "right2": (nn.Linear(6, 5), ("right1",)),
            "added": (tl.ElementWise("add").make(), ("left2", "right2")),
            "merged": (tl.Merge().make(), ("left1", "right1", "added")),
        }
        net = tl.Network({n: tl.Vertex(*v) for n, v in modules.items()}, {"a": (4,), "b": (3,)}, ["merged"])
    tuning = tl.FineTuneConfiguration(updater=updater or tl.Sgd(0.1), seed=3)
    return apply(
        net,
        ("fine_tune_configuration", tuning),
        ("add_layer", "hidden", tl.Dense(8, activation="tanh", dropout=0.2), "merged"),
        ("add_layer", "answer", tl.Output(3), "hidden"),
        ("set_outputs", "answer"),
    )


def imported(*layers: nn.Module, shape: tuple[int, ...] = (3, 8, 8)) -> tl.Network:
    """A chain of torch's layers, in blocks, for images of 8 pixels unless told otherwise."""
    with seeded(4):
        return from_module(nn.Sequential(*layers), [torch.zeros(2, *shape)])


def apply(net: tl.Network, *edits: tuple[Any, ...]) -> tl.Network:
    """Build with edits: the name of the builder's method and its arguments each."""
    builder = tl.TransferLearning(net)
    for method, *arguments in edits:
        assert getattr(builder, method)(*arguments) is builder
    return builder.build()


def blobs(rows: int = 24, width: int = 4, classes: int = 3) -> tuple[Tensor, Tensor]:
    """Rows that a linear layer can tell apart."""
    with seeded(2):
        labels = torch.arange(rows) % classes
        return torch.randn(rows, width) + 3 * torch.randn(classes, width)[labels], labels


def pictures(rows: int = 8, classes: int = 5) -> tuple[Tensor, Tensor]:
    """Float images of 32 pixels with labels."""
    with seeded(3):
        return torch.randn(rows, 3, 32, 32), torch.arange(rows) % classes


def pairs(rows: int = 10) -> tuple[dict[str, Tensor], Tensor]:
    """Rows for the two inputs of `branches`, with class numbers."""
    with seeded(6):
        return {"a": torch.randn(rows, 4), "b": torch.randn(rows, 3)}, torch.arange(rows) % 3


class seeded:
    """Random numbers from a seed, without changing those of the caller."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __enter__(self) -> None:
        self.before = torch.random.get_rng_state()
        torch.manual_seed(self.seed)

    def __exit__(self, *error: object) -> None:
        torch.random.set_rng_state(self.before)


def weights(net: nn.Module) -> dict[str, Tensor]:
    """Copies of all weights and buffers by name."""
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def moved(net: nn.Module, before: dict[str, Tensor]) -> set[str]:
    """Names of the vertices whose weights or buffers are no longer what they were."""
    after = net.state_dict()
    assert after.keys() == before.keys()
    return {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}


def furthest(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """The largest difference between two state dicts of the same names."""
    assert first.keys() == second.keys()
    return max(float((first[name].float() - second[name].float()).abs().max()) for name in first)


def runs(net: tl.Network, rows: int = 2) -> torch.Size:
    """The shape of a network's answer, computed from zeros."""
    with torch.no_grad():
        return net(torch.zeros(rows, *next(iter(net.input_shapes.values())))).shape


OUTLINE = ("inputs", "outputs", "input_shapes", "frozen", "passing", "classes", "seed", "epochs_seen", "training")


def everything(net: tl.Network) -> dict[str, Any]:
    """All that a network is, tensors apart."""
    return {
        **{name: getattr(net, name) for name in OUTLINE},
        "preprocessing": copy.deepcopy(net.preprocessing),
        "recipe": json.dumps(net.recipe),
        "requires_grad": {name: value.requires_grad for name, value in net.named_parameters()},
        "modes": {name: module.training for name, module in net.named_modules()},
        "modules": {name: str(module) for name, module in net.named_modules()},
        "settings": {name: vertex.settings for name, vertex in net.vertices.items()},
        "reads": {name: vertex.inputs for name, vertex in net.vertices.items()},
    }
