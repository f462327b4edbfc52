"""``python -m tlkit featurize``: pictures in, a feature store out."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tlkit import zoo
from tlkit.commands.info import finished_record
from tlkit.commands.output import complain, few, progress_bar, say, say_facts
from tlkit.errors import printable
from tlkit.features.differences import write_ranges
from tlkit.features.filling import Compute, Work, fill_shard, prepare, remove_surplus, require_planned
from tlkit.features.spec import Layout, ShardSpec, StoreSpec
from tlkit.files.storage import RemotePath, free_space, place
from tlkit.graph.network import Network
from tlkit.helper import TransferLearningHelper
from tlkit.images import sets
from tlkit.images.sets import ImageSet
from tlkit.images.sources import find_pictures
from tlkit.images.tables import TABLES
from tlkit.memory import counted, readable_size
from tlkit.training.loop import device

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Featurize a folder of pictures, or a part of it, and say what was done and what is left."""
    store = place(options.out)
    where = device(options.device)
    root, _ = find_pictures(options.folder)  # what is wrong with it is found here, before weights are downloaded
    _keep_apart(store, [root, place(options.folder)])
    helper = TransferLearningHelper(*_network(options, where))
    table = place(options.folder).suffix.lower() in TABLES
    pictures = sets.load(
        options.folder if table else root,
        split=None,
        size=helper.network.preprocessing,
        on_bad=options.on_bad,
        cache_megabytes=0,
    )
    for path, reason in pictures.skipped:
        complain(f"Left out: {printable(path, None)}: {reason}")
    data = _Watched(pictures)
    dtype = getattr(torch, options.dtype)
    spec, compute = helper.plan(data, options.engine, dtype=dtype, batch_size=options.batch_size)
    _say_what_comes(options, store, spec, helper, where)
    work = prepare(store, spec)
    mine = _say_what_is_to_do(options, spec, work)
    start = time.perf_counter()
    rows = _fill(store, compute, mine, data)
    require_planned(store, spec.layout.checksum)
    if rows:
        seconds = time.perf_counter() - start
        speed = f"{rows / seconds:,.1f} a second, by {getattr(compute, 'engine', options.engine)}"
        say(f"Computed {counted(rows, 'picture')} in {seconds:,.1f} s: {speed}.")
    _say_what_is_left(store, spec.layout)
    return 0


# -- making ready ---------------------------------------------------------------------------------------------------


def _keep_apart(store: Path | RemotePath, sources: Sequence[Path | RemotePath]) -> None:
    """Refuse a store among the pictures: its folder would be a class when the command is run again."""
    for source in sources:
        if RemotePath in (type(store), type(source)) or not source.is_dir():
            continue
        if store.resolve().is_relative_to(source.resolve()):
            msg = (
                f"The store '{store}' would lie among the pictures in '{source}', and be a class. Choose another --out."
            )
            raise ValueError(msg)


def _network(options: Namespace, where: torch.device) -> tuple[Any, ...]:
    """Return the network, and its boundary."""
    name = options.backbone or zoo.DEFAULT
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # every job of an array, and every later run, shall have the same random weights
        net = zoo.load(name, None if options.weights == "none" else options.weights)
    return net.to(where), *(options.boundary or [net.landmarks.penultimate])


class _Watched:
    """A set of pictures that tells how many of them were read."""

    def __init__(self, pictures: ImageSet) -> None:
        self._pictures = pictures
        self.advance: Callable[[int], Any] = lambda count: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pictures, name)

    def __len__(self) -> int:
        return len(self._pictures)

    def read_once(self, sha256: Sequence[str] = ()) -> _Watched:
        self._pictures = self._pictures.read_once(sha256)
        return self

    def batches(self, batch_size: int, order: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        for x, labels in self._pictures.batches(batch_size, order):
            yield x, labels
            self.advance(len(labels))


# -- working --------------------------------------------------------------------------------------------------------


def _fill(store: Path | RemotePath, compute: Compute, shards: Sequence[ShardSpec], data: _Watched) -> int:
    """Make shards, and return how many rows had to be computed for them."""
    computed = 0
    if shards:
        total = sum(len(some.shard.rows) for some in shards)
        with progress_bar(total, text=f"Featurize into {store.name}", unit="pictures") as bar:
            data.advance = bar.update
            for some in shards:
                rows = fill_shard(store, some, compute)
                bar.update(len(some.shard.rows) - rows)
                computed += rows
    return computed


# -- saying ---------------------------------------------------------------------------------------------------------


def _say_what_comes(
    options: Namespace, store: Path | RemotePath, spec: StoreSpec, helper: TransferLearningHelper, where: torch.device
) -> None:
    counts = torch.bincount(spec.labels, minlength=len(spec.classes)).tolist()
    per_class = few(f"{name} {count:,}" for name, count in zip(spec.classes, counts, strict=True))
    shapes = ", ".join(f"{name} ({' x '.join(map(str, shape))})" for name, shape in spec.shapes.items())
    boundary = " and ".join(f"'{name}'" for name in spec.shapes)
    shards = counted(len(spec.layout.shards), "shard")
    say_facts(
        {
            "pictures": f"{len(spec):,} in {counted(len(spec.classes), 'class', 'classes')}: {per_class}",
            "network": f"{options.backbone or zoo.DEFAULT} up to {boundary}, weights: {options.weights}, on {where}, "
            f"{_size(helper.frozen_network)} of weights",
            "features": f"{shapes}, {spec.dtype}: {readable_size(spec.row_bytes)} a picture",
            "store": f"{store}: {readable_size(spec.nbytes)} in {shards}{_free(store)}",
        }
    )


def _size(network: Network) -> str:
    return readable_size(sum(value.numel() * value.element_size() for value in network.state_dict().values()))


def _free(folder: Path | RemotePath) -> str:
    free = free_space(folder)
    return "" if free is None else f"; the disk has {readable_size(free)} free"


def _say_what_is_to_do(options: Namespace, spec: StoreSpec, work: Work) -> list[ShardSpec]:
    """Say how far the store is and why, and return the shards to make now."""
    part, parts = options.shards
    mine = [some for some in work.shards if some.shard.number % parts == part - 1]
    numbers = [some.shard.number for some in mine]
    copied = sum(len(copies.places) for some in work.shards for copies in some.copies)
    share = f"{len(work.shards)} of {counted(len(spec.layout.shards), 'shard')}"
    lines = [share if work.shards else "nothing: every shard is there, and right"]
    lines += [f"because {reason}" for reason in work.reasons]
    if copied:
        lines.append(f"the features of {counted(copied, 'picture')} are there already, and are copied")
    if parts > 1 and work.shards:
        lines.append(f"this is part {part}/{parts}: {_numbered(numbers) if numbers else 'nothing of them'}")
    say_facts({"to do": lines})
    return mine


def _say_what_is_left(store: Path | RemotePath, layout: Layout) -> None:
    left = [shard.number for shard in layout.shards if finished_record(store, shard) is None]
    if left:
        total = counted(len(layout.shards), "shard")
        say(f"Left: {len(left)} of {total} ({_numbered(left)}). Run the other parts, or all of it without --shards.")
    else:
        remove_surplus(store, layout)
        say(f"The store in '{store}' is complete: {counted(layout.rows, 'row')}.")


def _numbered(numbers: Sequence[int]) -> str:
    return f"shard{'s' * (len(numbers) > 1)} {write_ranges(numbers)}"
