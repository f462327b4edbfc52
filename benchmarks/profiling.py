"""Where to freeze: what one pass over the images and training heads together save, and how true the seconds are.

    python benchmarks/profiling.py [IMAGES] [--backbone NAME]

IMAGES is "photos", a folder, an archive or "drawn". One featurization for each cut point stands beside the one pass of
`tl.freeze_profile`; epochs that are waited for stand beside those that the profile reckons.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import tlkit as tl
from tlkit.graph.network import Network
from tlkit.profiling import average
from tlkit.training.head_grid import build_grid_head

WIDTHS, RATES = (16, 64, 256), (0.001, 0.003, 0.01, 0.03)


def seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    """Return the wall time of a run, and what it returned."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def one_by_one(net: Network, images: tl.images.Split) -> None:
    """Featurize anew for each cut point."""
    for name in net.cut_points:
        helper = tl.TransferLearningHelper(tl.TransferLearning(net).build(), name)
        for data in (images.train, images.test):
            for x, _ in data.batches(16):
                average(helper.featurize(x, progress=False))


def waited(net: Network, name: str, train: tl.images.ImageSet, batch_size: int) -> float:
    """Return the seconds of an epoch behind a cut point, from three epochs on 64 images behind a first one."""
    helper = tl.TransferLearningHelper(tl.TransferLearning(net).build(), name)
    features = helper.featurize(train[:64], engine="torch", batch_size=16, progress=False)
    helper.fit_featurized(features, batch_size=batch_size, progress=False)
    history = helper.fit_featurized(features, epochs=3, batch_size=batch_size, progress=False)
    return history.seconds / history.examples * len(train)


def main() -> None:
    """Measure and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("images", nargs="?", default="drawn")
    arguments.add_argument("--backbone", default=tl.zoo.DEFAULT)
    options = arguments.parse_args()

    backbone = tl.zoo.load(options.backbone)
    images = tl.images.load(options.images, size=backbone.preprocessing)
    places = backbone.landmarks
    tuning = tl.FineTuneConfiguration(updater=tl.Nesterovs(lr=0.01, momentum=0.9), seed=12345)
    net = (
        tl.TransferLearning(backbone)
        .fine_tune_configuration(tuning)
        .set_feature_extractor(places.penultimate)
        .remove_vertex_keep_connections(places.head)
        .add_layer(places.head, tl.Output(len(images.classes), weight_init="xavier"), places.penultimate)
        .build()
    )
    for data in (images.train, images.test):  # decoded once, so that only the network is measured
        for _ in data.batches(64):
            pass
    print(f"{options.backbone}, {len(images.train):,} + {len(images.test):,} images, {len(net.cut_points)} cut points")
    whole, profile = seconds(lambda: tl.freeze_profile(net, images, progress=False))
    apart, _ = seconds(lambda: one_by_one(net, images))
    print(f"the whole profile, from one pass                 {whole:7.1f} s")
    print(f"one featurization for each cut point, no heads   {apart:7.1f} s")

    train, test = profile.features(places.penultimate)
    together, grid = seconds(lambda: tl.head_grid(train, test, WIDTHS, RATES))
    alone, _ = seconds(
        lambda: [tl.fit(build_grid_head(train, *key, 12345), train, 20, 32, progress=False) for key in grid.heads]
    )
    print(f"{len(grid.heads)} heads on '{places.penultimate}', together         {together:7.2f} s")
    print(f"the same heads one after another                 {alone:7.2f} s")
    print("an epoch behind a cut point: reckoned, waited for in batches of 8, of 32")
    for name in (places.fine_tune_from, places.bottleneck, places.penultimate):
        clock = [waited(net, name, images.train, batch_size) for batch_size in (8, 32)]
        print(f"  {name:20} {profile.at(name).seconds:8.2f} s" + "".join(f" {value:8.2f} s" for value in clock))


if __name__ == "__main__":
    main()
