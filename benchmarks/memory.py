"""The largest memory of featurizing: many photos beside few, and VGG16 up to "fc2" with a head trained on it.

    python benchmarks/memory.py [IMAGES] [--vgg16-photos N]

IMAGES is a folder, an archive or "drawn"; photos if there are any when left out. Each figure is the peak of resident
memory of a process of its own, which does nothing else; those of few and of many photos are medians of five. VGG16 has
random weights, loaded from a file as torchvision publishes them.
"""

from __future__ import annotations

import argparse
import inspect
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import photos
import torch

import tlkit as tl

UNIT = 1e6 if sys.platform == "darwin" else 1e3  # of ru_maxrss, in MB
FEW, MANY = 150, 1500
RUNS = 5
EPOCHS = 20
WORK = "--work"


def peak() -> float:
    """Return this process's largest memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / UNIT


def featurize(source: str, count: int, folder: Path, engine: str) -> None:
    """Featurize so many photos by the default network, into a store."""
    net = tl.zoo.load(tl.zoo.DEFAULT)
    helper = tl.TransferLearningHelper(net, net.landmarks.penultimate)
    images = photos.load(count, net.preprocessing, source)
    helper.featurize(images, to=folder, engine=engine, progress=False)


def save_vgg16(folder: Path) -> None:
    """Save random weights of VGG16 as torchvision saves them."""
    from torchvision.models import vgg16

    torch.save(vgg16(weights=None, init_weights=False).state_dict(), folder / "vgg16.pth")


def fit_vgg16(source: str, count: int, folder: Path) -> None:
    """Load VGG16, featurize photos up to "fc2", and train a new head on them."""
    vgg16 = tl.zoo.load("vgg16", weights=folder / "vgg16.pth")
    print(f"    after loading {peak():6.0f} MB")
    tuning = tl.FineTuneConfiguration(updater=tl.Nesterovs(lr=0.01, momentum=0.9), seed=1)
    net = (
        tl.TransferLearning(vgg16)
        .fine_tune_configuration(tuning)
        .set_feature_extractor("fc2")
        .remove_vertex_keep_connections("predictions")
        .add_layer("predictions", tl.Output(photos.CLASSES), "fc2")
        .build()
    )
    print(f"    after building {peak():5.0f} MB")
    helper = tl.TransferLearningHelper(net)
    train = helper.featurize(photos.load(count, vgg16.preprocessing, source), to=folder / "fc2", progress=False)
    print(f"    after featurizing {peak():2.0f} MB")
    helper.fit_featurized(train, epochs=EPOCHS, progress=False)


def alone(work: Callable[..., None], *arguments: object) -> float:
    """Do some work in a process of its own, and return its peak memory in MB."""
    command = [sys.executable, __file__, WORK, work.__name__, *map(str, arguments)]
    *lines, largest = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    print("".join(f"{line}\n" for line in lines), end="")
    return float(largest)


def repeated(work: Callable[..., None], source: str, count: int, folder: str, engine: str) -> str:
    """Return the peaks of some runs in MB, the median first: they depend on what coincides with a batch."""
    peaks = []
    for run in range(RUNS):
        place = Path(folder) / f"{engine} {count} {run}"
        peaks.append(alone(work, source, count, place, engine))
    return f"{statistics.median(peaks):.0f} ({', '.join(f'{largest:.0f}' for largest in sorted(peaks))})"


def work(name: str, *arguments: str) -> None:
    """Do what `alone` asked for, and print the peak."""
    kinds = {"count": int, "folder": Path}
    function = {function.__name__: function for function in (featurize, save_vgg16, fit_vgg16)}[name]
    names = inspect.signature(function).parameters
    function(*(kinds.get(name, str)(argument) for name, argument in zip(names, arguments, strict=True)))
    print(peak())


def main() -> None:
    """Measure in processes of their own and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("images", nargs="?", default=photos.found())
    arguments.add_argument("--vgg16-photos", type=int, default=60)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(f"peak memory, {photos.described(options.images)}")
        for engine in ("onnxruntime", "torch"):  # "auto" takes the one for many, the other for few
            alone(
                featurize, options.images, 10, Path(folder) / engine, engine
            )  # the pictures are extracted, the network converted
            few, many = (repeated(featurize, options.images, count, folder, engine) for count in (FEW, MANY))
            print(f"engine={engine!r}: {FEW:,} photos {few} MB, {MANY:,} photos {many} MB")
        alone(save_vgg16, folder)
        print(f"VGG16 up to 'fc2', {options.vgg16_photos} photos, {EPOCHS} epochs of a head")
        print(f"    in all {alone(fit_vgg16, options.images, options.vgg16_photos, folder):13.0f} MB")


if __name__ == "__main__":
    work(*sys.argv[2:]) if sys.argv[1:2] == [WORK] else main()
