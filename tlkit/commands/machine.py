"""What there is on this machine: versions, processors, memory, disks, caches."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from tlkit import __version__, memory

__all__ = ["cores", "disk", "folder_bytes", "gpus", "memory_facts", "missing", "processor", "settings", "versions"]

PACKAGES = (
    "torch", "torchvision", "timm", "safetensors", "numpy", "pillow", "onnxruntime", "onnx", "onnxscript",
    "jupyterlab", "ipykernel", "ipywidgets", "matplotlib", "papermill",
)  # fmt: skip
PROCESSORS = Path("/proc/cpuinfo")


def versions() -> dict[str, str | None]:
    """Return the versions of Python, tlkit and what it works with; None for what is not installed."""
    return {"python": platform.python_version(), "tlkit": __version__} | {name: _version(name) for name in PACKAGES}


def missing(*extras: str) -> dict[str, str | None]:
    """Return what tlkit needs, itself and for some of its extras, and the other version that is there, or None."""
    found = {}
    for text in _requirements():
        requirement = Requirement(text)
        wanted = requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)
        )
        there = _version(requirement.name)
        if wanted and not (there and requirement.specifier.contains(there, prereleases=True)):
            found[f"{requirement.name}{requirement.specifier}"] = there
    return found


def processor() -> str:
    """Return the name of the processor."""
    with suppress(OSError):
        named = re.search(r"^model name\s*:\s*(.+)$", PROCESSORS.read_text(), re.MULTILINE)
        if named:
            return named[1].strip()
    return platform.processor() or platform.machine()


def cores() -> dict[str, float]:
    """Return how many processors this machine has, and how many this process may use."""
    there = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    return {"there": there, "usable": min([allowed, *_quotas()])}


def memory_facts() -> dict[str, int | None]:
    """Return what can still be taken, and what the container grants, in bytes."""
    return {"available": memory.available_memory(), "container_limit": _container_limit()}


def disk(folder: Path) -> dict[str, Any]:
    """Return how much is free where a folder lies or would lie, and whether this user may write there."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    return {
        "path": str(folder),
        "free": shutil.disk_usage(existing).free,
        "writable": existing.is_dir() and os.access(existing, os.W_OK | os.X_OK),
    }


def folder_bytes(folder: Path) -> int:
    """Return what the files in a folder take."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


def settings() -> dict[str, str]:
    """Return the environment variables that steer tlkit, without passwords in addresses."""
    found = {name: value for name, value in sorted(os.environ.items()) if name.startswith("TLKIT_")}
    return {name: re.sub("(?<=://)[^/@]*@", "...@", value) for name, value in found.items()}


def gpus() -> list[dict[str, Any]]:
    """Return the GPUs that torch can use."""
    import torch

    found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return [{"name": each.name, "memory": each.total_memory} for each in found]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _requirements() -> list[str]:
    try:
        lines = requires("tlkit") or []
    except PackageNotFoundError:  # run from its folder, without being installed
        return []
    return [line for line in lines if not line.startswith("tlkit")]


def _quotas() -> list[float]:
    """How many processors' time the control groups grant; both generations of Linux containers."""
    found = []
    with suppress(OSError, ValueError):
        quota, period = (memory.CONTROL_GROUPS / "cpu.max").read_text().split()
        found.append(int(quota) / int(period))
    with suppress(OSError, ValueError):
        folder = memory.CONTROL_GROUPS / "cpu"
        quota, period = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        found += [quota / period] if quota > 0 else []
    return found


def _container_limit() -> int | None:
    for file in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            limit = int((memory.CONTROL_GROUPS / file).read_text())
            if limit < sys.maxsize // 2:  # the older generation writes a very large number where there is no limit
                return limit
    return None
