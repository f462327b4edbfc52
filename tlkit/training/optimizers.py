"""One optimizer for each updater of a network, with penalties and gradient normalization by vertex."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tlkit.features.moving import move
from tlkit.graph.network import Network
from tlkit.layers.options import Settings
from tlkit.layers.updaters import Adam, Updater

__all__ = ["DEFAULT_UPDATER", "STATE", "Optimizers", "join_state", "part_state"]

DEFAULT_UPDATER = Adam(lr=1e-3)
STATE = ".updater/"  # before the names of the state's tensors in a file; no vertex's name starts with a dot


@dataclass
class _Group:
    """The trainable parameters of one vertex."""

    settings: Settings
    parameters: list[nn.Parameter]
    biases: list[nn.Parameter]

    @property
    def weights(self) -> list[nn.Parameter]:
        """Weights without biases and norm scales: what penalties and constraints act on."""
        return [parameter for parameter in self.parameters if parameter.ndim > 1]

    @property
    def is_regularized(self) -> bool:
        """Whether anything is done to the gradients or weights beside the updater's step."""
        own = self.settings
        penalties = own.l1, own.l2, own.weight_decay, own.l1_bias, own.l2_bias, own.weight_decay_bias
        return any(penalties) or own.gradient_normalization is not None

    def updater(self, parameter: nn.Parameter) -> Updater:
        updater = self.settings.updater or DEFAULT_UPDATER
        is_bias = any(parameter is bias for bias in self.biases)
        return self.settings.bias_updater or updater if is_bias else updater


