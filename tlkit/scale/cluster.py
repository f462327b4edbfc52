"""Ray's processes: started for this process alone, or connected to."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tlkit.scale.engine import Ray

__all__ = ["connected", "quiet", "require_ray", "stop"]

ATTEMPTS = 3  # on a busy machine a start of Ray may fail
PAUSE = 2.0  # seconds before the second attempt; doubled before the third
OBJECT_STORE = 256 * 1000**2  # bytes; features never pass through it

# of a cluster that is started here; those of an existing one are its own. Asking for a token is Ray's default.
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # what Ray's own processes write would stand between a notebook's lines
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # workers without a GPU see what this process sees
}


def require_ray() -> None:
    """Raise an ImportError that says what to install, unless Ray is there."""
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("pyarrow") is None:
        msg = "tl.scale.Ray needs Ray, which is not installed here. Install it with: pip install 'tlkit[ray]'"
        raise ImportError(msg)


def connected(settings: Ray) -> ModuleType:
    """Return the module `ray`, connected to a cluster; what this process is connected to already is kept.

    Raises
    ------
    ConnectionError
        When it could not be reached or started in a few attempts.
    """
    own = settings.address is None and "RAY_ADDRESS" not in os.environ
    if own:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return ray
    last: Exception | None = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            with _silenced() if own else nullcontext():  # it would tell of the settings above
                ray.init(
                    settings.address, log_to_driver=False, logging_level="ERROR", **(_own(settings) if own else {})
                )
        except Exception as error:  # Ray raises anything here, plain Exceptions among them
            ray.shutdown()
            last = error
        else:
            return ray
    what = "Ray could not be started" if own else f"The Ray cluster at '{settings.address}' could not be reached"
    reason = " ".join(str(last).split())
    msg = (
        f"{what} in {ATTEMPTS} attempts. The last one ended with: {type(last).__name__}: {reason}. "
        "Try again when the machine is less busy, or work without engine=: one process does the same."
    )
    raise ConnectionError(msg) from last


def _own(settings: Ray) -> dict[str, object]:
    needed = settings.workers * settings.cpus_per_worker
    return {
        # one more than the workers take, for Ray's own tasks
        "num_cpus": max(os.cpu_count() or 1, needed + 1),
        "object_store_memory": OBJECT_STORE,
        "include_dashboard": False,
        "dashboard_host": "127.0.0.1",  # should it be asked for by other ways
    }


def stop() -> None:
    """End or leave the cluster, if this process has one."""
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Keep a part of Ray from writing between a notebook's lines, unless something failed."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _silenced() -> Iterator[None]:
    """Throw away what Ray's libraries, which are not written in Python, write to the standard error."""
    sys.stderr.flush()
    before, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nothing)
