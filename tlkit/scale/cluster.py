"""Ray's processes: started for this process alone, or connected to."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from tlkit.memory import counted

if TYPE_CHECKING:
    from tlkit.scale.engine import Ray

__all__ = ["connect", "silence", "require_ray", "stop"]

ATTEMPTS = 3  # on a busy machine a start of Ray may fail
HOPELESS = ("AuthenticationError", "ValueError")  # no token, or an address that is none: the next attempt ends alike
PAUSE = 2.0  # seconds before the second attempt; doubled before the third
OBJECT_STORE = 256 * 1000**2  # bytes; features never pass through it

# of a cluster that is started here; those of an existing one are its own. Asking for a token is Ray's default then.
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


def connect(settings: Ray) -> ModuleType:
    """Return the module `ray`, connected to a cluster; what this process is connected to already is kept.

    Raises
    ------
    ConnectionError
        When it could not be reached or started in a few attempts, or in one that others would not better.
    """
    address = settings.address or os.environ.get("RAY_ADDRESS")
    own = address in (None, "local")
    if own:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return ray
    tried = 0
    while True:
        tried += 1
        try:
            if own:
                _start(ray, settings)
            else:
                ray.init(address, log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # Ray raises anything here, plain Exceptions among them
            ray.shutdown()
            if tried == ATTEMPTS or type(error).__name__ in HOPELESS:
                raise ConnectionError(_why(address, own, tried, error)) from error
        else:
            return ray
        time.sleep(PAUSE * 2 ** (tried - 1))


def _start(ray: ModuleType, settings: Ray) -> None:
    """Start a cluster of this machine alone, which nobody else reaches."""
    needed = settings.workers * settings.cpus_per_worker
    with _private_token(), _loopback(), _silenced():  # it would tell of the settings above
        ray.init(
            "local",  # without it Ray would take a cluster that somebody started here
            # one more than the workers take, for Ray's own tasks
            num_cpus=max(os.cpu_count() or 1, needed + 1),
            object_store_memory=OBJECT_STORE,
            include_dashboard=False,
            dashboard_host="127.0.0.1",  # should it be asked for by other ways
            log_to_driver=False,
            logging_level="ERROR",
        )


def _why(address: str | None, own: bool, tried: int, error: Exception) -> str:
    what = "Ray could not be started" if own else f"The Ray cluster at '{address}' could not be reached"
    last = "It ended" if tried == 1 else "The last one ended"
    reason = f"{type(error).__name__}: {' '.join(str(error).split()).rstrip('.')}"
    if type(error).__name__ == "AuthenticationError":
        todo = "Give this machine the cluster's token: in the variable RAY_AUTH_TOKEN, with RAY_AUTH_MODE=token"
    elif own:
        todo = "Try again when the machine is less busy"
    else:
        todo = "See whether it runs, and whether this machine reaches its ports: ray status"
    return (
        f"{what} in {counted(tried, 'attempt')}. {last} with: {reason}. {todo}. Or work without engine=: one process "
        "does the same."
    )


@contextmanager
def _private_token() -> Iterator[None]:
    """Let nobody else on this machine read the token, which Ray writes as it writes any file."""
    folder = Path.home() / ".ray"
    with suppress(OSError):  # a home that may not be written: Ray will say so
        folder.mkdir(mode=0o700, exist_ok=True)
    yield
    with suppress(OSError):
        (folder / "auth_token").chmod(0o600)


@contextmanager
def _loopback() -> Iterator[None]:
    """Let all of Ray's processes listen on 127.0.0.1 only, as it does by itself on Windows and macOS."""
    constants = sys.modules.get("ray._private.ray_constants")
    before = getattr(constants, "ENABLE_RAY_CLUSTER", None)
    if before is None:
        yield
        return
    constants.ENABLE_RAY_CLUSTER = False  # the address 127.0.0.1 is replaced by the machine's own, unless this is set
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def stop() -> None:
    """End or leave the cluster, if this process has one."""
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


@contextmanager
def silence(name: str) -> Iterator[None]:
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
