"""Where in the user's code something happens, in words."""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig
import traceback
from pathlib import Path
from types import CodeType

import torch
from torch import nn

__all__ = ["find_failure", "find_current_line"]

# code of torch and of tlkit, and what torch.fx writes: never the line that a user has to look at
MACHINERY = (f"{Path(torch.__file__).parent}{os.sep}", f"{Path(__file__).parents[1]}{os.sep}", "<eval_with_key>")
INSTALLED = tuple({sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")})


def find_failure(error: BaseException) -> tuple[str, type[nn.Module] | None]:
    """Return the line that an error comes from, as words, and the class of the module that it stands in."""
    place, owner = "", None
    for frame, line in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        holder = frame.f_locals.get("self")
        holder = type(holder) if isinstance(holder, nn.Module) else None
        if _is_machinery(code):
            continue
        owner = holder or owner
        if holder or not place or not code.co_filename.startswith(INSTALLED):
            place = _place(code, line, holder)
    return place, owner


def find_current_line() -> str:
    """Return the user's line that runs now; no frame is kept, since frames keep the weights in memory."""
    frame = sys._getframe(1)
    while frame is not None and _is_machinery(frame.f_code):
        frame = frame.f_back
    return "" if frame is None else _place(frame.f_code, frame.f_lineno)


def _is_machinery(code: CodeType) -> bool:
    return code.co_filename.startswith(MACHINERY)


def _place(code: CodeType, line: int, owner: type[nn.Module] | None = None) -> str:
    path = Path(code.co_filename)
    file = "the notebook's cell" if path.parent.name.startswith("ipykernel_") else path.name
    name = f"{owner.__name__}.{code.co_name}" if owner else code.co_name
    text = linecache.getline(code.co_filename, line).strip()
    return f"{file}, line {line}, in {name}{text and f': `{text}`'}"
