"""Photos on disk to features: the helper beside the textbook's loop, img2vec and the bare engine.

    python benchmarks/featurizing.py [IMAGES] [--backbone NAME] [--baseline-photos N]

IMAGES is a folder with one subfolder a class, an archive or "drawn"; when left out, photos if there are any
(benchmarks/photos.py says), else 1,500 drawn flowers. The helper writes its features to disk, the others keep
them in memory. img2vec takes part where it is installed (pip install img2vec_pytorch). The baselines run on the first
N photos, because they take long; all figures are milliseconds a photo.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import photos as pictures
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

import tlkit as tl
from tlkit.features.engines import Engine

BATCH = 16


class Textbook(Dataset):
    """The photos as torchvision's ImageFolder gives them, with its transforms."""

    def __init__(self, paths: list[Path], preprocessing: tl.Preprocessing) -> None:
        self.paths = paths
        self.transform = transforms.Compose(
            [
                transforms.Resize(preprocessing.resize),
                transforms.CenterCrop(preprocessing.size),
                transforms.ToTensor(),
                transforms.Normalize(preprocessing.mean, preprocessing.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Tensor:
        return self.transform(Image.open(self.paths[row]).convert("RGB"))


def textbook(module: nn.Module, paths: list[Path], preprocessing: tl.Preprocessing) -> None:
    """Run the loop of the tutorials: the layers up to a node as torchvision's feature extractor has them, a loader."""
    with torch.no_grad():
        for x in DataLoader(Textbook(paths, preprocessing), BATCH, num_workers=2):
            module(x)


def img2vec(front: nn.Module, width: int, paths: list[Path]) -> Callable[[], object] | None:
    """Return a run of img2vec's own loop over batches, with this network put in place of one of its own."""
    try:
        from img2vec_pytorch import Img2Vec
    except ImportError:
        return None

    class Ours(Img2Vec):
        def _get_model_and_layer(self, model_name: str, layer: str) -> tuple[nn.Module, nn.Module]:
            whole = nn.Sequential(front, nn.Unflatten(1, (width, 1, 1)))
            return whole, whole[1]

    extractor = Ours(model="resnet50", layer_output_size=width)
    return lambda: [extractor.get_vec([Image.open(p).convert("RGB") for p in some]) for some in _parts(paths)]


def _parts(paths: list[Path]) -> Iterator[list[Path]]:
    return (paths[start : start + BATCH] for start in range(0, len(paths), BATCH))


def milliseconds(run: Callable[[], object], photos: int) -> float:
    """Return the wall time of a run, in milliseconds a photo."""
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start) / photos


def main() -> None:
    """Measure and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("images", nargs="?", default=pictures.found())
    arguments.add_argument("--backbone", default=tl.zoo.DEFAULT)
    arguments.add_argument("--random-weights", action="store_true")
    arguments.add_argument("--boundary", help="vertex; the penultimate one when left out")
    arguments.add_argument("--photos", type=int, default=1500, help="at most, as many of each class")
    arguments.add_argument("--baseline-photos", type=int, default=320)
    options = arguments.parse_args()

    net = tl.zoo.load(options.backbone, weights=None if options.random_weights else "imagenet")
    photos = pictures.load(options.photos, net.preprocessing, options.images, cache_megabytes=0)
    paths = list(photos.paths[: options.baseline_photos])
    boundary = options.boundary or net.landmarks.penultimate
    helper = tl.TransferLearningHelper(net, boundary)
    front = helper.frozen_network
    (shape,) = helper.unfrozen_network.input_shapes.values()

    rows = {}
    module = front.to_module().eval()
    rows["textbook loop, 2 loader processes"] = milliseconds(
        lambda: textbook(module, paths, net.preprocessing), len(paths)
    )
    if len(shape) == 1 and (run := img2vec(module, shape[0], paths)):
        rows["img2vec, batches of 16"] = milliseconds(run, len(paths))
    engine = Engine("auto", front, len(photos), BATCH)
    pixels = photos[:BATCH].pixels()
    engine(pixels)
    rows["bare engine, pixels in memory"] = milliseconds(lambda: [engine(pixels) for _ in range(20)], 20 * BATCH)
    with torch.no_grad():
        plain = milliseconds(lambda: [front(pixels) for _ in range(5)], 5 * BATCH)
    rows["network as it is, pixels in memory"] = plain
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TLKIT_HOME"] = f"{folder}/home"  # nothing is converted there yet
        for what in ("helper, for the first time", "helper, network converted before"):
            helper = tl.TransferLearningHelper(net, boundary)
            store = partial(helper.featurize, photos, to=f"{folder}/{what}", progress=False)
            rows[what] = run = milliseconds(store, len(photos))

    print(f"{options.backbone} up to '{boundary}', {len(photos):,} {pictures.described(options.images)}")
    print(f"{torch.get_num_threads()} threads")
    print(f"engine: {engine.name}")
    for name, value in rows.items():
        first = rows["helper, for the first time"]
        print(f"{name:36} {value:7.1f} ms a photo   {value / first:5.2f} / {value / run:5.2f} times the helper")


if __name__ == "__main__":
    main()
