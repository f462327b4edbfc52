"""The transfer learning helper: run the frozen part once, train the rest on what it says."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx

from tlkit.errors import near_misses, quoted
from tlkit.features import FeatureRows, Features
from tlkit.graph import Network
from tlkit.inference import Featurizer
from tlkit.layout import StoreSpec
from tlkit.listeners import Listener
from tlkit.store import FeatureStore
from tlkit.training import History, as_data, fit

__all__ = ["ENGINES", "TransferLearningHelper"]

ENGINES = ("torch", "auto")
DIGESTED = 1 << 18  # numbers at a time

Run = Callable[[Any], dict[str, Tensor]]


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
            network._set_frozen(dict.fromkeys(network.ancestors(*boundary), False))
        self.network = network
        self.frozen_network, self.unfrozen_network = network.split()

    def featurize(
        self,
        data: Any,
        to: str | os.PathLike[str] | None = None,
        engine: str = "torch",
        *,
        dtype: torch.dtype = torch.float32,
        batch_size: int = 16,
        progress: bool = True,
    ) -> Tensor | dict[str, Tensor] | Features | FeatureStore:
        """Return what the frozen part says of the data.

        Parameters
        ----------
        data : ImageSet, (x, y) or Tensor of shape (n, ...)
            A data set with labels gives features with labels, those of a tuple with numbered classes; a tensor gives
            the boundary tensor (a mapping by name when there are several) and runs as one batch.
        to : path, optional
            Folder of a feature store. What is there already and still right is not computed again; the store's
            `reasons` say why something was.
        engine : {"torch", "auto"}
            "torch" runs the frozen part as it is, so that training on features is training the whole network to the
            last digits. "auto" runs the fastest form of it that agrees within 1e-4; Adam and batch normalization
            behind the boundary can amplify that difference.
        dtype : torch.dtype
            How the features are kept; float16 halves their size.
        batch_size : int
            Images that run through the network together; more suit a GPU, and take more memory.
        progress : bool
            Whether to show a progress bar.
        """
        run = self._engine(engine)
        if isinstance(data, (Tensor, Mapping)):
            named = {name: value.to(dtype) for name, value in run(data).items()}
            return named if len(named) > 1 else next(iter(named.values()))
        data = as_data(data, self.network)
        if isinstance(data.labels, Mapping):
            msg = (
                "Features hold one label for each row. For several outputs featurize the inputs alone, and give "
                "fit_featurized the labels: helper.fit_featurized((helper.featurize(x), labels))."
            )
            raise TypeError(msg)
        if to is None:
            return self._in_memory(run, data, batch_size, dtype, progress=progress)
        compute = partial(self._rows, run, data, batch_size=batch_size, dtype=dtype)
        return FeatureStore.fill(to, self._spec(data, dtype), compute, progress=progress)

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
            return self.unfrozen_network(self._moved(batch))

    # -- featurizing --------------------------------------------------------------------------------------------

    def _engine(self, engine: str) -> Run:
        """Return a function from a batch to the boundary tensors by name."""
        if engine not in ENGINES:
            msg = f"engine is one of {quoted(ENGINES, 'or')}, got {engine!r}.{near_misses(engine, ENGINES)}"
            raise ValueError(msg)
        network = Featurizer(self.frozen_network) if engine == "auto" else self.frozen_network

        @torch.no_grad()
        def run(x: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
            answers = network(self._moved(x))
            answers = (answers,) if isinstance(answers, Tensor) else answers
            return dict(zip(self.unfrozen_network.inputs, answers, strict=True))

        return run

    def _rows(self, run: Run, data: Any, rows: range, *, batch_size: int, dtype: torch.dtype) -> dict[str, Tensor]:
        parts = [run(x) for x, _ in data.batches(batch_size, torch.tensor(rows))]
        return {name: torch.cat([part[name].to(dtype).cpu() for part in parts]) for name in parts[0]}

    def _moved(self, x: Any) -> Any:
        where = next(self.network.parameters()).device
        return {name: value.to(where) for name, value in x.items()} if isinstance(x, Mapping) else x.to(where)

    def _in_memory(self, run: Run, data: Any, batch_size: int, dtype: torch.dtype, *, progress: bool) -> Features:
        from tqdm.auto import tqdm

        starts = tqdm(range(0, len(data), batch_size), "featurize", unit="batch", disable=not progress, leave=False)
        shapes = self.unfrozen_network.input_shapes
        tensors = {name: torch.empty(len(data), *shape, dtype=dtype) for name, shape in shapes.items()}
        for start in starts:
            rows = range(start, min(start + batch_size, len(data)))
            for name, value in self._rows(run, data, rows, batch_size=batch_size, dtype=dtype).items():
                tensors[name][start : rows.stop] = value
        return Features(tensors, data.labels, _classes(data))

    def _spec(self, data: Any, dtype: torch.dtype) -> StoreSpec:
        preprocessing = getattr(self.network, "preprocessing", None)
        key = {
            "boundary": list(self.unfrozen_network.inputs),
            "graph": {name: _described(vertex) for name, vertex in self.frozen_network.vertices.items()},
            "weights": {name: _digest(value) for name, value in self.frozen_network.state_dict().items()},
            "preprocessing": preprocessing.to_dict() if preprocessing else {},
            "pixels": asdict(data.geometry) if hasattr(data, "geometry") else {},
        }
        shapes = self.unfrozen_network.input_shapes
        return StoreSpec(key, shapes, dtype, _classes(data), data.labels, _fingerprints(data))


def _described(vertex: Any) -> dict[str, Any]:
    module = vertex.module
    text = module.code.strip() if isinstance(module, fx.GraphModule) else repr(module)
    return {"reads": list(vertex.inputs), "computes": text}


def _digest(value: Tensor) -> str:
    found = hashlib.sha256()
    for part in value.detach().cpu().contiguous().view(-1).split(DIGESTED):
        # a piece is copied: handing the tensor itself to NumPy would end its sharing of memory with another network
        found.update(part.clone().view(torch.uint8).numpy())
    return found.hexdigest()


def _fingerprints(data: Any) -> list[dict[str, Any]]:
    """Tell each row from others: pictures by the bytes of their files, tensors by their values."""
    if hasattr(data, "paths"):
        return [_fingerprint(path) for path in data.paths]
    return [
        {"sha256": hashlib.sha256(b"".join(_digest(value[0]).encode() for value in _values(x))).hexdigest()}
        for x, _ in data.batches(1)
    ]


def _fingerprint(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    name = f"{path.parent.name}/{path.name}"
    return {"path": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _classes(data: Any) -> tuple[str, ...]:
    """Return the class names; a tuple of tensors has none, so its classes are numbered."""
    return tuple(data.classes) or tuple(map(str, range(int(data.labels.max()) + 1)))


def _values(x: Any) -> list[Tensor]:
    return list(x.values()) if isinstance(x, Mapping) else [x]
