"""The transfer learning helper: run the frozen part once, train the rest on what it says."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from tlkit.errors import near_misses, quoted
from tlkit.features.engines import Engine, RowFeaturizer, choose_batch_size, is_exact
from tlkit.features.fingerprints import described, digest_of_tensor
from tlkit.features.identities import identify_rows, read_identified
from tlkit.features.moving import find_device, move
from tlkit.features.rows import FeatureRows, Features
from tlkit.features.spec import StoreSpec
from tlkit.features.store import FeatureStore
from tlkit.graph.network import Network
from tlkit.images.augmenting import AugmentedImages, Views
from tlkit.training.data import count_rows, wrap_data
from tlkit.training.lbfgs import solve
from tlkit.training.listeners import Listener
from tlkit.training.loop import History, fit
from tlkit.training.optimizers import Optimizers

__all__ = ["TransferLearningHelper"]

SOLVERS = ("updater", "lbfgs")


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

    Raises
    ------
    ValueError
        When nothing or everything is frozen, or the frozen part's answer for an image depends on the others in the
        batch. When the network was frozen or unfrozen in place after the helper was made, whatever uses one of the
        two parts raises it.
    """

    def __init__(self, network: Network, *boundary: str | int) -> None:
        if boundary:
            network.freeze_exactly(dict.fromkeys(network.ancestors(*boundary), False))
        self.network = network
        self._parts = network.split()
        self._marks = network.frozen, network.passing
        _require_answers_image_by_image(self.frozen_network)

    @property
    def frozen_network(self) -> Network:
        """The part that featurizes."""
        return self._current_parts()[0]

    @property
    def unfrozen_network(self) -> Network:
        """The part that trains (DL4J's unfrozenGraph); `fit_featurized` trains it for the whole network."""
        return self._current_parts()[1]

    def _current_parts(self) -> tuple[Network, Network]:
        """Return the two parts, if they still are those of the network."""
        frozen, passing = self._marks
        if self.network.frozen == frozen and self.network.passing == passing:
            return self._parts
        changed = sorted((self.network.frozen ^ frozen) | (self.network.passing ^ passing))
        msg = (
            f"The frozen part of this helper's network was changed after the helper was made: {quoted(changed)}. "
            "Make another one, tl.TransferLearningHelper(net), and featurize again; or freeze as it was before."
        )
        raise ValueError(msg)

    def featurize(
        self,
        data: Any,
        to: str | os.PathLike[str] | None = None,
        engine: Any = "auto",
        *,
        dtype: torch.dtype = torch.float32,
        batch_size: int | None = None,
        views: int | None = None,
        progress: bool = True,
    ) -> Tensor | dict[str, Tensor] | Features | FeatureStore:
        """Return what the frozen part says of the data.

        Parameters
        ----------
        data : ImageSet, (x, y) or Tensor of shape (n, ...)
            A data set with labels gives features with labels, those of a tuple with numbered classes; a tensor gives
            the boundary tensor (a mapping by name when there are several) and runs as one batch.
        to : path or str, optional
            Folder of a feature store, or an address such as ``s3://bucket/features``. What is there already and still
            right is not computed again; the store's `reasons` say why something was.
        engine : {"auto", "torch", "onnxruntime"} or tl.scale.Ray
            What runs the frozen part: here, or on a cluster's processes. "torch" runs it as it is, so that training
            on features is training the whole network to the last digit. "auto" takes the fastest form that there is
            for this machine and agrees within 1e-4 of the largest value: ONNX Runtime on a CPU, else batch
            normalization folded and channels last; the network itself below 32 rows. A store's records name it.
        dtype : torch.dtype
            How the features are kept; float16 halves their size.
        batch_size : int, optional
            Images that run through the network together. When left out, as many as take little memory: 16 for most
            networks on a CPU, 4 for VGG16, more on a GPU.
        views : int, optional
            For augmented images only, and needed there: how many fixed versions of each picture are featurized. The
            features have `views` rows for each picture.
        progress : bool
            Whether to show a progress bar.

        Raises
        ------
        ValueError
            When the data are augmented at random and `views` is missing, or the other way round; when the engine is
            unknown.
        BadImagesError
            When pictures cannot be decoded.
        ChangedImageError
            When a picture's file changes while a store is being filled.
        """
        if not isinstance(engine, str):
            return engine.featurize(self, data, to, dtype=dtype, batch_size=batch_size, views=views, progress=progress)
        if isinstance(data, (Tensor, Mapping)):
            named = Engine(engine, self.frozen_network, 1, count_rows(data), dtype)(data)
            named = {name: value.to(dtype) for name, value in named.items()}
            return named if len(named) > 1 else next(iter(named.values()))
        if to is None:  # without a store, nothing needs to be told apart by a digest
            return self._in_memory(self._compute(data, engine, dtype, batch_size, views), progress=progress)
        spec, compute = self.plan(data, engine, dtype=dtype, batch_size=batch_size, views=views)
        return FeatureStore.fill(to, spec, compute, progress=progress)

    def plan(
        self,
        data: Any,
        engine: str = "auto",
        *,
        dtype: torch.dtype = torch.float32,
        batch_size: int | None = None,
        views: int | None = None,
    ) -> tuple[StoreSpec, RowFeaturizer]:
        """Return what a store of the data's features holds, and what computes some of its rows.

        `featurize` gives them to `FeatureStore.fill`; many machines that fill one store together give them to
        `tlkit.features.filling.prepare` and `tlkit.features.filling.fill_shard`. The parameters are those of
        `featurize`.
        """
        compute = self._compute(data, engine, dtype, batch_size, views)
        images = identify_rows(compute.data)
        compute.data = read_identified(compute.data, images)
        return self._spec(compute.data, images, dtype, exact=is_exact(engine)), compute

    def _compute(
        self, data: Any, engine: str, dtype: torch.dtype, batch_size: int | None, views: int | None
    ) -> RowFeaturizer:
        data = _require_unchanging(wrap_data(data, self.network), views, self.unfrozen_network.inputs)
        if isinstance(data.labels, Mapping):
            msg = (
                "Features hold one label for each row. For several outputs featurize the inputs alone, and give "
                "fit_featurized the labels: helper.fit_featurized((helper.featurize(x), labels))."
            )
            raise TypeError(msg)
        if batch_size is None:
            batch_size = choose_batch_size(self.frozen_network)
        elif batch_size < 1:
            msg = f"batch_size must be at least 1, got {batch_size}."
            raise ValueError(msg)
        if hasattr(data, "read_once"):
            data = data.read_once()  # each picture is read once, so memory need not grow with their number
        run = Engine(engine, self.frozen_network, len(data), batch_size, dtype)
        return RowFeaturizer(run, data, batch_size, dtype)

    def fit_featurized(
        self,
        features: FeatureRows | tuple[Any, Tensor],
        epochs: int = 1,
        batch_size: int = 32,
        shuffle: bool = True,
        max_iterations: int | None = None,
        listeners: Sequence[Listener] = (),
        solver: str = "updater",
        *,
        engine: Any = None,
        progress: bool = True,
    ) -> History:
        """Train the unfrozen part of the network on featurized data.

        What the updaters remember and the count of epochs are those of the whole network: `tl.save` keeps them, and
        another helper or `tl.fit` goes on from there.

        Parameters
        ----------
        features : Features, FeatureStore or (x, y)
            What `featurize` returned.
        epochs, batch_size, shuffle, max_iterations, listeners, progress
            As those of `tl.fit`.
        solver : {"updater", "lbfgs"}
            "updater" trains batch by batch, as `tl.fit` does. "lbfgs" finds the best weights of a single `tl.Output`
            layer with all rows at once, in a second or so, see `tlkit.training.lbfgs.solve`; of the other arguments
            it takes `max_iterations`.
        engine : tl.scale.Ray, optional
            A cluster whose workers train on a FeatureStore together, without listeners.

        Raises
        ------
        ValueError
            When the solver is unknown or cannot train this part, or the features are those of another boundary.
        """
        if solver not in SOLVERS:
            msg = f"solver is {quoted(SOLVERS, 'or')}, got {solver!r}.{near_misses(solver, SOLVERS)}"
            raise ValueError(msg)
        net = self.unfrozen_network
        if engine is not None and solver != "updater":
            msg = f"A cluster trains batch by batch. Leave engine= out for solver={solver!r}, or the solver."
            raise ValueError(msg)
        if solver == "lbfgs":
            if listeners:
                msg = "solver='lbfgs' has no epochs to tell listeners of. Evaluate afterwards, or use solver='updater'."
                raise ValueError(msg)
            history = solve(net, features, max_iterations)
        else:
            run = fit if engine is None else engine.fit
            with self._training_the_whole():
                history = run(
                    net,
                    features,
                    epochs=epochs,
                    batch_size=batch_size,
                    shuffle=shuffle,
                    max_iterations=max_iterations,
                    listeners=listeners,
                    progress=progress,
                )
        self.network.classes = self.network.classes or self.unfrozen_network.classes
        return history

    @contextmanager
    def _training_the_whole(self) -> Iterator[None]:
        """Let what the updaters remember, the seed and the count of epochs be those of the whole network."""
        whole, part = self.network, self.unfrozen_network
        part.optimizers = Optimizers(part, Optimizers.of(whole).by_updater)
        part.seed, part.epochs_seen = whole.seed, whole.epochs_seen
        try:
            yield
        finally:
            whole.epochs_seen = part.epochs_seen

    def output_from_featurized(self, batch: Tensor | Mapping[str, Tensor]) -> Tensor | tuple[Tensor, ...]:
        """Return the network's answer for a batch of boundary tensors."""
        with torch.no_grad():
            return self.unfrozen_network(move(batch, find_device(self.network)))

    # -- featurizing --------------------------------------------------------------------------------------------

    def _in_memory(self, compute: RowFeaturizer, *, progress: bool) -> Features:
        from tqdm.auto import tqdm

        data, step = compute.data, compute.batch_size
        starts = tqdm(range(0, len(data), step), "featurize", unit="batch", disable=not progress, leave=False)
        shapes = self.unfrozen_network.input_shapes
        tensors = {name: torch.empty(len(data), *shape, dtype=compute.dtype) for name, shape in shapes.items()}
        for start, named in zip(starts, compute(range(len(data))), strict=True):
            for name, value in named.items():
                tensors[name][start : start + step] = value
        return Features(tensors, data.labels, _classes(data))

    def _spec(self, data: Any, images: Sequence[Mapping[str, Any]], dtype: torch.dtype, *, exact: bool) -> StoreSpec:
        preprocessing = getattr(self.network, "preprocessing", None)
        weights, buffers = self.frozen_network.state_dict(), self.frozen_network.named_buffers()
        key = {
            "boundary": list(self.unfrozen_network.inputs),
            "graph": {name: _described(name, vertex) for name, vertex in self.frozen_network.vertices.items()},
            "weights": {name: digest_of_tensor(value) for name, value in {**dict(buffers), **weights}.items()},
            "preprocessing": preprocessing.to_dict() if preprocessing else {},
            "pixels": asdict(data.geometry) if hasattr(data, "geometry") else {},
            "precision": "exact" if exact else "within 1e-4",
        }
        shapes = self.unfrozen_network.input_shapes
        return StoreSpec(key, shapes, dtype, _classes(data), data.labels, images)


