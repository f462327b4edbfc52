"""What differs between a feature store and what is asked of it, in words."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tlkit.errors import quoted
from tlkit.memory import counted

__all__ = ["compare_boundaries", "compare_classes", "compare_images", "compare_keys", "write_ranges"]

LONGEST_VALUE = 40
MOST_NAMES = 3


def compare_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say where two nested keys differ.

    The entries under ``"weights"``, one digest for each parameter, are told by the name of their vertex.

    Examples
    --------
    >>> from tlkit.features.differences import compare_keys
    >>> compare_keys({"preprocessing": {"resize": 256}}, {"preprocessing": {"resize": 232}})
    ['preprocessing: resize 256 -> 232']
    """
    found = []
    for name in dict.fromkeys([*old, *new]):
        before, after = old.get(name, {}), new.get(name, {})
        if name == "weights" and isinstance(before, Mapping) and isinstance(after, Mapping):
            found += _weight_differences(before, after)
        else:
            found += _value_differences((name,), old, new)
    return found


def compare_boundaries(old: Mapping[str, Sequence[int]], new: Mapping[str, Sequence[int]]) -> list[str]:
    """Say where two tables of boundary names and shapes differ."""
    gone, came = [name for name in old if name not in new], [name for name in new if name not in old]
    noun = "boundary" if len(came or gone) == 1 else "boundaries"
    found = []
    if gone and came:
        found.append(f"{noun} {quoted(came)} instead of {quoted(gone)}")
    elif gone or came:
        found.append(f"{noun} {quoted(gone or came)} {'removed' if gone else 'added'}")
    for name in new:
        if name in old and tuple(old[name]) != tuple(new[name]):
            found.append(f"boundary '{name}': shape {tuple(old[name])} -> {tuple(new[name])}")
    return found


def compare_images(old: Iterable[tuple[str, Mapping[str, Any]]], new: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    """Count the images that were added, removed, edited, moved and relabeled; each comes as (class, image).

    Images are told apart by their path, and one of the same bytes at another path was moved. Rows without a path are
    told apart by their content.
    """
    old, new = list(old), list(new)
    noun = "image" if any("path" in image for _, image in new) else "row"
    before, after = _by_name(old), _by_name(new)
    names = _renamed(before, after)
    common = [name for name in after if name in before]
    moved = _moved(before, after)
    added, removed = len(after) - len(common) - len(moved), len(before) - len(common) - len(moved)
    edited = sum(before[name][1] != after[name][1] for name in common)
    if noun == "row":
        edited = min(added, removed)
        added, removed = added - edited, removed - edited
    amounts = {
        "added": added,
        "removed": removed,
        "edited": edited,
        "moved or renamed": sum(not _follows(before[one], after[other], names) for one, other in moved),
        "with another label": sum(names.get(before[n][0], before[n][0]) != after[n][0] for n in common),
    }
    parts = [(amount, word) for word, amount in amounts.items() if amount]
    if parts:
        first, *rest = parts
        return ", ".join([f"{counted(first[0], noun)} {first[1]}", *(f"{amount:,} {word}" for amount, word in rest)])
    return f"the {noun}s are in another order" if old != new and not names else ""


def compare_classes(
    old: Iterable[tuple[str, Mapping[str, Any]]], new: Iterable[tuple[str, Mapping[str, Any]]]
) -> list[str]:
    """Say which classes have another name; the rows come as those of `compare_images`."""
    names = _renamed(_by_name(old), _by_name(new))
    noun = "class" if len(names) == 1 else "classes"
    return [f"{noun} renamed: {', '.join(f'{one} -> {other}' for one, other in names.items())}"] if names else []


def write_ranges(numbers: Iterable[int]) -> str:
    """Write whole numbers in short: ``0, 3 to 7``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def _by_name(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[Any, tuple[str, Mapping[str, Any]]]:
    """Find each row by its path, or by its content and which one of the same content it is."""
    seen: Counter[str] = Counter()
    found = {}
    for number, row in enumerate(rows):
        name = row[1].get("path")
        if name is None:
            content = row[1].get("sha256", str(number))
            name, seen[content] = (content, seen[content]), seen[content] + 1
        found[name] = row
    return found


def _moved(before: Mapping[Any, Any], after: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    """Pair the paths that are gone with those that came and hold the same."""
    gone: dict[str, list[Any]] = {}
    for name, (_, image) in before.items():
        if name not in after and "path" in image:
            gone.setdefault(image.get("sha256", ""), []).append(name)
    came = [(name, image.get("sha256")) for name, (_, image) in after.items() if name not in before]
    return [(gone[content].pop(0), name) for name, content in came if gone.get(content)]


def _renamed(before: Mapping[Any, Any], after: Mapping[Any, Any]) -> dict[str, str]:
    """Find the classes that are gone, and whose images are all in one class that has come."""
    old, new = ({label for label, _ in rows.values()} for rows in (before, after))
    pairs = [*((name, name) for name in after if name in before), *_moved(before, after)]
    became: dict[str, set[str]] = {}
    for one, other in pairs:
        became.setdefault(before[one][0], set()).add(after[other][0])
    only = {one: min(others) for one, others in became.items() if len(others) == 1}
    return {one: other for one, other in only.items() if one not in new and other not in old}


def _follows(
    one: tuple[str, Mapping[str, Any]], other: tuple[str, Mapping[str, Any]], names: Mapping[str, str]
) -> bool:
    """Say whether an image has another path only because its class has another name."""
    files = [image["path"].rpartition("/")[2] for _, image in (one, other)]
    return names.get(one[0]) == other[0] and files[0] == files[1]


def _weight_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    words = {"differ": [], "were added": [], "were removed": []}
    for name in dict.fromkeys([*old, *new]):
        vertex = name.rpartition(".")[0] or name
        if name not in old:
            words["were added"].append(vertex)
        elif name not in new:
            words["were removed"].append(vertex)
        elif old[name] != new[name]:
            words["differ"].append(vertex)
    return [f"weights of {_several(dict.fromkeys(names))} {word}" for word, names in words.items() if names]


def _several(names: Iterable[str]) -> str:
    names = list(names)
    if len(names) > MOST_NAMES + 1:
        return f"{', '.join(names[:MOST_NAMES])} and {len(names) - MOST_NAMES} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _value_differences(path: tuple[str, ...], old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    name = path[-1]
    label = ": ".join(path)
    if name not in old or name not in new:
        return [f"{label} {'added' if name in new else 'removed'}"]
    before, after = old[name], new[name]
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        inner = [_value_differences((*path, key), before, after) for key in dict.fromkeys([*before, *after])]
        return [line for lines in inner for line in lines]
    texts = [value if isinstance(value, str) else json.dumps(value, sort_keys=True) for value in (before, after)]
    if texts[0] == texts[1] and type(before) is type(after):
        return []
    if max(map(len, texts)) > LONGEST_VALUE:
        return [f"{label} differs"]
    return [f"{label} {texts[0]} -> {texts[1]}"]
