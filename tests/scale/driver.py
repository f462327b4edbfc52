"""A program that featurizes on a cluster, for tests that kill it: ADDRESS PHOTOS STORE LOG GATE CPUS_PER_WORKER.

Its workers take their time: they say that they are ready by files GATE.*, and begin when there is a file GATE. Each
shard that they compute is a line of the file LOG. At the end it says how many rows it computed.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(TESTS), str(TESTS / "reliability")]

import samples  # noqa: E402

import tlkit as tl  # noqa: E402
import tlkit.features.spec  # noqa: E402
from tlkit.scale import featurizing  # noqa: E402
from tlkit.scale.workers import ShardFeaturizer  # noqa: E402

LOG, GATE = sys.argv[4:6]
SLOWLY = 0.2  # seconds more for each shard, so that faults meet the work


class SlowFeaturizer(ShardFeaturizer):
    """Takes its time, and notes what it computed."""

    def __call__(self, row: Mapping[str, str]) -> dict[str, str]:
        Path(f"{GATE}.{os.getpid()}").touch()
        while not os.path.exists(GATE):
            time.sleep(0.05)
        time.sleep(SLOWLY)
        record = super().__call__(row)
        if '"computed": 0' not in record["record"]:
            line = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(line, record["record"].encode() + b"\n")
            os.close(line)
        return record


def main(address: str, photos: str, store: str, cpus_per_worker: str) -> None:
    tlkit.features.spec.MOST_ROWS = samples.ROWS_PER_SHARD
    featurizing.ShardFeaturizer = SlowFeaturizer
    helper = samples.make_helper()
    engine = tl.scale.Ray(address, workers=2, cpus_per_worker=int(cpus_per_worker))
    pictures = samples.read_photos(Path(photos), helper)
    made = helper.featurize(pictures, to=store, engine=engine, progress=False)
    sys.stdout.write(f"{made.rows_computed}\n")


if __name__ == "__main__":
    main(*sys.argv[1:4], sys.argv[6])
