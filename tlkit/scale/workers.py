"""What runs in each worker of a cluster: one actor that makes the shards it is given."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch

from tlkit.features.engines import Engine, RowFeaturizer
from tlkit.features.filling import fill_shard
from tlkit.features.shards import Shard, StoreError
from tlkit.features.spec import Copies, ShardSpec
from tlkit.files.storage import RemotePath, on_disk, place
from tlkit.graph.network import Network
from tlkit.images.decoding import BadImagesError, Geometry
from tlkit.images.pictures import ChangedImageError, Pictures
from tlkit.images.sets import ImageSet
from tlkit.scale.packing import fill_network

__all__ = ["Job", "ShardFeaturizer", "write_task"]


@dataclass(frozen=True)
class Job:
    """What all shards of a run have in common.

    Parameters
    ----------
    store, weights : str
        Paths of the store and of the file with the frozen part's weights.
    structure : Network
        The frozen part without its weights.
    root : str
        The folder that messages about pictures name.
    geometry : Geometry
        How a picture becomes a square.
    classes : tuple of str
    shapes : dict
        Boundary tensors and the shape of a row.
    dtype, engine : str
        How features are kept, and what runs the frozen part.
    rows, batch_size : int
        Rows of the whole store, and those that run through the network together.
    threads : int
        Processor cores of a worker.
    device : str
    """

    store: str
    weights: str
    structure: Network
    root: str
    geometry: Geometry
    classes: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]
    dtype: str
    engine: str
    rows: int
    batch_size: int
    threads: int
    device: str


def write_task(spec: ShardSpec, paths: tuple[Path | RemotePath, ...]) -> str:
    """Describe a shard as text: all that it takes to make it, besides the job."""
    task = {
        "shard": astuple(spec.shard),
        "labels": spec.labels,
        "images": spec.images,
        "plan": spec.plan,
        "copies": [[astuple(some.source), list(some.places.items())] for some in spec.copies],
        "paths": [str(path) for path in paths[spec.shard.start : spec.shard.stop]],
    }
    return json.dumps(task)


class ShardFeaturizer:
    """Makes shards; loads the frozen part once, when it starts.

    Parameters
    ----------
    job : Job
    """

    def __init__(self, job: Job) -> None:
        torch.set_num_threads(job.threads)
        self.job = job
        net = fill_network(job.structure, on_disk(place(job.weights)), job.device)
        self.run = Engine(job.engine, net, job.rows, job.batch_size, getattr(torch, job.dtype))

    def __call__(self, row: Mapping[str, str]) -> dict[str, str]:
        """Make the shard of a task unless it is there, and return a record of that, as text."""
        task = json.loads(row["task"])
        shard = Shard(*task["shard"])
        record: dict[str, Any] = {"number": shard.number, "rows": len(shard.rows), "computed": 0}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                record["computed"] = self._fill(shard, task)
            except BadImagesError as error:
                record["broken"] = [[str(path), reason] for path, reason in error.broken]
            except (
                OSError,
                StoreError,
                ChangedImageError,
            ) as error:  # the driver raises them again
                record["failed"] = [type(error).__name__, getattr(error, "errno", None), _sentence(error)]
        record["warnings"] = [str(warning.message) for warning in caught if warning.category is UserWarning]
        return {"record": json.dumps(record)}

    def _fill(self, shard: Shard, task: Mapping[str, Any]) -> int:
        job, images = self.job, task["images"]
        copies = [Copies(Shard(*source), dict(places)) for source, places in task["copies"]]
        spec = ShardSpec(shard, job.shapes, job.dtype, task["labels"], images, task["plan"], copies)
        paths = [place(path) for path in task["paths"]]
        pictures = Pictures(place(job.root), paths, job.geometry, threads=job.threads, cache_megabytes=0)
        data = ImageSet(pictures, torch.tensor(task["labels"]), job.classes)
        data = data.read_once([image["sha256"] for image in images])
        compute = RowFeaturizer(self.run, data, job.batch_size, getattr(torch, job.dtype), first=shard.start)
        return fill_shard(job.store, spec, compute)


def _sentence(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
