"""The random numbers of training: a seed decides about dropout, and the caller's numbers stay as they were."""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from tlkit.features.moving import find_device
from tlkit.graph.network import Network

__all__ = ["Draws"]

_turn = threading.RLock()  # torch has one generator for a whole process: seeded fits in threads take turns with it


class Draws:
    """What one epoch draws, batch by batch: the network's seed and the epoch's number decide.

    Between the batches the generators are those of the caller. Threads that train seeded networks wait for each other;
    what else draws random numbers in another thread during a batch still disturbs it. A network without a seed draws
    from the caller's generators.

    Parameters
    ----------
    net : Network
        Before `begin_epoch` counts the epoch.
    """

    def __init__(self, net: Network) -> None:
        self.seed = None if net.seed is None else net.seed + net.epochs_seen
        device = find_device(net)
        self.generators = [torch.default_generator]
        if device.type == "cuda":
            self.generators.append(torch.cuda.default_generators[device.index or 0])
        self._own: list[Tensor] = []
        self._callers: list[Tensor] = []

    def __enter__(self) -> None:
        if self.seed is None:
            return
        _turn.acquire()
        self._callers = [generator.get_state() for generator in self.generators]
        for number, generator in enumerate(self.generators):
            if self._own:
                generator.set_state(self._own[number])
            else:
                generator.manual_seed(self.seed)

    def __exit__(self, *error: object) -> None:
        if self.seed is None:
            return
        self._own = [generator.get_state() for generator in self.generators]
        for generator, state in zip(self.generators, self._callers, strict=True):
            generator.set_state(state)
        _turn.release()
