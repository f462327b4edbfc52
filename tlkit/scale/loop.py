"""The loop of one worker among several that train one network: its own rows of each batch, everybody's gradient."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tlkit.features.moving import move
from tlkit.features.store import FeatureStore
from tlkit.graph.network import Network
from tlkit.scale.checkpoints import Progress, restore_checkpoint, write_checkpoint
from tlkit.scale.packing import make_network
from tlkit.training.loop import begin_epoch, compute_loss
from tlkit.training.optimizers import Optimizers

__all__ = ["FitJob", "name_stop_file", "train", "train_on_ray"]

READ_BYTES = 64 * 1000**2  # of features that a worker reads from its shards together
LOOK_EVERY = 1.0  # seconds between looks for a wish to stop
SEEDS_APART = 1_000_003  # between the workers' seeds of dropout

AddUp = Callable[[Tensor], None]  # replaces a tensor by its sum over all workers


@dataclass(frozen=True)
class FitJob:
    """What all workers of a fit have in common.

    Parameters
    ----------
    store, checkpoint : str
        Paths of the features, and of the file that says where to begin and is replaced after each epoch.
    structure : Network
        The network without its weights.
    epochs, batch_size : int
    total : int
        Batches in all.
    shuffle, whole : bool
        Whether each epoch has a new order, and whether it mixes all rows, as for a store that is kept in memory.
    threads : int
        Processor cores of a worker.
    device : str
    """

    store: str
    checkpoint: str
    structure: Network
    epochs: int
    batch_size: int
    total: int
    shuffle: bool
    whole: bool
    threads: int
    device: str


def train_on_ray(config: dict[str, FitJob]) -> None:
    """Train as one of the workers that Ray Train started."""
    import ray.train
    import torch.distributed

    context = ray.train.get_context()
    train(config["job"], context.get_world_rank(), context.get_world_size(), torch.distributed.all_reduce)


def train(job: FitJob, rank: int, world: int, add_up: AddUp) -> None:
    """Train from the checkpoint on; the first worker replaces it after each epoch."""
    torch.set_num_threads(job.threads)
    net, path = make_network(job.structure, job.device), Path(job.checkpoint)
    progress = restore_checkpoint(net, path)
    rows, group = _OwnRows(job, rank, world), _Group(net, add_up, name_stop_file(path) if rank == 0 else None)
    net.train()
    while not _is_over(job, progress):
        if net.seed is not None:
            torch.manual_seed(net.seed + net.epochs_seen + SEEDS_APART * rank)
        for x, labels, size in itertools.islice(rows.epoch(net), job.total - len(progress.losses)):
            progress.losses.append(group.step(x, labels, size))
            progress.examples += size
            progress.stopped = group.reason_to_stop(progress.losses[-1])
            if progress.stopped:
                break
        progress.epoch += 1
        progress.epochs_seen = net.epochs_seen
        progress.ended = _is_over(job, progress)
        if rank == 0:
            write_checkpoint(net, progress, path)


def _is_over(job: FitJob, progress: Progress) -> bool:
    return bool(progress.stopped) or progress.epoch >= job.epochs or len(progress.losses) >= job.total


def name_stop_file(checkpoint: Path) -> Path:
    """Return the file whose presence asks the workers of a fit to stop after a batch."""
    return checkpoint.with_name(f"{checkpoint.name}.stop.tmp")


class _Group:
    """A network's steps, taken together with the other workers.

    Parameters
    ----------
    net : Network
    add_up : callable
        Replaces a tensor by its sum over all workers.
    stop : Path, optional
        The file that asks to stop; one worker looks for it, and the others hear of it.
    """

    def __init__(self, net: Network, add_up: AddUp, stop: Path | None) -> None:
        self.net, self.add_up, self.stop = net, add_up, stop
        self.optimizers = Optimizers.of(net)
        self.trained = [weight for weight in net.parameters() if weight.requires_grad]
        self.stopping = False
        self._looked = 0.0

    def step(self, x: Any, labels: Tensor, size: int) -> float:
        """Take one step with the gradient of the whole batch, and return its loss.

        The mean over a batch is the sum of the workers' means, each times its share of the rows.
        """
        self.optimizers.zero_grad()
        share = len(labels) / size
        loss = compute_loss(self.net, x, labels) * share
        if share:
            loss.backward()
        weights = self.trained
        # one message for all: whether to stop, the loss, whether each weight has a gradient, and the gradients
        few = [self._asked_to_stop(), 0.0, *(weight.grad is not None for weight in weights)]
        head = torch.tensor(few, dtype=loss.dtype, device=loss.device)
        head[1] = loss.detach()
        gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
        message = torch.cat([head, *(gradient.reshape(-1).to(loss.dtype) for gradient in gradients)])
        self.add_up(message)
        head, *gradients = message.split([len(head), *(weight.numel() for weight in weights)])
        stop, total, *reached = head.tolist()
        self.stopping = stop > 0
        if not math.isfinite(total):
            return total
        for weight, gradient, count in zip(weights, gradients, reached, strict=True):
            weight.grad = gradient.view_as(weight).to(weight.dtype) if count else None
        return total + float(self.optimizers.step())

    def reason_to_stop(self, loss: float) -> str:
        """Say why no step follows, in all workers alike; an empty text when one does."""
        if not math.isfinite(loss):
            return f"the loss is {loss}; try a smaller learning rate, and look for such values in the data"
        return "interrupted" if self.stopping else ""

    def _asked_to_stop(self) -> bool:
        now = time.monotonic()
        if self.stop is None or now < self._looked + LOOK_EVERY:
            return False
        self._looked = now
        return self.stop.exists()


class _OwnRows:
    """The rows of a store that lie in a worker's own shards: every n-th one, so that no other worker reads them."""

    def __init__(self, job: FitJob, rank: int, world: int) -> None:
        self.job, self.rank, self.world = job, rank, world
        self.store = FeatureStore(job.store, in_memory=False)  # reads what is asked for, shard by shard

    def __len__(self) -> int:
        return len(self.store)

    def shuffled(self, generator: torch.Generator) -> Tensor:
        """Return the order that one process would take."""
        if self.job.whole:
            return torch.randperm(len(self), generator=generator)
        return self.store.shuffled(generator)

    def epoch(self, net: Network) -> Iterator[tuple[Any, Tensor, int]]:
        """Yield the own rows of each batch, which may be none, and the size of the whole batch."""
        order = begin_epoch(net, self, self.job.shuffle)
        order = torch.arange(len(self)) if order is None else order
        batches = order.split(self.job.batch_size)
        together = max(1, READ_BYTES * len(self) // (self.store.nbytes * self.job.batch_size) * self.world)
        for start in range(0, len(batches), together):
            some = batches[start : start + together]
            own = [rows[(rows // self.store.rows_per_shard) % self.world == self.rank] for rows in some]
            for (x, labels), rows in zip(self._read(own), some, strict=True):
                yield x, labels, len(rows)

    def _read(self, own: list[Tensor]) -> Iterator[tuple[Any, Tensor]]:
        """Read the rows of several batches together, and part them again."""
        counts, rows = [len(rows) for rows in own], torch.cat(own)
        if not len(rows):
            names = {name: torch.empty(0, *shape) for name, shape in self.store.shapes.items()}
            x, labels = (names if len(names) > 1 else names.popitem()[1]), torch.empty(0, dtype=torch.long)
        else:
            [(x, labels)] = self.store.batches(len(rows), rows)
        x, labels = move((x, labels), torch.device(self.job.device))
        labels = labels.split(counts)
        if not isinstance(x, dict):
            return zip(x.split(counts), labels, strict=True)
        parted = [value.split(counts) for value in x.values()]
        named = (dict(zip(x, values, strict=True)) for values in zip(*parted, strict=True))
        return zip(named, labels, strict=True)
