"""Training on a cluster what is behind the features: the workers are started, and their result comes back."""

from __future__ import annotations

import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm.auto import tqdm

from tlkit.features.store import FeatureStore
from tlkit.features.writing import explain_failed_writes, sweep
from tlkit.files.storage import RemotePath
from tlkit.graph.network import Network
from tlkit.scale.checkpoints import Progress, read_progress, restore_checkpoint, write_checkpoint
from tlkit.scale.cluster import connect, silence
from tlkit.scale.loop import FitJob, name_stop_file, train_on_ray
from tlkit.scale.packing import copy_structure
from tlkit.training.collapse import warn_of_collapse
from tlkit.training.data import wrap_data
from tlkit.training.loop import History, check_training, take_classes

if TYPE_CHECKING:
    from tlkit.scale.engine import Ray

__all__ = ["fit"]

FAILURES = 3  # of workers, after each of which training goes on from the last checkpoint
LOOK_EVERY = 0.5  # seconds between looks at the checkpoint
PATIENCE = 30.0  # seconds that Ray may take to end what has nothing left to do


def fit(
    settings: Ray,
    net: Network,
    features: Any,
    *,
    epochs: int,
    batch_size: int,
    shuffle: bool,
    max_iterations: int | None,
    listeners: Sequence[Any],
    progress: bool,
) -> History:
    """Train a network on the features of a store, on the workers of a cluster."""
    _check(net, features, listeners)
    store = wrap_data(features, net)
    total, _ = check_training(net, store, epochs, batch_size, max_iterations)
    start = time.perf_counter()
    with _checkpoint(store.path.absolute()) as path, _seeded(net):
        write_checkpoint(net, Progress(epochs_seen=net.epochs_seen), path)
        job = FitJob(
            store=str(store.path.absolute()),
            checkpoint=str(path),
            structure=copy_structure(net),
            epochs=epochs,
            batch_size=batch_size,
            total=total,
            shuffle=shuffle,
            whole=store.in_memory,
            threads=settings.cpus_per_worker,
            device="cuda" if settings.gpus_per_worker else "cpu",
        )
        interrupted = _train(settings, job, path, progress=progress)
        done = restore_checkpoint(net, path)
    net.eval()
    take_classes(net, store)
    if interrupted:
        raise KeyboardInterrupt
    seconds = time.perf_counter() - start
    if not done.stopped:
        warn_of_collapse(net, done.losses, batch_size)
    return History(losses=done.losses, examples=done.examples, seconds=seconds, stopped=done.stopped)


def _check(net: Network, features: Any, listeners: Sequence[Any]) -> None:
    msg = ""
    if not isinstance(features, FeatureStore):
        msg = (
            f"Workers of a cluster read features from a store, got {type(features).__name__}: "
            "helper.featurize(images, to=folder) gives one. Leave engine= out for features in memory."
        )
    elif isinstance(features.path, RemotePath):
        msg = (
            f"Workers keep their checkpoints in the store's folder, on a disk that all of them reach; this store is at "
            f"'{features.path}'. Copy it to such a disk, or leave engine= out."
        )
    elif listeners:
        msg = "Listeners watch a fit in this process, and the workers are others. Leave listeners= or engine= out."
    elif any(isinstance(part, _BatchNorm) and part.training for part in _in_training(net)):
        msg = (
            "Batch normalization takes its statistics from the whole batch, and each worker sees a part of it. Freeze "
            "it, or leave engine= out."
        )
    if msg:
        raise ValueError(msg)


def _in_training(net: Network) -> list[torch.nn.Module]:
    """Return a network's modules as they are while it trains, and leave it as it was."""
    twin = copy_structure(net)
    return list(twin.train().modules())


def _train(settings: Ray, job: FitJob, path: Path, *, progress: bool) -> bool:
    """Run the workers to their end, and return whether they were interrupted.

    Ray's trainer works in a thread: in the main one it would take the Stop button for itself, for good. When the
    checkpoint says that training has ended, the trainer has nothing left to do, and is not waited for without end.
    """
    connect(settings)
    failures: list[Exception] = []
    thread = threading.Thread(target=_run, args=(settings, job, failures), daemon=True)
    last_word = time.monotonic()
    with tqdm(total=job.epochs, desc="fit", unit="epoch", disable=not progress, leave=False) as bar:
        thread.start()
        try:
            while thread.is_alive():
                thread.join(LOOK_EVERY)
                done = read_progress(path)
                bar.update(done.epoch - bar.n)
                last_word = last_word if done.ended else time.monotonic()
                if time.monotonic() - last_word > PATIENCE:
                    break
        except KeyboardInterrupt:
            name_stop_file(path).touch()
            thread.join(PATIENCE)
            return True
        finally:
            name_stop_file(path).unlink(missing_ok=True)
    if failures and not read_progress(path).ended:
        reasons = getattr(failures[0], "worker_failures", None) or {0: failures[0]}
        lines = str(next(iter(reasons.values()))).strip().splitlines() or ["no reason given"]
        msg = (
            f"Training on the cluster failed {FAILURES + 1} times, and the network is as it was. The last time a "
            f"worker ended with: {lines[-1]}"
        )
        raise RuntimeError(msg) from failures[0]
    return False


def _run(settings: Ray, job: FitJob, failures: list[Exception]) -> None:
    """Run Ray's trainer, and note what it raises."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    resources = {"CPU": settings.cpus_per_worker}
    if settings.gpus_per_worker:
        resources["GPU"] = settings.gpus_per_worker
    scaling = ScalingConfig(
        num_workers=settings.workers, use_gpu=bool(settings.gpus_per_worker), resources_per_worker=resources
    )
    with tempfile.TemporaryDirectory(prefix="tlkit-fit-", ignore_cleanup_errors=True) as notes, silence("ray.train"):
        # what Ray itself notes of a run; checkpoints are ours
        config = RunConfig(name="fit", storage_path=notes, failure_config=FailureConfig(max_failures=FAILURES))
        trainer = TorchTrainer(train_on_ray, train_loop_config={"job": job}, scaling_config=scaling, run_config=config)
        try:
            trainer.fit()
        except Exception as error:  # told of by the thread that waits
            failures.append(error)


@contextmanager
def _checkpoint(folder: Path) -> Iterator[Path]:
    """Give a file that all workers reach: in the store's folder, hidden, and removed at the end."""
    path = folder / f".fit.{uuid.uuid4().hex}.tmp"
    with explain_failed_writes(folder):
        sweep(folder)
        path.touch()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _seeded(net: Network) -> Iterator[None]:
    """Give a network without a seed one for a while: all workers need the same order."""
    before = net.seed
    if before is None:
        net.seed = int(torch.randint(2**31, (1,)))
    try:
        yield
    finally:
        net.seed = before
