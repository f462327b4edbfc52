"""`tl.scale.Ray`: the engine that featurizes on the processes of a Ray cluster."""

from __future__ import annotations

import os
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

import torch

from tlkit.engines import is_exact
from tlkit.scale.cluster import require_ray, stop

if TYPE_CHECKING:
    from tlkit.helper import TransferLearningHelper
    from tlkit.store import FeatureStore

__all__ = ["Ray"]


@dataclass(frozen=True)
class Ray:
    """An engine for `helper.featurize`: workers of a Ray cluster write the shards of a feature store.

    Each worker loads the frozen part once, decodes pictures in threads and publishes whole shards, as the loop on one
    machine does; only small records travel back. What was published stays whatever dies. All machines need tlkit,
    and must reach the pictures and the store under the same paths.

    Parameters
    ----------
    address : str, optional
        A cluster's address, "host:port", or "auto" for the one that this machine belongs to. When left out, the
        environment variable RAY_ADDRESS counts; without it a cluster of this machine alone is started, which lives
        as long as this process, does nothing for others without a token, and has no dashboard.
    workers : int
        Processes that featurize.
    gpus_per_worker : float
        GPUs that each of them gets; 0 computes on processors.
    cpus_per_worker : int
        Processor cores that each of them gets: threads of the network, and of decoding.
    engine : {"auto", "torch", "onnxruntime"}
        What runs the frozen part on each worker, as for `helper.featurize` without Ray.

    Raises
    ------
    ImportError
        When Ray is not installed; the message says how to.
    ValueError
        When a number or the engine cannot be.

    Examples
    --------
    >>> engine = tl.scale.Ray(workers=2)  # doctest: +SKIP
    >>> store = helper.featurize(photos, to="features", engine=engine)  # doctest: +SKIP
    """

    address: str | None = None
    workers: int = 2
    gpus_per_worker: float = 0
    _: KW_ONLY
    cpus_per_worker: int = 1
    engine: str = "auto"

    def __post_init__(self) -> None:
        for name, least in (("workers", 1), ("cpus_per_worker", 1), ("gpus_per_worker", 0)):
            if not getattr(self, name) >= least:
                msg = f"{name} must be at least {least}, got {getattr(self, name)}."
                raise ValueError(msg)
        if (self.address or "").startswith("ray://"):
            msg = (
                f"'{self.address}' is for Ray's client, through which data sets cannot be read. Run the notebook on "
                "the cluster with address='auto', or hand a script in: ray job submit -- python script.py."
            )
            raise ValueError(msg)
        is_exact(self.engine, 1)
        require_ray()

    def featurize(
        self,
        helper: TransferLearningHelper,
        data: Any,
        to: str | os.PathLike[str] | None,
        *,
        dtype: torch.dtype = torch.float32,
        batch_size: int | None = None,
        views: int | None = None,
        progress: bool = True,
    ) -> FeatureStore:
        """Do the work of ``helper.featurize(data, to, engine=...)``, whose parameters these are."""
        from tlkit.scale.featurizing import featurize

        return featurize(self, helper, data, to, dtype=dtype, batch_size=batch_size, views=views, progress=progress)

    def stop(self) -> None:
        """End the cluster that was started for this process, or leave the one it was connected to."""
        stop()
