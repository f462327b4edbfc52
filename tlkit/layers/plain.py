"""Plain data, as JSON has it, back into the objects that wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from tlkit.errors import near_misses, quoted

__all__ = ["make_from_plain"]

T = TypeVar("T")


def make_from_plain(kinds: Mapping[str, type[T]], key: str, data: Any) -> T:
    """Make an object of one of several classes from its `to_dict`.

    Parameters
    ----------
    kinds : mapping of str to dataclass
        The classes by name.
    key : str
        The field of `data` that names the class; the others are its arguments.

    Raises
    ------
    ValueError
        When there is no such class, or an argument that it does not have or that it needs and lacks.
    """
    kind = data.get(key) if isinstance(data, Mapping) else data
    if not isinstance(kind, str) or kind not in kinds:
        msg = f"There is no {key} {kind!r}.{near_misses(str(kind), kinds)} It is one of {', '.join(kinds)}."
        raise ValueError(msg)
    arguments = {name: value for name, value in data.items() if name != key}
    known = {f.name: f for f in fields(kinds[kind])}
    for name in arguments:
        if name not in known:
            msg = f"{kind} has no argument '{name}'.{near_misses(name, known)} It has {quoted(known) or 'none'}."
            raise ValueError(msg)
    for name, f in known.items():
        if name not in arguments and f.default is MISSING and f.default_factory is MISSING:
            msg = f"{kind} lacks its argument '{name}'."
            raise ValueError(msg)
    return kinds[kind](**arguments)
