"""Featurizing on a cluster: which shards are to be made, who makes them, and what came of it."""

from __future__ import annotations

import builtins
import json
import os
import tempfile
import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from tlkit.features.filling import show_progress
from tlkit.features.shards import StoreError
from tlkit.features.spec import ShardSpec, StoreSpec
from tlkit.features.store import FeatureStore, fill_store
from tlkit.features.writing import publish
from tlkit.files.storage import RemotePath, place
from tlkit.images.decoding import BadImagesError
from tlkit.images.pictures import ChangedImageError
from tlkit.scale.cluster import connect, silence
from tlkit.scale.packing import copy_structure, write_network
from tlkit.scale.workers import Job, ShardFeaturizer, write_task

if TYPE_CHECKING:
    from tlkit.helper import TransferLearningHelper
    from tlkit.scale.engine import Ray

__all__ = ["featurize"]

MOST_BLOCKS = 10_000  # that Ray schedules one by one; with more shards than that, a block holds several


def featurize(
    settings: Ray,
    helper: TransferLearningHelper,
    data: Any,
    to: str | os.PathLike[str] | None,
    *,
    dtype: torch.dtype,
    batch_size: int | None,
    views: int | None,
    progress: bool,
) -> FeatureStore:
    """Make the shards that a store lacks on the workers of a cluster, and return the complete store."""
    _check(data, to, views)
    folder = place(to).absolute()
    spec, compute = helper.plan(data, settings.engine, dtype=dtype, batch_size=batch_size)

    def fill_shards(shards: Sequence[ShardSpec]) -> int:
        return _make(settings, helper, data, folder, spec, shards, compute.batch_size, progress=progress)

    return fill_store(folder, spec, fill_shards)


def _check(data: Any, to: Any, views: Any) -> None:
    msg = ""
    if to is None:
        msg = "On a cluster the features need a folder that all machines reach: helper.featurize(images, to=folder)."
    elif views is not None:
        msg = "Views of augmented pictures are featurized in this process only. Leave engine= out."
    elif not hasattr(data, "paths") or not hasattr(data, "geometry"):
        msg = (
            f"A cluster featurizes pictures in files, which tl.images.load gives; got {type(data).__name__}. "
            "Leave engine= out for data in this process."
        )
    if msg:
        raise ValueError(msg)


def _make(
    settings: Ray,
    helper: TransferLearningHelper,
    data: Any,
    folder: Path | RemotePath,
    spec: StoreSpec,
    shards: Sequence[ShardSpec],
    batch_size: int,
    *,
    progress: bool,
) -> int:
    """Make shards on the cluster, and return how many rows were computed."""
    ray = connect(settings)
    computed, broken = 0, []
    with (
        _weights(folder, helper.frozen_network) as weights,
        show_progress(folder, spec, shards, shown=progress) as bar,
    ):
        job = Job(
            store=str(folder),
            weights=str(weights),
            structure=copy_structure(helper.frozen_network),
            root=str(data.root),
            geometry=data.geometry,
            classes=spec.classes,
            shapes=spec.shapes,
            dtype=spec.dtype,
            engine=settings.engine,
            rows=len(spec),
            batch_size=batch_size,
            threads=settings.cpus_per_worker,
            device="cuda" if settings.gpus_per_worker else "cpu",
        )
        for record in _records(ray, settings, job, [write_task(some, data.paths) for some in shards]):
            if isinstance(weights, Path):
                os.utime(weights)  # in use: what is a day old is swept away
            for text in record["warnings"]:
                warnings.warn(text, stacklevel=5)
            if "failed" in record:
                raise _error(*record["failed"])
            computed += record["computed"]
            broken += [(place(path), reason) for path, reason in record.get("broken", ())]
            bar.update(record["rows"])
    if broken:
        raise BadImagesError(sorted(broken), total=len(data), root=data.root)
    return computed


def _records(ray: ModuleType, settings: Ray, job: Job, tasks: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Give the tasks to actors, and yield their records as they come."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    given = ray.data.from_items([{"task": task} for task in tasks], override_num_blocks=min(len(tasks), MOST_BLOCKS))
    records = given.map(
        ShardFeaturizer,
        fn_constructor_kwargs={"job": job},
        compute=ray.data.ActorPoolStrategy(size=min(settings.workers, len(tasks))),
        num_cpus=settings.cpus_per_worker,
        num_gpus=settings.gpus_per_worker or None,
    )
    with silence("ray.data"):
        for row in records.iter_rows():
            yield json.loads(row["record"])


@contextmanager
def _weights(folder: Path | RemotePath, net: Any) -> Iterator[Path | RemotePath]:
    """Give a file with a network's weights that all workers reach, for as long as they need it."""
    path = folder / f".weights.{uuid.uuid4().hex}.tmp"  # `prepare` removes what a dead driver leaves, after a day
    try:
        if isinstance(path, RemotePath):
            with tempfile.TemporaryDirectory(prefix="tlkit-weights-") as here:
                write_network(net, Path(here) / "weights")
                publish(path, (Path(here) / "weights").read_bytes())
        else:
            write_network(net, path)
        yield path
    finally:
        path.unlink(missing_ok=True)


def _error(name: str, number: int | None, text: str) -> Exception:
    for own in (StoreError, ChangedImageError):
        if name == own.__name__:
            return own(text)
    kind = getattr(builtins, name, OSError)
    return kind(number, text) if number is not None else kind(text)
