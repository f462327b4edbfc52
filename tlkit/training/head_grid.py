"""Many heads trained as one: the weights of all of them in common tensors, a step for all of them at once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from tlkit.features.rows import FeatureRows
from tlkit.graph.network import Network
from tlkit.layers.descriptions import Dense, Output
from tlkit.layers.initializers import make_generator
from tlkit.layers.updaters import Nesterovs
from tlkit.markup import html_row, html_table
from tlkit.training.evaluation import evaluate
from tlkit.training.heads import build_head
from tlkit.tuning import FineTuneConfiguration

__all__ = ["HeadGrid", "build_grid_head", "head_grid"]

MOMENTUM = 0.9


@dataclass(frozen=True, eq=False, repr=False)
class HeadGrid:
    """Heads of several sizes, each trained with several learning rates; `head_grid` makes it.

    Parameters
    ----------
    heads : dict of (int, float) to Network
        By number of hidden units and learning rate.
    accuracies : dict of (int, float) to float
        Share of the rows held out that each gets right.
    boundary : str
        What the heads read.
    seconds : float
        What training all of them took.
    """

    heads: dict[tuple[int, float], Network]
    accuracies: dict[tuple[int, float], float]
    boundary: str
    seconds: float

    @property
    def best(self) -> tuple[int, float]:
        """Hidden units and learning rate of the head with the highest accuracy, of several the smallest."""
        return max(self.accuracies, key=lambda key: (self.accuracies[key], -key[0]))

    @property
    def widths(self) -> list[int]:
        """Numbers of hidden units."""
        return list(dict.fromkeys(width for width, _ in self.heads))

    @property
    def learning_rates(self) -> list[float]:
        """Learning rates."""
        return list(dict.fromkeys(rate for _, rate in self.heads))

    def __repr__(self) -> str:
        return (
            f"HeadGrid({len(self.heads)} heads on '{self.boundary}': {_listed(self.widths)} hidden units, "
            f"learning rates {_listed(self.learning_rates)})"
        )

    def _repr_html_(self) -> str:
        cell = "text-align:right;padding:2px 12px"
        rates = self.learning_rates
        columns = 1 + len(rates)
        rows = [html_row(["hidden units", *(f"{rate:g}" for rate in rates)], [cell] * columns, heads=columns)]
        for width in self.widths:
            texts = [f"{self.accuracies[width, rate]:.1%}" for rate in rates]
            styles = [cell + ";font-weight:bold" * ((width, rate) == self.best) for rate in rates]
            rows.append(html_row([f"{width:,}", *texts], [cell, *styles], heads=1))
        caption = (
            f"{len(self.heads)} heads on '{self.boundary}', trained together in {self.seconds:.2g} s. Each column is a "
            "learning rate, each number the share of the rows held out that a head gets right. Bold: the best."
        )
        return html_table(rows, caption=caption, caption_style="text-align:left;caption-side:bottom")


def head_grid(
    train: FeatureRows,
    held_out: FeatureRows,
    widths: Sequence[int] = (16, 64, 256),
    learning_rates: Sequence[float] = (0.001, 0.01, 0.1),
    *,
    epochs: int = 20,
    batch_size: int = 32,
    seed: int = 12345,
) -> HeadGrid:
    """Train a head for each width and each learning rate, all of them together as one batched model.

    Each head is a hidden layer with ReLU and an output with softmax, trained with Nesterov's momentum of 0.9. All heads
    see the same batches. Trained together they end with the weights that they would have trained one after another.

    Parameters
    ----------
    train, held_out : Features or FeatureStore
        Rows to train on and rows to compare the heads on, of one boundary without height and width, such as
        `profile.features(name)` gives them. Test images are better kept for the head that is chosen.
    widths : sequence of int
        Numbers of hidden units.
    learning_rates : sequence of float
    epochs, batch_size : int
        Passes over the rows, and rows a step.
    seed : int
        Of the weights and of the order of rows.

    Raises
    ------
    ValueError
        When the features are of several boundaries or have height and width, or a number makes no sense.

    Examples
    --------
    >>> import torch, tlkit as tl
    >>> train, held_out = (tl.Features({"fc2": torch.rand(n, 8)}, torch.arange(n) % 2, ["a", "b"]) for n in (20, 10))
    >>> tl.head_grid(train, held_out, widths=(4, 8), learning_rates=(0.1,))
    HeadGrid(2 heads on 'fc2': 4 and 8 hidden units, learning rates 0.1)
    """
    _check(train, held_out, widths, learning_rates, epochs, batch_size)
    keys = [(width, rate) for width in dict.fromkeys(widths) for rate in dict.fromkeys(learning_rates)]
    heads = {key: build_grid_head(train, *key, seed) for key in keys}
    where = train.labels.device
    stack = _Stack(heads).to(where)
    optimizer = torch.optim.SGD(stack.parameters(), lr=1.0, momentum=MOMENTUM, nesterov=True, fused=True)
    start = time.perf_counter()
    for epoch in range(epochs):
        order = train.shuffled(make_generator(seed, f"epoch {epoch}"))
        for x, labels in train.batches(batch_size, order):
            optimizer.zero_grad()
            stack.loss(x.to(where, torch.float32), labels).backward()
            optimizer.step()
    seconds = time.perf_counter() - start
    stack.unstack()
    for net in heads.values():
        net.epochs_seen, net.classes = epochs, train.classes
    accuracies = {key: evaluate(net, held_out, batch_size=1024).accuracy for key, net in heads.items()}
    return HeadGrid(heads, accuracies, train.names[0], seconds)


class _Stack(nn.Module):
    """Two-layer heads side by side.

    All first layers are one matrix, because they read the same rows; the second layers of heads of one width are one
    batched product.

    Parameters
    ----------
    heads : dict of (int, float) to Network
        By width and learning rate, those of one width one after another.
    """

    def __init__(self, heads: Mapping[tuple[int, float], Network]) -> None:
        super().__init__()
        pairs = [[vertex.module for vertex in head.vertices.values()] for head in heads.values()]
        self.layers = pairs  # in lists, so that their weights are no parameters of this module
        self.groups = [(width, len(list(group))) for width, group in groupby(width for width, _ in heads)]
        first, second = ([pair[place] for pair in pairs] for place in (0, 1))
        self.weight = nn.Parameter(torch.cat([layer.weight.detach() for layer in first]))
        self.bias = nn.Parameter(torch.cat([layer.bias.detach() for layer in first]))
        self.weights2 = nn.ParameterList(
            torch.stack([layer.weight.detach().t() for layer in second if layer.in_features == width])
            for width, _ in self.groups
        )
        self.bias2 = nn.Parameter(torch.stack([layer.bias.detach() for layer in second])[:, None])
        self.register_buffer("rates", torch.tensor([rate for _, rate in heads]))

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of all heads for rows of shape (n, numbers): (heads, n, classes)."""
        hidden = nn.functional.linear(x, self.weight, self.bias).relu()
        parts = hidden.split([width * count for width, count in self.groups], dim=1)
        scores = [
            part.view(len(x), count, width).transpose(0, 1) @ weight
            for part, (width, count), weight in zip(parts, self.groups, self.weights2, strict=True)
        ]
        return torch.cat(scores) + self.bias2

    def loss(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return the heads' losses, each times its learning rate.

        No weight belongs to two heads, and steps of gradient descent are proportional to gradients, with momentum too:
        at a rate of 1 for all, each head steps at its own.
        """
        scores = self(x)
        losses = nn.functional.cross_entropy(scores.flatten(0, 1), labels.repeat(len(scores)), reduction="none")
        return (losses.view(len(scores), -1).mean(1) * self.rates).sum()

    @torch.no_grad()
    def unstack(self) -> None:
        """Give each head its weights."""
        first = [layer for layer, _ in self.layers]
        weights = self.weight.split([layer.out_features for layer in first])
        biases = self.bias.split([layer.out_features for layer in first])
        weights2 = [weight for group in self.weights2 for weight in group]
        for (hidden, output), *values in zip(self.layers, weights, biases, weights2, self.bias2, strict=True):
            hidden.weight.copy_(values[0])
            hidden.bias.copy_(values[1])
            output.weight.copy_(values[2].t())
            output.bias.copy_(values[3][0])


def build_grid_head(features: FeatureRows, width: int, rate: float, seed: int) -> Network:
    """Build one head of a grid, not trained yet."""
    ((boundary, shape),) = features.shapes.items()
    tuning = FineTuneConfiguration(updater=Nesterovs(lr=rate, momentum=MOMENTUM), seed=seed)
    layers = [("hidden1", Dense(width, activation="relu")), ("predictions", Output(len(features.classes)))]
    return build_head(boundary, shape, layers, tuning)


def _check(train: Any, held_out: Any, widths: Any, rates: Any, epochs: int, batch_size: int) -> None:
    for data in (train, held_out):
        if not isinstance(data, FeatureRows):
            msg = (
                f"The heads read features, got {type(data).__name__}. helper.featurize(images) gives some, and "
                "profile.features(name) those of one boundary."
            )
            raise TypeError(msg)
    shapes = [dict(data.shapes) for data in (train, held_out)]
    if shapes[0] != shapes[1] or len(shapes[0]) != 1 or any(len(shape) != 1 for shape in shapes[0].values()):
        msg = (
            f"The heads read rows of numbers at one boundary, the same in both sets; got {shapes[0]} to train on and "
            f"{shapes[1]} to compare. What a network answers with height and width has to be averaged over both first: "
            "profile.features(name) gives such features."
        )
        raise ValueError(msg)
    for name, values, least in (("widths", widths, 1), ("learning_rates", rates, 0)):
        if not values or any(isinstance(v, str) or not v > 0 or v < least for v in values):
            msg = f"{name} are numbers above 0, one at least; got {values!r}."
            raise ValueError(msg)
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value < 1:
            msg = f"{name} must be at least 1, got {value}."
            raise ValueError(msg)


def _listed(values: Sequence[float]) -> str:
    words = [f"{value:g}" for value in values]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
