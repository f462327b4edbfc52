"""A large feature store: how long it takes to open, and what an epoch costs when the features don't fit in memory.

    python benchmarks/stores.py [--rows N] [--width N] [--batch-size N]

The store is made in the temporary folder (about 0.5 GB) and removed afterwards. "Not in memory" is told to the
package, which then keeps two blocks of 64 MB; the files stay in the system's cache, so this is the cost of reading
and not of a disk. Each epoch is shuffled anew.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

import tlkit as tl
from tlkit.features import store as stores
from tlkit.features.store import StoreSpec

EPOCHS = 5


def make(folder: Path, rows: int, width: int) -> None:
    """Fill a store with random numbers and with records as long as those of photos."""
    images = [
        {"path": f"roses/{row:010}.jpg", "size": row, "sha256": hashlib.sha256(str(row).encode()).hexdigest()}
        for row in range(rows)
    ]
    labels = torch.arange(rows) % 5
    spec = StoreSpec({}, {"features": (width,)}, "float16", list("abcde"), labels, images)
    some = torch.rand(256, width).half()
    tl.FeatureStore.fill(folder, spec, lambda shard: {"features": some[: len(shard)]}, progress=False)


def forget(folder: Path) -> bool:
    """Ask the system to drop the files from its cache, and return whether it can be asked."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for file in folder.rglob("*.*"):
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    return True


def seconds(run: Callable[[], object]) -> float:
    """Return the wall time of a run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def epoch(store: tl.FeatureStore, batch_size: int) -> None:
    """Run through a shuffled epoch."""
    for _ in store.batches(batch_size, store.shuffled(torch.default_generator)):
        pass


def opened(folder: Path, *, in_memory: bool) -> tl.FeatureStore:
    """Open a store that believes that it fits in memory, or that it does not."""
    store, available = tl.FeatureStore(folder), stores.available_memory
    stores.available_memory = lambda: 3 * store.nbytes if in_memory else 0
    store.shuffled(torch.default_generator)  # asks once and for all where the features shall be
    stores.available_memory = available
    return store


def measure(folder: Path, batch_size: int) -> None:
    """Print one line for each figure."""
    if forget(folder):
        print(f"opening, files not cached         {seconds(lambda: tl.FeatureStore(folder)):8.2f} s")
    print(f"opening, files cached             {seconds(lambda: tl.FeatureStore(folder)):8.2f} s")
    outside = opened(folder, in_memory=False)
    first = seconds(lambda: epoch(outside, batch_size))
    inside = opened(folder, in_memory=True)
    first_inside = seconds(lambda: epoch(inside, batch_size))
    print(f"first epoch, not in memory        {first:8.2f} s   every shard is compared with its checksum")
    print(f"first epoch, in memory            {first_inside:8.2f} s   the same, and all is loaded")
    times = [[seconds(lambda s=store: epoch(s, batch_size)) for store in (outside, inside)] for _ in range(EPOCHS)]
    slow, fast = map(median, zip(*times, strict=True))
    print(f"a later epoch, not in memory      {slow:8.2f} s   median of {EPOCHS}")
    print(f"a later epoch, in memory          {fast:8.2f} s   median of {EPOCHS}")
    print(f"not in memory / in memory         {slow / fast:8.1f}")


def main() -> None:
    """Make the store, measure, and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=200_000)
    arguments.add_argument("--width", type=int, default=1280)
    arguments.add_argument("--batch-size", type=int, default=32)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "store"
        make(folder, options.rows, options.width)
        print(f"{options.rows:,} x {options.width:,} float16, batches of {options.batch_size}")
        measure(folder, options.batch_size)


if __name__ == "__main__":
    main()
