"""The notebooks' parameters: what a notebook has, and values typed in a terminal."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tlkit.errors import near_misses, quoted

__all__ = ["ParameterError", "assigned", "cell", "matched", "typed"]


class ParameterError(ValueError):
    """A parameter that no notebook has, or a value of the wrong kind."""


def cell(notebook: Mapping[str, Any]) -> Any:
    """Return the code cell tagged ``parameters``, or None."""
    for candidate in notebook["cells"]:
        if candidate["cell_type"] == "code" and "parameters" in candidate["metadata"].get("tags", ()):
            return candidate
    return None


def assigned(source: str) -> dict[str, Any]:
    """Return the names and values of a parameters cell that assigns literals only.

    Raises
    ------
    ParameterError
        When a line is anything else: a value computed from another would keep its old value under ``-p``.

    Examples
    --------
    >>> from tlkit.course.lessons.parameters import assigned
    >>> assigned("EPOCHS = 3  # passes over the images")
    {'EPOCHS': 3}
    """
    values = {}
    for statement in ast.parse(source).body:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
        try:
            values[target.id] = ast.literal_eval(statement.value)
        except (AttributeError, TypeError, ValueError):
            msg = (
                f"The parameters cell holds {ast.unparse(statement)!r}, which is not a name and a literal. "
                "Compute it in the next cell."
            )
            raise ParameterError(msg) from None
    return values


def typed(name: str, text: str, default: Any) -> Any:
    """Turn text from a terminal into the kind of value that the parameter has.

    A text that leads to a file or a folder from here becomes an absolute path, because a notebook runs in its own
    folder. It needs a path separator or a suffix: ``photos`` stays a word, ``./photos`` and ``photos.tgz`` are places.
    """
    if isinstance(default, str):
        place = Path(text).expanduser()
        is_place = (os.sep in text or "/" in text or place.suffix) and place.exists()
        return str(place.resolve()) if is_place else text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if default is not None and type(value) is not type(default):
        msg = f"{name} is {_kind(default)}, and {text!r} is not. Write it like the default: -p {name} {default!r}."
        raise ParameterError(msg)
    return value


def matched(pairs: Iterable[tuple[str, str]], available: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Deal out ``-p`` pairs: each notebook receives the parameters it has.

    Parameters
    ----------
    pairs
        Name and text, as typed.
    available
        For each notebook's name, its parameters with their defaults.

    Returns
    -------
    dict
        For each notebook's name, the values to pass.

    Raises
    ------
    ParameterError
        When no notebook has a parameter of that name.
    """
    passed: dict[str, dict[str, Any]] = {notebook: {} for notebook in available}
    for name, text in pairs:
        owners = [notebook for notebook, defaults in available.items() if name in defaults]
        if not owners:
            raise ParameterError(_unknown(name, available))
        for notebook in owners:
            passed[notebook][name] = typed(name, text, available[notebook][name])
    return passed


def _unknown(name: str, available: Mapping[str, Mapping[str, Any]]) -> str:
    names = sorted({known for defaults in available.values() for known in defaults})
    where = next(iter(available)) if len(available) == 1 else f"None of the {len(available)} notebooks"
    said = "has no parameter" if len(available) == 1 else "has a parameter"
    close = near_misses(name, names) or near_misses(name.upper(), names)
    return f"{where} {said} {name!r}.{close} The parameters are {quoted(names) or 'none'}."


def _kind(value: Any) -> str:
    kinds = {bool: "True or False", int: "a whole number", float: "a number", list: "a list", tuple: "a tuple"}
    return kinds.get(type(value), f"a {type(value).__name__}")
