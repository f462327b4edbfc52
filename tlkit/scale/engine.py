"""`tl.scale.Ray`: the engine that featurizes and trains on the processes of a Ray cluster."""

from __future__ import annotations

import os
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

import torch

from tlkit.features.engines import is_exact
from tlkit.scale.cluster import require_ray, stop

if TYPE_CHECKING:
    from tlkit.features.store import FeatureStore
    from tlkit.graph.network import Network
    from tlkit.helper import TransferLearningHelper
    from tlkit.training.loop import History

__all__ = ["Ray"]


@dataclass(frozen=True)
class Ray:
    """An engine for `helper.featurize` and `helper.fit_featurized`: the work is done by processes of a Ray cluster.

    To featurize, each worker loads the frozen part once, decodes pictures in threads and publishes whole shards, as
    the loop on one machine does; only small records travel back. What was published stays whatever dies.

    To train, each worker reads its own shards of the store, and takes of each batch the rows that lie in them; the
    gradients are added up, so that training is that of one process but for rounding. After each epoch there is a
    checkpoint, from which training goes on when a worker dies. With dropout the workers draw masks of their own.

    All machines need tlkit, and must reach the pictures and the store under the same paths.

    Parameters
    ----------
    address : str, optional
        A cluster's address, "host:port", or "auto" for the one that this machine belongs to. When left out, the
        environment variable RAY_ADDRESS counts; without it a cluster of this machine alone is started, which lives
        as long as this process, does nothing for others without a token, and has no dashboard.
    workers : int
        Processes that do the work.
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
    >>> import tlkit as tl
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
        is_exact(self.engine)
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

    def fit(self, net: Network, features: Any, **options: Any) -> History:
        """Do the work of ``helper.fit_featurized(features, ..., engine=...)``, whose parameters the options are."""
        from tlkit.scale.fitting import fit

        return fit(self, net, features, **options)

    def stop(self) -> None:
        """End the cluster that was started for this process, or leave the one it was connected to."""
        stop()
