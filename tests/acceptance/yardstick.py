"""What the rows of the acceptance table share: networks made without the builder, and ways to compare two networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from nets import furthest, seeded, weights
from torch import Tensor, nn

import tlkit as tl
from tlkit.graph.shapes import run_on_meta
from tlkit.layers.descriptions import Description
from tlkit.layers.options import Options, Settings
from tlkit.training.loop import compute_loss

Layers = Mapping[str, tuple[Any, ...]]


def network(
    layers: Layers, inputs: Mapping[str, Sequence[int]], outputs: Sequence[str], *, seed: int = 0, **options: Any
) -> tl.Network:
    """Make a network straight from descriptions, ``{name: (layer, *names that it reads)}``.

    Nothing of the builder takes part, so that what the builder makes can be compared with it. `options` are what all
    vertices train with unless their description says otherwise.
    """
    everywhere = Options(**options).settings(Settings())
    values = {name: torch.empty(1, *shape, device="meta") for name, shape in inputs.items()}
    vertices = {}
    with seeded(seed):
        for name, (layer, *reads) in layers.items():
            read = [values[other] for other in reads]
            module = layer.make(*(tuple(value.shape[1:]) for value in read)) if is_description(layer) else layer
            settings = layer.settings(everywhere) if isinstance(layer, Options) else everywhere
            vertices[name] = tl.Vertex(module, tuple(reads), settings)
            values[name] = run_on_meta(module, *read)
    net = tl.Network(vertices, inputs, outputs)
    net.seed = seed
    return net


def is_description(layer: Any) -> bool:
    return isinstance(layer, Description)


def in_a_row(shape: Sequence[int], layers: Mapping[str, Any], **options: Any) -> tl.Network:
    """Make a chain of layers, as `network` does; each reads the one before, the first reads the input "in"."""
    rows = {name: (layer, before) for (name, layer), before in zip(layers.items(), ["in", *layers], strict=False)}
    return network(rows, {"in": shape}, [*layers][-1:], **options)


def numbered(*layers: Any) -> dict[str, Any]:
    """Name layers by their index, as DL4J's MultiLayerNetwork does."""
    return {str(index): layer for index, layer in enumerate(layers)}


def configuration(net: tl.Network) -> dict[str, Any]:
    """All that decides how a network answers and trains, its weights apart: what upstream compares as JSON."""
    return {
        "inputs": net.input_shapes,
        "outputs": net.outputs,
        "frozen": {name: name in net.passing for name in net.frozen},
        "vertices": {name: (vertex.inputs, *described(vertex)) for name, vertex in net.vertices.items()},
    }


def described(vertex: tl.Vertex) -> tuple[Any, ...]:
    """What a vertex computes and, where it has weights, how they are trained."""
    trained = any(True for _ in vertex.module.parameters())
    parts = [(name, type(part).__name__, part.extra_repr()) for name, part in vertex.module.named_modules()]
    unseen = [getattr(vertex.module, name, None) for name in ("loss", "loss_weight", "weight_noise")]
    return sorted(parts), unseen, vertex.settings if trained else None


def shapes(net: tl.Network) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in net.state_dict().items()}


def take_weights(net: tl.Network, source: tl.Network) -> tl.Network:
    """Give a network the weights that a source has under the same names."""
    found = source.state_dict()
    net.load_state_dict({name: found[name].clone() for name in net.state_dict()})
    return net


def train(net: tl.Network, data: Any, fits: int = 1) -> tl.History:
    """Take `fits` steps, each on all of the data in their order: DL4J's ``net.fit(DataSet)``, repeated."""
    return tl.fit(net, data, epochs=fits, batch_size=10_000, shuffle=False, progress=False)


def assert_trains_alike(one: tl.Network, other: tl.Network, data: Any, fits: int = 3) -> None:
    """Both start from the same weights, move, and end with the same weights and losses."""
    before = weights(one)
    assert furthest(before, weights(other)) == 0
    histories = [train(net, data, fits) for net in (one, other)]
    assert furthest(weights(one), before) > 0, "training made a difference"
    assert furthest(weights(one), weights(other)) == 0
    assert histories[0].losses == histories[1].losses


def assert_same_weights(net: tl.Network, part: tl.Network, *, within: float = 1e-6) -> None:
    """Every weight of the part is that of the whole network under the same name."""
    found = weights(net)
    assert furthest({name: found[name] for name in part.state_dict()}, weights(part)) <= within


def same(before: dict[str, Tensor], after: dict[str, Tensor]) -> bool:
    assert before, "there is something to compare"
    return before.keys() == after.keys() and all(torch.equal(value, after[name]) for name, value in before.items())


def own_weights(net: tl.Network, names: Any) -> dict[str, Tensor]:
    """Copies of the weights and buffers of some vertices."""
    return {key: value for key, value in weights(net).items() if key.split(".")[0] in set(names)}


def trained_vertices(net: tl.Network) -> set[str]:
    return {name for name, vertex in net.vertices.items() if any(True for _ in vertex.module.parameters())}


def examples(
    *shape: int, classes: int = 3, rows: int = 10, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Random numbers of a shape with class numbers, in turn."""
    with seeded(sum(shape) + classes):
        return torch.randn(rows, *shape, dtype=dtype), torch.arange(rows) % classes


def assert_gradients_are_right(net: tl.Network, x: Any, labels: Any) -> None:
    """Compare the loss's gradient with finite differences for every trainable weight; frozen ones must get none."""
    net.train()
    trainable = [weight for weight in net.parameters() if weight.requires_grad]
    assert trainable
    assert all(weight.dtype == torch.float64 for weight in trainable)
    # gradcheck moves the network's own weights in place, so the loss need not be told of them
    assert torch.autograd.gradcheck(lambda *_: compute_loss(net, x, labels), trainable)
    compute_loss(net, x, labels).backward()
    for name, vertex in net.vertices.items():
        for weight in vertex.module.parameters():
            assert (weight.grad is None) == (name in net.frozen), name


def differing(one: Settings, other: Settings) -> set[str]:
    """Names of the settings that differ."""
    return {f.name for f in fields(Settings) if getattr(one, f.name) != getattr(other, f.name)}


class Attention(nn.Module):
    """A layer of one's own: self-attention over a sequence, averaged."""

    def __init__(self, width: int, heads: int = 2) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0].mean(dim=1)


def tanh(n_out, **options):
    """A fully connected layer with tanh."""
    return tl.Dense(n_out, activation="tanh", **options)


def relu(n_out, **options):
    """A fully connected layer with ReLU."""
    return tl.Dense(n_out, activation="relu", **options)


def conv(n_out, kernel_size=3, **options):
    """A convolution with ReLU."""
    return tl.Conv2d(n_out, kernel_size, activation="relu", **options)
