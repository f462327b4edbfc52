"""Single values: whose they are, what they hold, and how those without parts are written."""

from __future__ import annotations

import enum
import functools
import inspect
import io
import json
import logging
import sys
import sysconfig
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "attribute",
    "cells_of",
    "dtype_of",
    "form_of",
    "has_more_than_attributes",
    "importable_name",
    "is_cached_property",
    "is_generated",
    "is_installed",
    "is_of_package",
    "is_pickled",
    "name_of",
    "package_of",
    "plain_text",
    "qualified_name",
    "state_of",
    "what_is_untold",
]

POINTER = np.dtype(np.intp).itemsize
OUTSIDE = ("torch", "torchvision", "timm", "tlkit", "numpy")  # their version is no part of the key
INSTALLED = ("site-packages", "dist-packages", sysconfig.get_path("stdlib"))
WITHOUT_PARTS = (type(None), bool, int, float, complex, type(...), range)
WITHOUT_PARTS += (torch.dtype, torch.layout, torch.memory_format)
UNTOLD = {
    "_thread": "a lock",
    "threading": "a thread or a lock",
    "ctypes": "a ctypes object",
    "_ctypes": "a ctypes object",
    **dict.fromkeys(("concurrent", "mmap", "multiprocessing", "queue"), "a part of this process"),
    **dict.fromkeys(("socket", "subprocess"), "a way to another process"),
    "weakref": "a collection that forgets",
}


# -- whose they are ---------------------------------------------------------------------------------------------------


def is_installed(module: str) -> bool:
    """Say whether a module belongs to Python or to an installed package, and so is known by its name."""
    top = module.partition(".")[0]
    if top in OUTSIDE or top == "builtins":
        return True
    found = sys.modules.get(module) or sys.modules.get(top)
    if found is None or top in ("__main__", "__mp_main__"):
        return False
    file = getattr(found, "__file__", None)
    return any(place in file for place in INSTALLED) if file else top in sys.stdlib_module_names


def is_of_package(function: types.FunctionType) -> bool:
    return is_installed(function.__globals__.get("__name__", ""))


def qualified_name(kind: Any, name: str = "") -> str:
    """Return the full name of what a package holds, with the package's version where that counts."""
    top = kind.__module__.partition(".")[0]
    version = "" if top in OUTSIDE else getattr(sys.modules.get(top), "__version__", "")
    is_python = top in sys.stdlib_module_names
    full = f"{kind.__module__}.{name or kind.__qualname__}"
    return f"{full} {version}" if version and not is_python else full


def importable_name(function: types.FunctionType) -> str | None:
    """Return the full name under which an installed package has a function, if it has one."""
    for name in (function.__qualname__, function.__name__):
        try:
            found = attribute(sys.modules[function.__module__], name)
        except (AttributeError, KeyError):
            continue
        if inspect.unwrap(found) is function or found is function:
            return qualified_name(function, name)
    return None


def package_of(value: Any) -> str:
    owner = getattr(value, "__objclass__", value)
    return getattr(owner, "__module__", None) or "torch"


def name_of(value: Any) -> str:
    return getattr(value, "__name__", type(value).__name__)


def attribute(holder: Any, path: str) -> Any:
    return functools.reduce(getattr, path.split("."), holder)


# -- small things -----------------------------------------------------------------------------------------------------


def plain_text(value: Any) -> str | None:
    """Write down a value that has no parts; None for anything else."""
    kind = type(value)
    if kind in WITHOUT_PARTS:
        return repr(value)
    if kind is str:
        return json.dumps(value)
    if kind in (bytes, bytearray):
        return f"{kind.__name__} {value.hex()}"
    if kind is torch.device:
        return "device"  # where it computes, not what
    if isinstance(value, np.dtype):
        return f"dtype {dtype_of(value)}"
    if isinstance(value, logging.Logger):
        return "logger"
    if kind.__module__ in ("typing", "types") and kind.__name__.endswith(("Alias", "UnionType", "TypeVar")):
        return repr(value)
    if isinstance(value, (np.ufunc, torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
        return f"{kind.__module__}.{value}"
    return None


def dtype_of(dtype: np.dtype) -> str:
    return str(dtype.newbyteorder("="))


def form_of(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"


def state_of(value: Any) -> dict[str, Any] | None:
    """Return an object's attributes, or None where it can have none."""
    slots = [name for kind in type(value).__mro__ for name in _slots_of(kind)]
    if not slots and not hasattr(value, "__dict__"):
        return None
    return {name: getattr(value, name) for name in slots if hasattr(value, name)} | getattr(value, "__dict__", {})


def _slots_of(kind: type) -> Iterator[str]:
    return (
        name
        for name, held in vars(kind).items()
        if isinstance(held, types.MemberDescriptorType) and "__slots__" in vars(kind)
    )


def is_pickled(value: Any) -> bool:
    """Say whether a class of a package says what its objects hold; others may fill in as they go."""
    kind = type(value)
    is_told = kind.__reduce__ is not object.__reduce__ or kind.__reduce_ex__ is not object.__reduce_ex__
    return is_told and is_installed(kind.__module__) and kind is not types.SimpleNamespace


def has_more_than_attributes(value: Any) -> bool:
    """Say whether an object is larger than its attributes: a part of it was written in C."""
    kind = type(value)
    slots = sum(1 for base in kind.__mro__ for _ in _slots_of(base))
    return kind.__basicsize__ > object.__basicsize__ + POINTER * (2 + slots)  # its dict and its weak references


def cells_of(function: types.FunctionType) -> dict[str, Any]:
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if name != "__class__":
            try:
                found[name] = cell.cell_contents
            except ValueError:  # nothing yet
                found[name] = None
    return found


def is_cached_property(value: Any) -> bool:
    return isinstance(value, functools.cached_property)


def is_generated(kind: type, name: str, value: Any) -> bool:
    """Say whether a class got something from a decorator or a base, which follows from its fields."""
    if isinstance(value, (types.MemberDescriptorType, types.GetSetDescriptorType)):
        return True
    function = getattr(value, "__func__", value)
    function = inspect.unwrap(function) if callable(function) else None
    is_function = isinstance(function, types.FunctionType)
    if issubclass(kind, enum.Enum):
        return name in kind.__members__ or not is_function or is_of_package(function)
    if not issubclass(kind, tuple) and not hasattr(kind, "__dataclass_fields__"):
        return False
    made_of_text = is_function and function.__code__.co_filename.startswith("<string")
    return made_of_text or name in ("__hash__", "__replace__", "_field_defaults", "_fields")


def what_is_untold(value: Any) -> str:
    """Return what a value is whose content nobody can tell from outside, or an empty text."""
    if isinstance(value, io.IOBase):
        return "an open file"
    if isinstance(value, (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType)):
        return "a generator"
    if hasattr(type(value), "__next__"):
        return "an iterator"
    return UNTOLD.get(type(value).__module__.partition(".")[0], "")
