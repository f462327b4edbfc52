"""``python -m tlkit doctor``: what will work on this machine, and what won't."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tlkit.commands import machine
from tlkit.commands.output import say, say_facts
from tlkit.files import downloads
from tlkit.memory import readable_size

__all__ = ["Finding", "examine", "run"]

# What the default notebooks stay under (tlkit.course.lessons.costs), and the room for the flowers that are drawn for
# them and for what they write.
NOTEBOOK_MEMORY, NOTEBOOK_DISK = 1_500_000_000, 200_000_000

VGG16_MEMORY = 1_500_000_000  # the peak of `featurize --backbone vgg16 --boundary fc2` on 2 cores

PROBE = 8  # pictures
PHOTOS = 3_670  # in TensorFlow's flower photos


@dataclass(frozen=True)
class Finding:
    """One sentence about what works here.

    Parameters
    ----------
    works : bool
    sentence : str
        What works, or what does not and what to do about it.
    needed : bool
        Whether the default notebooks need it.
    """

    works: bool
    sentence: str
    needed: bool = False


def run(options: Namespace) -> int:
    """Describe this machine, and return 1 when something is missing that the default notebooks need."""
    found = examine()
    if options.json:
        say(json.dumps(found, indent=1))
    else:
        _say(found)
    return 0 if found["ok"] else 1


def examine() -> dict[str, Any]:
    """Return what there is on this machine, and what that means, as plain data."""
    facts = {
        "memory": machine.memory_facts(),  # first: torch and a network will take some
        "versions": machine.versions(),
        "disk": {"home": machine.disk(downloads.home()), "here": machine.disk(Path.cwd())},
        "caches": {name: machine.folder_bytes(folder) for name, folder in _caches().items() if folder.is_dir()},
        "settings": machine.settings(),
    }
    findings = [_requirements()]
    facts["device"], speed = None, None
    if all(facts["versions"][name] for name in ("torch", "torchvision", "timm")):
        facts["device"] = _device()
        speed, finding = _default_network()
        findings += [finding, *_computing(facts, speed)]
    facts["milliseconds_a_picture"] = speed
    findings += [*_memory(facts["memory"]["available"]), *_disk(facts["disk"]), *_files(facts["disk"]["home"]["free"])]
    facts["findings"] = [asdict(finding) for finding in findings]
    facts["ok"] = all(finding.works for finding in findings if finding.needed)
    return facts


def _caches() -> dict[str, Path]:
    return {str(folder): folder for folder in (downloads.home() / "images", downloads.home() / "weights")}


def _device() -> dict[str, Any]:
    import torch

    cores = machine.cores()
    return {
        "processor": machine.processor(),
        "cores": cores["there"],
        "usable_cores": cores["usable"],
        "torch_threads": torch.get_num_threads(),
        "gpus": machine.gpus(),
    }


# -- what it means --------------------------------------------------------------------------------------------------


def _requirements() -> Finding:
    lacking = machine.missing("notebooks")
    if lacking:
        sentence = "; ".join(f"{wanted}, and here is {there or 'none'}" for wanted, there in lacking.items())
        repair = f"pip install --upgrade {' '.join(map(repr, lacking))}"
        return Finding(False, f"The notebooks need {sentence}. Install what is lacking: {repair}", needed=True)
    return Finding(True, "All packages that the notebooks need are installed, and new enough.", needed=True)


def _default_network() -> tuple[float | None, Finding]:
    """Run the notebooks' own network over some pictures, and return the milliseconds that one takes."""
    from tlkit import zoo

    try:
        speed = _milliseconds()
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        return None, Finding(False, f"The default network {zoo.DEFAULT} cannot run: {error}", needed=True)
    sentence = f"The default network {zoo.DEFAULT} is there with its ImageNet weights, and runs without a download."
    return speed, Finding(True, sentence, needed=True)


def _milliseconds() -> float:
    import torch

    from tlkit import zoo
    from tlkit.helper import TransferLearningHelper
    from tlkit.training.loop import device

    net = zoo.load().to(device())
    helper = TransferLearningHelper(net, net.landmarks.penultimate)
    pictures = torch.randint(256, (PROBE, *net.input_shapes[net.inputs[0]]), dtype=torch.uint8)
    helper.featurize(pictures, engine="torch")  # the first time takes longer
    start = time.perf_counter()
    helper.featurize(pictures, engine="torch").cpu()
    return round(1000 * (time.perf_counter() - start) / PROBE, 2)


def _computing(facts: dict[str, Any], speed: float | None) -> Iterator[Finding]:
    device, versions = facts["device"], facts["versions"]
    if device["gpus"]:
        first = device["gpus"][0]
        yield Finding(
            True, f"The GPU {first['name']} ({readable_size(first['memory'])}) is used where DEVICE is 'auto'."
        )
    else:
        yield Finding(
            False, "There is no GPU that torch can use: everything runs on the processor. No notebook needs one."
        )
    if speed:
        yield Finding(
            True,
            f"The default network takes {speed:,.3g} ms a picture with torch, measured just now: for the {PHOTOS:,} "
            f"flower photos {_duration(speed / 1000 * PHOTOS)}. Reading them comes on top.",
        )
    threads, cores = device["torch_threads"], device["usable_cores"]
    if threads > cores + 0.5:
        repair = f"Set OMP_NUM_THREADS={max(1, int(cores))} before Python starts."
        yield Finding(False, f"torch uses {threads} threads on {cores:g} cores, and they wait for each other. {repair}")
    absent = [name for name in ("onnx", "onnxruntime", "onnxscript") if not versions[name]]
    if absent:
        repair = f"pip install {' '.join(absent)}"
        yield Finding(False, f"Featurizing with ONNX Runtime, faster on a processor, needs more packages: {repair}")
    else:
        yield Finding(True, f"Featurizing on the processor can use ONNX Runtime {versions['onnxruntime']}.")


