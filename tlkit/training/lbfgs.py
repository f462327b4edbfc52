"""Solving a linear head: all rows at once, by L-BFGS, instead of batch by batch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tlkit.graph.network import Network
from tlkit.layers.modules import OutputLayer
from tlkit.training.data import wrap_data
from tlkit.training.labels import check_labels
from tlkit.training.loop import History

__all__ = ["solve"]

ROWS = 16_384  # that pass through the head together
TOLERANCE = 1e-4  # of the gradient's largest value
MEMORY = 20  # steps that L-BFGS builds its picture of the curvature from


def solve(net: Network, data: Any, max_iterations: int | None = None) -> History:
    """Find the weights of a linear head at which the loss over all rows is smallest.

    For one layer that answers, the loss has a single lowest point. L-BFGS (Liu and Nocedal, 1989) walks there with
    the gradient of all rows, with features shifted to mean 0 and weights scaled to equal curvature. A layer without
    `l2` gets one of 1/rows, as in scikit-learn's LogisticRegression: without any, the weights of classes that a plane
    can part would grow without end.

    Parameters
    ----------
    net : Network
        One `tl.Output` layer, and nothing else that trains.
    data : Features, FeatureStore or (x, y)
        All rows are read in each iteration.
    max_iterations : int, optional
        Steps at most; 200 when left out.

    Raises
    ------
    ValueError
        When the network is more than one layer that answers.
    """
    name, layer = _linear_head(net)
    data = wrap_data(data, net)
    check_labels(net, data.labels)
    start = time.perf_counter()
    problem = _Problem(layer, data, net.vertices[name].settings.l2 or 1 / len(data))
    losses = problem.solve(max_iterations or 200)
    net.classes = net.classes or tuple(data.classes)
    return History(losses=losses, examples=len(losses) * len(data), seconds=time.perf_counter() - start)


def _linear_head(net: Network) -> tuple[str, nn.Module]:
    (name, vertex), *others = net.vertices.items()
    layer = vertex.module
    if others or not isinstance(layer, OutputLayer) or net.frozen or layer.norm is not None:
        msg = (
            f"solver='lbfgs' finds the weights of ONE tl.Output layer, and the part to train is "
            f"{', '.join(net.vertices)}. Set the boundary right before the output, or use solver='updater'."
        )
        raise ValueError(msg)
    if layer.dropout is not None or layer.weight_noise is not None:
        msg = (
            f"solver='lbfgs' needs the same loss every time, and '{name}' drops elements at random. "
            "Take dropout=None and weight_noise=None, or use solver='updater'."
        )
        raise ValueError(msg)
    return name, layer


class _Problem:
    """The loss of a linear layer over all rows, as a function of scaled weights and shifted features."""

    def __init__(self, layer: nn.Module, data: Any, l2: float) -> None:
        self.layer, self.data, self.l2 = layer, data, l2
        self.parts = list(self._read()) if getattr(data, "in_memory", True) else None
        self.mean, variance = self._statistics()
        self.scale = (variance + 4 * l2).sqrt()  # what makes the loss curve about equally along every weight

    def _read(self) -> Iterator[tuple[Tensor, Tensor]]:
        where, dtype = self.layer.weight.device, self.layer.weight.dtype
        return ((x.to(where, dtype), y.to(where)) for x, y in self.data.batches(ROWS))

    def _rows(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.parts) if self.parts is not None else self._read()

    def _statistics(self) -> tuple[Tensor, Tensor]:
        rows = len(self.data)
        mean = sum(x.sum(0) for x, _ in self._rows()) / rows
        variance = sum((x - mean).square().sum(0) for x, _ in self._rows()) / rows
        return mean, variance

    @torch.enable_grad()
    def solve(self, max_iterations: int) -> list[float]:
        layer = self.layer
        weight = (layer.weight.detach() * self.scale).requires_grad_()
        bias = (layer.bias.detach() + layer.weight.detach() @ self.mean).requires_grad_()
        optimizer = torch.optim.LBFGS(
            [weight, bias],
            max_iter=max_iterations,
            tolerance_grad=TOLERANCE,
            history_size=MEMORY,
            line_search_fn="strong_wolfe",
        )
        losses: list[float] = []

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = self._loss(weight, bias)
            losses.append(float(loss))
            return loss

        optimizer.step(closure)
        with torch.no_grad():
            for parameter, value in zip((layer.weight, layer.bias), self._plain(weight, bias), strict=True):
                parameter.copy_(value)
        return losses

    def _loss(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Return the loss with its gradient taken, part by part so that memory holds one."""
        penalty = self.l2 / 2 * (weight / self.scale).square().sum()
        penalty.backward()
        total = penalty.detach()
        for x, y in self._rows():
            plain, offset = self._plain(weight, bias)
            part = self.layer.compute_loss(nn.functional.linear(x, plain, offset), y) * (len(x) / len(self.data))
            part.backward()
            total = total + part.detach()
        return total

    def _plain(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights and biases for the features as they are."""
        plain = weight / self.scale
        return plain, bias - plain @ self.mean
