"""How large the steps are that training takes, against the weights that it changes."""

from __future__ import annotations

from math import log10
from typing import Any

import torch
from torch import Tensor, nn

from tlkit.graph.network import Network

__all__ = ["USUAL", "UpdateRatios", "describe_ratio"]

SAMPLED = 10_000  # weights of a tensor; their mean is within about a percent of the mean of all
USUAL = -3.0  # log10 of update : weight; a thousandth


class UpdateRatios:
    """Measures each trainable layer's mean step against the mean size of its weights, as DL4J's training page does.

    Only some thousand weights of each tensor are looked at, the same ones every time, so that a large layer costs
    neither time nor a second copy.

    Examples
    --------
    >>> import torch, tlkit as tl
    >>> from tlkit.widgets.steps import UpdateRatios
    >>> from torch import nn
    >>> layer = nn.Linear(2, 2, bias=False)
    >>> net = tl.Network.from_module(layer, [torch.zeros(1, 2)])
    >>> ratios = UpdateRatios()
    >>> ratios.measure(net)
    {}
    >>> _ = [weight.data.mul_(1.001) for weight in net.parameters()]
    >>> {name: round(ratio, 4) for name, ratio in ratios.measure(net).items()}
    {'linear': 0.001}
    """

    def __init__(self) -> None:
        self._places: dict[tuple[int, torch.device], Tensor] = {}
        self._before: dict[str, list[Tensor]] = {}

    @torch.no_grad()
    def measure(self, network: Network) -> dict[str, float]:
        """Return mean |update| / mean |weight| since the last call, by layer, for those that were looked at then too.

        Biases and the scales of a normalization count only where a layer has no other weights.
        """
        sizes = {name: _weights(vertex.module) for name, vertex in network.vertices.items()}
        now = {name: [self._sample(weight) for weight in weights] for name, weights in sizes.items() if weights}
        ratios = {}
        for name, samples in now.items():
            before = self._before.get(name)
            if before is not None and len(before) == len(samples):
                counts = [weight.numel() for weight in sizes[name]]
                moved = sum(n * float((a - b).abs().mean()) for n, a, b in zip(counts, samples, before, strict=True))
                size = sum(n * float(sample.abs().mean()) for n, sample in zip(counts, before, strict=True))
                if size > 0:
                    ratios[name] = moved / size
        self._before = now
        return ratios

    def _sample(self, weight: Tensor) -> Tensor:
        weight = weight.detach()
        if weight.numel() <= SAMPLED:
            return weight.float().flatten().clone()
        key = weight.numel(), weight.device
        if key not in self._places:
            places = torch.randint(weight.numel(), (SAMPLED,), generator=torch.Generator().manual_seed(0))
            self._places[key] = places.to(weight.device)
        return weight.take(self._places[key]).float()


def describe_ratio(ratio: float) -> tuple[float, str]:
    """Return log10 of a ratio, to one decimal, and what to think of it: DL4J's page takes a thousandth as a guide.

    Examples
    --------
    >>> from tlkit.widgets.steps import describe_ratio
    >>> describe_ratio(0.001), describe_ratio(0.05)[1], describe_ratio(1e-5)[1]
    ((-3.0, 'usual'), 'large steps', 'small steps')
    """
    if not ratio > 0:
        return float("-inf"), "does not move"
    size = round(log10(ratio), 1)  # as it is written, so that equal numbers get equal words
    return size, "large steps" if size > USUAL + 1 else "small steps" if size < USUAL - 1 else "usual"


def _weights(module: nn.Module) -> list[Any]:
    trainable = [weight for weight in module.parameters() if weight.requires_grad]
    return [weight for weight in trainable if weight.ndim > 1] or trainable
