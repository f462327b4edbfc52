"""The transfer learning helper: run the frozen part once, train the rest on what it says."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from tlkit.features import FeatureRows, Features
from tlkit.graph import Network
from tlkit.layout import StoreSpec
from tlkit.listeners import Listener
from tlkit.store import FeatureStore
from tlkit.training import History, as_data, fit

__all__ = ["TransferLearningHelper"]


class TransferLearningHelper:
    """Featurizes data with a network's frozen part and trains its unfrozen part on them.

    Training on featurized data is the same as training the whole network with its frozen part held constant: the
    frozen part gives the same answer for the same image every time, so it needs to be asked only once.

    Parameters
    ----------
    network : Network
        A network with a frozen part.
    *boundary : str or int
        Freeze exactly these vertices and everything that feeds them first, IN PLACE (DL4J's second constructor).

    Attributes
    ----------
    network : Network
        The whole network; it shares its weights with the two parts.
    frozen_network, unfrozen_network : Network
        The part that featurizes and the part that trains (DL4J's unfrozenGraph).

    Raises
    ------
    ValueError
        When nothing or everything is frozen.
    """

    def __init__(self, network: Network, *boundary: str | int) -> None:
        if boundary:
            names = [network.resolve(name) for name in boundary]
            network.unfreeze()
            network.freeze(*names)
        self.network = network
        self.frozen_network, self.unfrozen_network = network.split()

    def featurize(
        self,
        data: Any,
        to: str | os.PathLike[str] | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        batch_size: int = 32,
        progress: bool = True,
    ) -> Tensor | dict[str, Tensor] | Features | FeatureStore:
        """Return what the frozen part says of the data.

        Parameters
        ----------
        data : ImageSet, (x, y) or Tensor of shape (n, ...)
            A data set with labels gives features with labels; a tensor gives the boundary tensor (a mapping by name
            when there are several).
        to : path, optional
            Folder of a feature store. What is there already and still right is not computed again; the store's
            `reasons` say why something was.
        dtype : torch.dtype
            How the features are kept; float16 halves their size.
        batch_size : int
            Images that run through the network together.
        progress : bool
            Whether to show a progress bar.
        """
        if isinstance(data, (Tensor, Mapping)):
            return self._boundary(data, dtype, single=len(self.unfrozen_network.inputs) == 1)
        data = as_data(data, self.network)
        spec = self._spec(data, dtype)
        if to is not None:
            return FeatureStore.fill(
                to, spec, lambda rows: self._rows(data, rows, batch_size, dtype), progress=progress
            )
        return self._in_memory(data, spec, batch_size, dtype, progress=progress)

    def fit_featurized(
        self,
        features: FeatureRows | tuple[Any, Tensor],
        epochs: int = 1,
        batch_size: int = 32,
        shuffle: bool = True,
        max_iterations: int | None = None,
        listeners: Sequence[Listener] = (),
        *,
        progress: bool = True,
    ) -> History:
        """Train the unfrozen part of the network on featurized data; the arguments are those of `tl.fit`."""
        history = fit(
            self.unfrozen_network, features, epochs, batch_size, shuffle, max_iterations, listeners, progress=progress
        )
        self.network.classes = self.network.classes or self.unfrozen_network.classes
        return history

    def output_from_featurized(self, batch: Tensor | Mapping[str, Tensor]) -> Tensor | tuple[Tensor, ...]:
        """Return the network's answer for a batch of boundary tensors."""
        with torch.no_grad():
            return self.unfrozen_network(batch)

    # -- featurizing --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _boundary(self, x: Any, dtype: torch.dtype, *, single: bool = False) -> Any:
        where = next(self.network.parameters()).device
        x = {name: value.to(where) for name, value in x.items()} if isinstance(x, Mapping) else x.to(where)
        answers = self.frozen_network(x)
        answers = answers if isinstance(answers, tuple) else (answers,)
        named = {name: value.to(dtype) for name, value in zip(self.unfrozen_network.inputs, answers, strict=True)}
        return next(iter(named.values())) if single else named

    def _rows(self, data: Any, rows: range, batch_size: int, dtype: torch.dtype) -> dict[str, Tensor]:
        batches = data.batches(batch_size, torch.tensor(rows))
        parts = [self._boundary(x, dtype) for x, _ in batches]
        return {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}

    def _in_memory(
        self, data: Any, spec: StoreSpec, batch_size: int, dtype: torch.dtype, *, progress: bool
    ) -> Features:
        from tqdm.auto import tqdm

        starts = tqdm(range(0, len(data), batch_size), "featurize", unit="batch", disable=not progress, leave=False)
        tensors = {name: torch.empty(len(data), *shape, dtype=dtype) for name, shape in spec.shapes.items()}
        for start in starts:
            rows = range(start, min(start + batch_size, len(data)))
            for name, value in self._rows(data, rows, batch_size, dtype).items():
                tensors[name][start : rows.stop] = value
        return Features(tensors, data.labels, data.classes)

    def _spec(self, data: Any, dtype: torch.dtype) -> StoreSpec:
        preprocessing = getattr(self.network, "preprocessing", None)
        key = {
            "boundary": list(self.unfrozen_network.inputs),
            "graph": {name: _described(vertex) for name, vertex in self.frozen_network.vertices.items()},
            "weights": {name: _digest(value) for name, value in self.frozen_network.state_dict().items()},
            "preprocessing": preprocessing.to_dict() if preprocessing else {},
            "pixels": data.decoding if hasattr(data, "decoding") else {},
        }
        shapes = self.unfrozen_network.input_shapes
        return StoreSpec(key, shapes, dtype, data.classes, data.labels, _fingerprints(data))


def _described(vertex: Any) -> dict[str, Any]:
    module = vertex.module
    text = module.code.strip() if isinstance(module, fx.GraphModule) else repr(module)
    return {"reads": list(vertex.inputs), "computes": text}


def _digest(value: Tensor) -> str:
    flat = value.detach().cpu().contiguous().view(-1)
    return hashlib.sha256(flat.view(torch.uint8).numpy() if flat.numel() else b"").hexdigest()


def _fingerprints(data: Any) -> list[dict[str, Any]]:
    """Tell each image from others by its bytes: files by their content, tensors by their values."""
    if hasattr(data, "fingerprints"):
        return data.fingerprints()
    return [
        {"sha256": hashlib.sha256(b"".join(_digest(value[0]).encode() for value in _values(x))).hexdigest()}
        for x, _ in data.batches(1)
    ]


def _values(x: Any) -> list[Tensor]:
    return list(x.values()) if isinstance(x, Mapping) else [x]
