"""Why a fill has work to do, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tlkit.features.differences import (
    compare_boundaries,
    compare_classes,
    compare_images,
    compare_keys,
    write_ranges,
)
from tlkit.features.shards import Fault, images_of, read_record
from tlkit.features.spec import Layout, StoreSpec
from tlkit.files.storage import RemotePath

__all__ = ["explain_work"]

WEIGHTS_ON_ONE_SIDE = (" were added", " were removed")


def explain_work(
    folder: Path | RemotePath, before: Layout | None, spec: StoreSpec, faults: Sequence[Fault], *, computes: bool
) -> Iterator[str]:
    """Say what is other in an existing store than it shall be, in words.

    Parameters
    ----------
    folder : path
    before : Layout or None
        What the store held, if it is known.
    spec : StoreSpec
        What it shall hold.
    faults : sequence of Fault
        What is wrong with the shards that it held.
    computes : bool
        Whether rows must be computed.
    """
    known = _differences(folder, before, spec) if before and before != spec.layout else []
    yield from (line if computes else f"{line}, nothing computed" for line in known)
    late = [fault for fault in faults if fault.kind == "missing"]
    if before and late and (len(late) < len(before.shards) or known):
        numbers = write_ranges(fault.number for fault in late)
        yield f"shard {numbers} was not finished yet" if len(late) == 1 else f"shards {numbers} were not finished yet"
    damaged = (f"shard {fault.number} was damaged: {fault.reason}" for fault in faults if fault.kind == "damaged")
    yield from dict.fromkeys(damaged)


def _differences(folder: Path | RemotePath, before: Layout, spec: StoreSpec) -> list[str]:
    after = spec.layout
    boundaries = compare_boundaries(before.shapes, after.shapes)
    found = [*boundaries, *compare_keys(before.key, after.key)]
    if boundaries:  # another boundary changes the graph, and which weights it has, by itself
        found = [line for line in found if not _follows_from_boundary(line)]
    if before.dtype != after.dtype:
        found.append(f"dtype {before.dtype} -> {after.dtype}")
    if before.rows_per_shard != after.rows_per_shard:
        found.append(f"rows per shard {before.rows_per_shard} -> {after.rows_per_shard}")
    records = [read_record(folder, shard) for shard in before.shards]
    if all(records):
        old = [row for record in records for row in _named(record["labels"], images_of(record), before.classes)]
        new = _named(spec.labels.tolist(), spec.images, after.classes)
        found += [*compare_classes(old, new), compare_images(old, new)]
    found = [line for line in dict.fromkeys(found) if line]
    if not found and before.shards != after.shards:
        found.append("the images or their labels differ")
    return found or ["the names of the classes differ"]


def _follows_from_boundary(line: str) -> bool:
    vertex = line.startswith("graph: ") and line.endswith((" added", " removed"))
    return vertex or line.startswith(("graph ", "boundary [")) or line.endswith(WEIGHTS_ON_ONE_SIDE)


def _named(labels: Sequence[int], images: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> list[tuple[str, Any]]:
    names = dict(enumerate(classes))
    return [(names.get(label, ""), image) for label, image in zip(labels, images, strict=True)]
