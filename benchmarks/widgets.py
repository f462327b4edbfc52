"""How quickly the widgets answer, without a browser, and how well a FreezePicker foretells what an epoch takes.

python benchmarks/widgets.py
"""

from __future__ import annotations

import statistics
import time

import torch

import tlkit as tl
from tlkit.training.timings import time_vertices

ROWS, TEST_ROWS, WIDTH = 1200, 300, 1280
HEADS = ((), (16,), (64,), (256,), (512,), (1024,), (1024, 256))
PICTURES = 96


def main() -> None:
    """Measure and print three tables."""
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}\n")
    moves()
    heads()
    epochs()


def moves() -> None:
    """Move the boundary of VGG16 through all its places."""
    with torch.device("meta"):  # its structure alone
        vgg16 = tl.zoo.load("vgg16", weights=None)
    tl.FreezePicker(vgg16)
    start = time.perf_counter()
    picker = tl.FreezePicker(vgg16, range(ROWS))
    first = time.perf_counter() - start
    picker.measure()
    seconds = []
    for name in [*vgg16.cut_points, *reversed(vgg16.cut_points)] * 3:
        start = time.perf_counter()
        picker._slider.value = (name,)
        seconds.append(time.perf_counter() - start)
    several = []
    for name in list(vgg16.vertices)[:-1]:
        start = time.perf_counter()
        picker._list.value = (next(iter(vgg16.vertices)), name)
        several.append(time.perf_counter() - start)
    print("| FreezePicker on VGG16 | ms |\n|---|---:|")
    print(f"| made, ready to be shown | {1000 * first:.0f} |")
    print(f"| slider moved, median of {len(seconds)} | {1000 * statistics.median(seconds):.1f} |")
    print(f"| slider moved, slowest | {1000 * max(seconds):.1f} |")
    print(
        f"| several vertices chosen in the list, median of {len(several)} | {1000 * statistics.median(several):.1f} |"
    )
    print()


def heads() -> None:
    """Change a head by hand; read from its widgets when the accuracies appear."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(ROWS + TEST_ROWS) % 5
    centers = torch.randn(5, WIDTH, generator=generator)
    x = (0.3 * centers[labels] + torch.randn(len(labels), WIDTH, generator=generator)).relu()
    classes = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    train, test = (
        tl.Features({"flatten": x[rows]}, labels[rows], classes) for rows in (slice(0, ROWS), slice(ROWS, None))
    )
    designer = tl.HeadDesigner(train, test)
    designer.layers = 8  # once, so that everything is loaded
    print(f"| hidden layers; {ROWS:,} x {WIDTH:,} features | after one epoch, s | after five, s | with curves, s |")
    print("|---|---:|---:|---:|")
    for widths in HEADS:
        timings = [_change(designer, widths) for _ in range(3)]
        shown = " | ".join(f"{statistics.median(column):.2f}" for column in zip(*timings, strict=True))
        print(f"| {'-'.join(map(str, widths)) or 'none'} | {shown} |")
    print()


def _change(designer: tl.HeadDesigner, widths: tuple[int, ...]) -> tuple[float, float, float]:
    """Return seconds from a change by hand to the first accuracy, to the last one, and to the curves and the table."""
    designer.layers = 8
    accuracies: list[float] = []

    def told(change: dict) -> None:
        if "accuracy" in change["new"]:
            accuracies.append(time.perf_counter())

    designer._status.observe(told, "value")
    start = time.perf_counter()
    for row, width in zip(designer._rows, [*widths, *[0] * 4], strict=False):
        row.units.value = width
    assert designer.runs[-1].head.words == ("-".join(map(str, widths)) or "no hidden layer")
    end = time.perf_counter()
    designer._status.unobserve(told, "value")
    return accuracies[0] - start, accuracies[-1] - start, end - start


def epochs() -> None:
    """Hold the seconds that a picker foretells against epochs that are really run."""
    net = tl.zoo.load("efficientnet_lite0")
    builder = tl.TransferLearning(net).fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Nesterovs(1e-3)))
    head = net.landmarks.head
    builder.remove_vertex_keep_connections(head).add_layer(head, tl.Output(5), net.landmarks.penultimate)
    start = time.perf_counter()
    net = builder.build()
    timings = time_vertices(net)
    print(f"efficientnet_lite0 measured in {time.perf_counter() - start:.1f} s; an epoch has {PICTURES} pictures.\n")
    pictures, labels = torch.rand(PICTURES, 3, 224, 224), torch.arange(PICTURES) % 5
    print("| frozen up to | whole: foretold, s | measured, s | on features: foretold, s | measured, s |")
    print("|---|---:|---:|---:|---:|")
    for name in (net.cut_points[4], net.cut_points[9], net.cut_points[14], net.landmarks.penultimate):
        frozen = tl.TransferLearning(net).set_feature_extractor(name).build()
        foretold = timings.epoch(net, net.ancestors(name), PICTURES)
        whole = tl.fit(frozen, (pictures, labels), progress=False).seconds
        helper = tl.TransferLearningHelper(frozen)
        features = helper.featurize(pictures)
        helper.fit_featurized((features, labels), progress=False)
        featurized = helper.fit_featurized((features, labels), progress=False).seconds
        print(f"| {name} | {foretold.whole:.2f} | {whole:.2f} | {foretold.featurized:.3f} | {featurized:.3f} |")


if __name__ == "__main__":
    main()