def _require_answers_image_by_image(network: Network) -> None:
    for name, vertex in network.vertices.items():
        if any(isinstance(part, _BatchNorm) and part.running_mean is None for part in vertex.module.modules()):
            msg = (
                f"'{name}' normalizes by the batch at hand (track_running_stats=False), so what it says of an image "
                "depends on the images beside it, and cannot be computed once. Freeze only what lies before it, or "
                "give it a batch normalization that keeps running statistics."
            )
            raise ValueError(msg)


def _require_unchanging(data: Any, views: int | None, boundary: Sequence[str]) -> Any:
    """Return data that give the same rows each time they are read, and refuse others."""
    if isinstance(data, AugmentedImages):
        if views is not None:
            return Views(data, views)
    elif views is not None:
        msg = (
            f"views={views!r} asks for versions of augmented images, and these are the same each time. Leave it out, "
            "or augment them first: helper.featurize(images.augmented(transform), views=4)."
        )
        raise ValueError(msg)
    elif _reads_the_same(data):
        return data
    msg = (
        f"These images change at random each time they are read, and features of {quoted(boundary, 'and')} are "
        "computed once: every epoch would repeat the same versions. Featurize some fixed versions of each picture, "
        "helper.featurize(images.augmented(transform), views=4), or train the whole network, tl.fit(net, images)."
    )
    raise ValueError(msg)


def _reads_the_same(data: Any) -> bool:
    """Read the first rows twice; pictures from files and tensors need no such test."""
    if hasattr(data, "paths") or hasattr(data, "tensors"):
        return True
    (one, _), (other, _) = (next(iter(data.batches(4))) for _ in range(2))
    return all(map(torch.equal, _values(one), _values(other)))


def _described(name: str, vertex: Any) -> dict[str, Any]:
    return {"reads": list(vertex.inputs), "computes": described(vertex.module, name)}


def _classes(data: Any) -> tuple[str, ...]:
    """Return the class names; a tuple of tensors has none, so its classes are numbered."""
    return tuple(data.classes) or tuple(map(str, range(int(data.labels.max()) + 1)))


def _values(x: Any) -> list[Tensor]:
    return list(x.values()) if isinstance(x, Mapping) else [x]
