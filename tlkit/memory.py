"""How much memory there is, and amounts in words."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["available_memory", "counted", "give_back", "readable_size"]

CONTROL_GROUPS = Path("/sys/fs/cgroup")
MEMORY_INFO = Path("/proc/meminfo")


def available_memory() -> int:
    """Return the bytes that this process can still take, of the machine or of its container, whichever has less."""
    return max(0, min([_machine(), *_containers()]))


def give_back() -> None:
    """Return memory to the system that is free but kept for later, where the C library is glibc.

    It keeps hundreds of megabytes behind work on large tensors; in a small container that is what the next step lacks.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library, such as musl
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def readable_size(size: float) -> str:
    """Write a number of bytes for people.

    Examples
    --------
    >>> from tlkit.memory import readable_size
    >>> readable_size(184_000_000)
    '184 MB'
    >>> readable_size(1536)
    '1.5 kB'
    """
    units = ("bytes", "kB", "MB", "GB", "TB", "PB")
    power = 0
    while round(size) >= 1000 and power < len(units) - 1:
        size, power = size / 1000, power + 1
    number = f"{size:.0f}" if power == 0 or size >= 99.95 else f"{size:.1f}"
    return f"{number} {units[power]}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """Write a number of things: ``1 image``, ``3,670 images``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _machine() -> int:
    try:
        fields = dict(line.split(":", 1) for line in MEMORY_INFO.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:  # macOS tells only what is built in
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, OSError, ValueError):
        return 4 * 1024**3  # Windows


def _containers() -> list[int]:
    """What the control groups of this process leave it; both generations of Linux containers, e.g. Binder's."""
    left = []
    for folder, limit, used, idle in (
        (CONTROL_GROUPS, "memory.max", "memory.current", "inactive_file"),
        (CONTROL_GROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            free = int((folder / limit).read_text()) - int((folder / used).read_text())
            statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            left.append(free + int(statistics.get(idle, 0)))  # the system gives cached files up first
        except (OSError, ValueError):
            continue
    return left