class Optimizers:
    """The optimizers of a network; their state lives on between calls of `fit`.

    Parameters
    ----------
    network : Network
        Only its trainable weights take part; the state of one that is frozen later is dropped, one that is
        unfrozen joins without resetting the others.
    by_updater : dict of Updater to torch.optim.Optimizer, optional
        The optimizers of another network over the same trainable weights, shared with it.
    """

    def __init__(self, network: Network, by_updater: dict[Updater, torch.optim.Optimizer] | None = None) -> None:
        self.network = network
        self.by_updater = {} if by_updater is None else by_updater
        self.groups: list[_Group] = []
        self._regularized: list[_Group] = []

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
        self.groups = []
        for vertex in self.network.vertices.values():
            parameters = [p for p in vertex.module.parameters() if p.requires_grad and id(p) not in seen]
            seen.update(map(id, parameters))
            if parameters:
                group = _Group(vertex.settings, parameters, _biases(vertex.module, parameters))
                self.groups.append(group)
                for parameter in parameters:
                    wanted.setdefault(group.updater(parameter), []).append(parameter)
        self._regularized = [group for group in self.groups if group.is_regularized]
        for updater in [*self.by_updater]:
            if updater not in wanted:
                del self.by_updater[updater]
        for updater, parameters in wanted.items():
            if updater in self.by_updater:
                _set_parameters(self.by_updater[updater], parameters)
            else:
                self.by_updater[updater] = updater.build(parameters)

    @torch.no_grad()
    def zero_gradients_unless(self, finite: Tensor) -> None:
        """Replace all gradients by zeros where a truth value on their device is false; nobody waits for it."""
        for parameter in (parameter for group in self.groups for parameter in group.parameters):
            if parameter.grad is not None:
                parameter.grad = torch.where(finite, parameter.grad, 0.0)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for optimizer in self.by_updater.values():
            optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def step(self) -> float | Tensor:
        """Take one step and return the penalty that was added to the loss."""
        penalty: float | Tensor = 0.0
        for group in self._regularized:
            settings = group.settings
            _normalize_gradients(settings, [p.grad for p in group.parameters if p.grad is not None])
            for weight in group.weights:
                penalty = penalty + self._regularize(weight, group, settings.l1, settings.l2, settings.weight_decay)
            for bias in group.biases:
                penalty = penalty + self._regularize(
                    bias, group, settings.l1_bias, settings.l2_bias, settings.weight_decay_bias
                )
        for optimizer in self.by_updater.values():
            optimizer.step()
        for group in self.groups:
            for constraint in group.settings.constraints:
                for weight in group.weights:
                    constraint.apply(weight)
        return penalty

    def _regularize(self, parameter: nn.Parameter, group: _Group, l1: float, l2: float, decay: float) -> float | Tensor:
        """Add penalties to a gradient, take decay off the values, and return what the penalties add to the loss."""
        penalty: float | Tensor = 0.0
        if parameter.grad is None:
            return penalty
        if l1:
            penalty = penalty + l1 * parameter.abs().sum()
            parameter.grad.add_(parameter.sign(), alpha=l1)
        if l2:
            penalty = penalty + l2 / 2 * parameter.square().sum()
            parameter.grad.add_(parameter, alpha=l2)
        if decay:
            rate = self.by_updater[group.updater(parameter)].param_groups[0]["lr"]
            parameter.mul_(1 - rate * decay)
        return penalty

    # -- as data ------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, dict[str, Any]]:
        """Return what the optimizers remember of each weight, by its name in `state_dict`."""
        names = {id(parameter): name for name, parameter in self.network.named_parameters()}
        return {
            names[id(parameter)]: dict(state)
            for optimizer in self.by_updater.values()
            for parameter, state in optimizer.state.items()
            if id(parameter) in names
        }

    def restore(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Remember again what `state` returned; weights that are frozen now are passed over."""
        parameters = dict(self.network.named_parameters())
        for optimizer in self.by_updater.values():
            trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
            for name, values in state.items():
                if id(parameters[name]) in trained:
                    optimizer.state[parameters[name]] = _follow(parameters[name], values, optimizer)


def part_state(state: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, dict[str, Any]], dict[str, Tensor]]:
    """Part what `Optimizers.state` returned into plain values by weight, and tensors by a name of their own."""
    plain, tensors = {}, {}
    for weight, values in state.items():
        plain[weight] = {name: value for name, value in values.items() if not isinstance(value, Tensor)}
        for name in values.keys() - plain[weight].keys():
            tensors[f"{STATE}{weight}/{name}"] = values[name].detach().cpu().contiguous()
    return plain, tensors


def join_state(plain: Mapping[str, Mapping[str, Any]], tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """Join again what `part_state` parted; tensors of other names are passed over."""
    state = {weight: dict(values) for weight, values in plain.items()}
    for name, value in tensors.items():
        if name.startswith(STATE):
            weight, part = name.removeprefix(STATE).rsplit("/", 1)
            state[weight][part] = value
    return state


def _biases(module: nn.Module, parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    """Return those of the parameters that are biases of weight layers; the shift of a normalization is none."""
    biases = {
        id(parameter)
        for part in module.modules()
        for name, parameter in part.named_parameters(recurse=False)
        if name.endswith("bias") and _has_matrix(part)
    }
    return [parameter for parameter in parameters if id(parameter) in biases]


def _has_matrix(module: nn.Module) -> bool:
    return any(parameter.ndim > 1 for parameter in module.parameters(recurse=False))


def _set_parameters(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
    kept = {id(parameter) for parameter in parameters}
    for parameter in [*optimizer.state]:
        if id(parameter) not in kept:
            del optimizer.state[parameter]
    optimizer.param_groups[0]["params"] = list(parameters)
    for parameter, state in optimizer.state.items():
        state.update(_follow(parameter, state, optimizer))


def _follow(parameter: nn.Parameter, state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return a weight's state on its device; counts of steps stay on the CPU unless the optimizer reads them there."""
    options = optimizer.param_groups[0]
    counts_too = bool(options.get("fused") or options.get("capturable"))
    return {
        name: move(value, parameter.device) if isinstance(value, Tensor) and (value.ndim or counts_too) else value
        for name, value in state.items()
    }


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
