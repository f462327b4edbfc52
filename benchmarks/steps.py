"""What a training step costs beside a plain PyTorch loop: seconds for a tiny network, memory behind a frozen part.

    python benchmarks/steps.py

The times are the fastest of many epochs, in turns. The memory is the largest resident size above that before training,
ResNet50 frozen up to its last two blocks, batches of 16 photos; each side runs in a process of its own.
"""

from __future__ import annotations

import gc
import multiprocessing
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from heads import fastest
from torch import nn
from torchvision.models import resnet50

import tlkit as tl

ROWS, BATCH = 3200, 32
TRAINED = ("layer4.1", "layer4.2", "fc")


def compare_times() -> None:
    """Print the milliseconds of a step of a network of two small layers."""
    x, y = torch.rand(ROWS, 16), torch.arange(ROWS) % 5
    tuning = tl.FineTuneConfiguration(updater=tl.Nesterovs(lr=0.01, momentum=0.9), seed=1)
    edits = tl.TransferLearning(tl.Network({}, inputs={"x": (16,)}, outputs=["x"])).fine_tune_configuration(tuning)
    edits.add_layer("hidden", tl.Dense(8, activation="relu"), "x").add_layer("answer", tl.Output(5), "hidden")
    net = edits.set_outputs("answer").build()
    module = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 5))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    runs = {
        "plain": lambda: plain_epoch(module, optimizer, x, y, BATCH),
        "ours": lambda: tl.fit(net, (x, y), batch_size=BATCH, progress=False),
    }
    shortest = {name: took / (ROWS / BATCH) for name, took in fastest(runs, 60).items()}
    print_row("a step of a tiny network, ms", shortest, 3)


def plain_epoch(
    module: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor, size: int
) -> None:
    """Train for an epoch as a tutorial does; uint8 images are scaled first."""
    for rows in torch.randperm(len(x)).split(size):
        batch = x[rows] if x.is_floating_point() else (x[rows].float() / 255 - 0.45) / 0.225
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(batch), y[rows]).backward()
        optimizer.step()


def measure_memory(side: str, answer: multiprocessing.Queue) -> None:
    """Put the megabytes above the start that one epoch takes."""
    torch.manual_seed(0)
    x, y = torch.randint(0, 256, (48, 3, 224, 224), dtype=torch.uint8), torch.arange(48) % 5
    module = resnet50().eval()
    if side == "ours":
        net = tl.Network.from_module(module, [torch.zeros(1, 3, 224, 224)])
        *_, before, last = net.vertices
        edits = tl.TransferLearning(net).fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Sgd(1e-4)))
        edits.set_feature_extractor("layer4.0").remove_vertex_and_connections(last)
        net = edits.add_layer("answer", tl.Output(5), before).set_outputs("answer").build()
        net.preprocessing = tl.Preprocessing(size=224, resize=232)
        grown = watch(lambda: tl.fit(net, (x, y), batch_size=16, progress=False))
    else:
        module.fc = nn.Linear(2048, 5)
        module.layer4[1:].train()
        for name, weight in module.named_parameters():
            weight.requires_grad_(name.startswith(TRAINED))
        optimizer = torch.optim.SGD([weight for weight in module.parameters() if weight.requires_grad], lr=1e-4)
        grown = watch(lambda: plain_epoch(module, optimizer, x, y, 16))
    answer.put(grown)


def watch(run: Callable[[], object]) -> float:
    """Return the megabytes by which the process grew at most while something ran."""
    gc.collect()
    start = largest = read_size()
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        largest = max(largest, read_size())
        time.sleep(0.002)
    return largest - start


def read_size() -> float:
    """Return the megabytes of memory of this process (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def compare_memory() -> None:
    """Print the smaller of two runs each."""
    found: dict[str, list[float]] = {"plain": [], "ours": []}
    context = multiprocessing.get_context("spawn")
    for _ in range(2):
        for name, values in found.items():
            answer = context.Queue()
            process = context.Process(target=measure_memory, args=(name, answer))
            process.start()
            values.append(answer.get())
            process.join()
    print_row("memory above start, MB", {name: min(values) for name, values in found.items()}, 0)


def print_row(what: str, found: dict[str, float], digits: int) -> None:
    """Print both sides and their ratio."""
    plain, ours = found["plain"], found["ours"]
    print(f"{what:32}{plain:10.{digits}f}{ours:10.{digits}f}{ours / plain:8.2f}")


if __name__ == "__main__":
    print(f"{torch.get_num_threads()} threads\n{'':32}{'plain':>10}{'tlkit':>10}{'ratio':>8}")
    compare_times()
    compare_memory()
