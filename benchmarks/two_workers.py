"""Featurizing on two Ray workers of one thread each, beside the loop of one process with two threads.

    python benchmarks/two_workers.py [IMAGES]

IMAGES is a folder with one subfolder a class, or an archive; 1,500 drawn flowers when left out. Needs tlkit[ray]; says
so and ends where Ray is missing. Start-up is what a run of ten pictures takes.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

import tlkit as tl
from tlkit.scale.cluster import connect

COUNTS = (10, 300, 1500)


def seconds(run: Callable[[], object]) -> float:
    """Return the wall time of a run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def contents(store: str) -> list[bytes]:
    """Return the bytes of each file of features in a store."""
    return [file.read_bytes() for file in sorted(Path(store, "shards").glob("*.safetensors"))]


def main() -> None:
    """Measure and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("images", nargs="?", default="drawn")
    options = arguments.parse_args()
    if importlib.util.find_spec("ray") is None:
        print("Ray is not installed, so there is nothing to compare: pip install 'tlkit[ray]'")
        return

    torch.set_num_threads(2)
    net = tl.zoo.load()
    helper = tl.TransferLearningHelper(net, net.landmarks.penultimate)
    photos = tl.images.load(options.images, None, size=net.preprocessing, per_class=COUNTS[-1] // 5, cache_megabytes=0)
    engine = tl.scale.Ray(workers=2, engine="onnxruntime")
    print(f"Ray starts in {seconds(lambda: connect(engine)):.1f} s")
    with tempfile.TemporaryDirectory() as folder:

        def run(who: str, count: int) -> float:
            how = engine if who == "ray" else "onnxruntime"
            return seconds(lambda: helper.featurize(photos[:count], f"{folder}/{who}{count}", how, progress=False))

        print(f"first runs, of five photos: one process {run('local', 5):.1f} s, two workers {run('ray', 5):.1f} s")
        print(f"{'photos':>8} {'one process':>13} {'two workers':>13} {'ratio':>6} {'without start-up':>17}")
        start_up = 0.0
        for count in COUNTS:
            one, two = run("local", count), run("ray", count)
            start_up = start_up or two
            print(f"{count:8,} {one:11.1f} s {two:11.1f} s {two / one:6.2f} {(two - start_up) / one:17.2f}")
            assert contents(f"{folder}/local{count}") == contents(f"{folder}/ray{count}"), "the two stores differ"
    engine.stop()


if __name__ == "__main__":
    main()
