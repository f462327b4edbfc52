"""An epoch over features: the package's batches and training steps beside a DataLoader over a TensorDataset.

    python benchmarks/heads.py [--rows N] [--width N]

The features are random numbers, for a head of five classes. Each figure is the fastest of many epochs, and the two
sides take turns, so that what else the machine does meets both.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import tlkit as tl

CLASSES = ["daisy", "dandelion", "roses", "sunflowers", "tulips"]
LR, MOMENTUM = 0.01, 0.9


def epoch_of(features: tl.Features, batch_size: int) -> Iterable[object]:
    """Return an epoch's batches in a new random order."""
    return features.batches(batch_size, features.shuffled(torch.default_generator))


def run_through(batches: Iterable[object]) -> None:
    """Ask for every batch."""
    for _ in batches:
        pass


def plain_loop(batches: Iterable[tuple[torch.Tensor, torch.Tensor]], head: nn.Module) -> None:
    """Train a head for an epoch as a tutorial does."""
    optimizer = torch.optim.SGD(head.parameters(), lr=LR, momentum=MOMENTUM, nesterov=True)
    for x, y in batches:
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(x), y).backward()
        optimizer.step()


def linear_head(width: int) -> tl.Network:
    """Return the package's head over features."""
    tuning = tl.FineTuneConfiguration(updater=tl.Nesterovs(lr=LR, momentum=MOMENTUM), seed=1)
    nothing = tl.Network({}, inputs={"features": (width,)}, outputs=["features"])
    edits = tl.TransferLearning(nothing).fine_tune_configuration(tuning)
    return edits.add_layer("predictions", tl.Output(len(CLASSES)), "features").set_outputs("predictions").build()


def fastest(runs: dict[str, Callable[[], object]], times: int) -> dict[str, float]:
    """Return the shortest time of each run in milliseconds; they take turns."""
    shortest = dict.fromkeys(runs, float("inf"))
    for _ in range(times):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            shortest[name] = min(shortest[name], 1e3 * (time.perf_counter() - start))
    return shortest


def main() -> None:
    """Measure and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=3670)
    arguments.add_argument("--width", type=int, default=1280)
    options = arguments.parse_args()

    x, y = torch.rand(options.rows, options.width), torch.arange(options.rows) % len(CLASSES)
    features = tl.Features({"features": x}, y, CLASSES)
    head, net = nn.Linear(options.width, len(CLASSES)), linear_head(options.width)

    print(f"an epoch over {options.rows:,} x {options.width:,} features, {torch.get_num_threads()} threads, ms")
    print(f"{'':24}{'DataLoader':>12}{'tlkit':>8}{'ratio':>8}")
    for batch_size in (32, 64):
        loader = DataLoader(TensorDataset(x, y), batch_size, shuffle=True)
        batches = {
            "loader": lambda loader=loader: run_through(loader),
            "ours": lambda size=batch_size: run_through(epoch_of(features, size)),
        }
        steps = {
            "loader": lambda loader=loader: plain_loop(loader, head),
            "ours": lambda size=batch_size: tl.fit(net, features, batch_size=size, progress=False),
        }
        for what, runs, times in (("batches", batches, 60), ("training a head", steps, 20)):
            shortest = fastest(runs, times)
            loader_took, ours = shortest["loader"], shortest["ours"]
            print(f"{what + f' of {batch_size}':24}{loader_took:12.2f}{ours:8.2f}{loader_took / ours:8.1f}")


if __name__ == "__main__":
    main()
