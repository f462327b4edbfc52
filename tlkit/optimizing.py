"""One optimizer for each updater of a network, with penalties and gradient normalization by vertex."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tlkit.graph import Network
from tlkit.settings import Settings
from tlkit.updaters import Adam, Updater

__all__ = ["DEFAULT_UPDATER", "Optimizers"]

DEFAULT_UPDATER = Adam(lr=1e-3)


class Optimizers:
    """The optimizers of a network; their state lives on between calls of `fit`.

    Parameters
    ----------
    network : Network
        Only its trainable weights take part; the state of one that is frozen later is dropped, one that is
        unfrozen joins without resetting the others.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.by_updater: dict[Updater, torch.optim.Optimizer] = {}
        self.layers: list[tuple[Settings, list[nn.Parameter]]] = []

    @classmethod
    def of(cls, network: Network) -> Optimizers:
        """Return the network's optimizers, brought up to date with what is frozen now."""
        if network.optimizers is None:
            network.optimizers = cls(network)
        network.optimizers.refresh()
        return network.optimizers

    def refresh(self) -> None:
        """Follow changes of the frozen marks, the settings and the device."""
        seen: set[int] = set()
        wanted: dict[Updater, list[nn.Parameter]] = {}
        self.layers = []
        for vertex in self.network.vertices.values():
            parameters = [p for p in vertex.module.parameters() if p.requires_grad and id(p) not in seen]
            seen.update(map(id, parameters))
            if parameters:
                wanted.setdefault(vertex.settings.updater or DEFAULT_UPDATER, []).extend(parameters)
                self.layers.append((vertex.settings, parameters))
        for updater in [*self.by_updater]:
            if updater not in wanted:
                del self.by_updater[updater]
        for updater, parameters in wanted.items():
            if updater in self.by_updater:
                _set_parameters(self.by_updater[updater], parameters)
            else:
                self.by_updater[updater] = updater.build(parameters)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for optimizer in self.by_updater.values():
            optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def step(self) -> float | Tensor:
        """Take one step and return the penalty that was added to the loss."""
        penalty: float | Tensor = 0.0
        for settings, parameters in self.layers:
            _normalize_gradients(settings, [p.grad for p in parameters if p.grad is not None])
            for weight in _weights(parameters):
                if settings.l1:
                    penalty = penalty + settings.l1 * weight.abs().sum()
                    weight.grad.add_(weight.sign(), alpha=settings.l1)
                if settings.l2:
                    penalty = penalty + settings.l2 / 2 * weight.square().sum()
                    weight.grad.add_(weight, alpha=settings.l2)
                if settings.weight_decay:
                    rate = self.by_updater[settings.updater or DEFAULT_UPDATER].param_groups[0]["lr"]
                    weight.mul_(1 - rate * settings.weight_decay)
        for optimizer in self.by_updater.values():
            optimizer.step()
        return penalty


def _weights(parameters: list[nn.Parameter]) -> Iterator[nn.Parameter]:
    """Weights without biases and norm scales: what penalties act on."""
    return (parameter for parameter in parameters if parameter.ndim > 1 and parameter.grad is not None)


def _set_parameters(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
    kept = {id(parameter) for parameter in parameters}
    for parameter in [*optimizer.state]:
        if id(parameter) not in kept:
            del optimizer.state[parameter]
    optimizer.param_groups[0]["params"] = list(parameters)
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.ndim and value.device != parameter.device:
                state[name] = value.to(parameter.device)


def _normalize_gradients(settings: Settings, gradients: list[Tensor]) -> None:
    kind, threshold = settings.gradient_normalization, settings.gradient_normalization_threshold
    if kind is None or not gradients:
        return
    if kind == "clip_value":
        for gradient in gradients:
            gradient.clamp_(-threshold, threshold)
        return
    groups = [gradients] if kind.endswith("per_layer") else [[gradient] for gradient in gradients]
    for group in groups:
        norm = torch.stack([gradient.norm() for gradient in group]).norm()
        scale = norm.clamp(min=1e-12).reciprocal()
        if kind.startswith("clip"):
            scale = (threshold * scale).clamp(max=1.0)
        for gradient in group:
            gradient.mul_(scale)