def _memory(available: int) -> Iterator[Finding]:
    there = f"{readable_size(available)} are available"
    enough = available >= NOTEBOOK_MEMORY
    repair = "." if enough else ": close other programs, and the kernels of other notebooks."
    yield Finding(
        enough, f"A default notebook takes up to {readable_size(NOTEBOOK_MEMORY)} of memory, and {there}{repair}", True
    )
    enough = available >= VGG16_MEMORY
    repair = "." if enough else ": take an earlier boundary, or another backbone."
    yield Finding(enough, f"VGG16 up to 'fc2' takes about {readable_size(VGG16_MEMORY)} of memory, and {there}{repair}")


def _disk(disks: dict[str, dict[str, Any]]) -> Iterator[Finding]:
    home, here = disks["home"], disks["here"]
    if not home["writable"]:
        sentence = f"'{home['path']}' cannot be written to, and the drawn flowers go there."
        yield Finding(False, f"{sentence} Name another folder: TLKIT_HOME=...", needed=True)
    elif home["free"] < NOTEBOOK_DISK:
        need, free = readable_size(NOTEBOOK_DISK), readable_size(home["free"])
        sentence = (
            f"The default notebooks need {need} for pictures and features, and {free} are free in '{home['path']}'."
        )
        yield Finding(False, f"{sentence} Make room, or name another folder: TLKIT_HOME=...", needed=True)
    else:
        yield Finding(True, f"There is room for the drawn flowers in '{home['path']}'.", needed=True)
    if not here["writable"]:
        sentence = (
            f"The current folder '{here['path']}' cannot be written to: notebooks in it cannot save what they make."
        )
        yield Finding(False, sentence)


def _files(free: int) -> Iterator[Finding]:
    """Say for what must be downloaded once whether it is there, and if not, whether it can come."""
    needed = (("VGG16's weights", "vgg16", downloads.VGG16), ("The flower photos", "photos", downloads.FLOWER_PHOTOS))
    for what, name, remote in needed:
        size = readable_size(remote.size)
        mirror, urls = downloads.find_sources(remote)
        if remote.path.is_file() and remote.path.stat().st_size == remote.size:
            yield Finding(True, f"{what} are there: {remote.path}.")
        elif not mirror and not urls:
            sentence = f"{what} ({size}) are not there, and TLKIT_OFFLINE forbids to download them."
            yield Finding(False, f"{sentence} Put the file at {remote.path}.")
        elif free < 2 * remote.size:
            sentence = f"{what} ({size}) are not there, and there is room for {readable_size(free)} only."
            yield Finding(False, f"{sentence} Make room, or name another folder: TLKIT_HOME=...")
        else:
            source = "from TLKIT_MIRROR" if mirror else "which needs a network"
            ahead = f"Ahead of time: python -m tlkit fetch {name}"
            yield Finding(True, f"{what} ({size}) are not there: the first use fetches them, {source}. {ahead}")


# -- saying it ------------------------------------------------------------------------------------------------------


def _say(found: dict[str, Any]) -> None:
    memory, device = found["memory"], found["device"]
    limit = memory["container_limit"]
    lines = {
        "versions": _wrapped([f"{name} {number}" for name, number in found["versions"].items() if number]),
        "memory": f"{readable_size(memory['available'])} available"
        + (f", the container's limit is {readable_size(limit)}" if limit else ""),
        "disk": [
            f"{readable_size(disk['free'])} free in {disk['path']} ({words})"
            for disk, words in zip(found["disk"].values(), ("TLKIT_HOME", "the current folder"), strict=True)
        ],
        "caches": [f"{readable_size(size)} in {path}" for path, size in found["caches"].items()] or "none yet",
        "settings": [f"{name}={value}" for name, value in found["settings"].items()] or "no TLKIT_ variable is set",
    }
    if device:
        cores = f"{device['usable_cores']:g} of {device['cores']} cores usable"
        lines["device"] = [f"{device['processor']}, {cores}, {device['torch_threads']} torch threads"]
        lines["device"] += [f"GPU {gpu['name']}, {readable_size(gpu['memory'])}" for gpu in device["gpus"]]
    say_facts(lines)
    say()
    for finding in found["findings"]:
        mark = "yes " if finding["works"] else "NO  " if finding["needed"] else "no  "
        say(f"{mark} {finding['sentence']}")
    say()
    say("The default notebooks can run." if found["ok"] else "The default notebooks cannot run yet: see NO above.")


def _wrapped(words: list[str], most: int = 5) -> list[str]:
    return [", ".join(words[start : start + most]) for start in range(0, len(words), most)]


def _duration(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} minutes"
