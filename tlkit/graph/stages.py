"""Stages: the vertices of a network in groups that a person would name, such as VGG16's block1 to block5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

__all__ = ["label_stage", "group_stages"]

LARGEST = 6  # vertices; a larger stage is divided where the size of the pictures changes


def group_stages(shapes: Mapping[str, Sequence[int]]) -> list[tuple[str, ...]]:
    """Group consecutive vertices by the part of their names before the last underscore.

    Parameters
    ----------
    shapes : mapping of str to sequence of int
        Names of the vertices in order, and the shape of one example at each.

    Examples
    --------
    >>> from tlkit.graph.stages import group_stages
    >>> group_stages({"block1_conv1": (64, 8, 8), "block1_pool": (64, 4, 4), "flatten": (1024,), "fc1": (10,)})
    [('block1_conv1', 'block1_pool'), ('flatten',), ('fc1',)]
    """
    found = []
    for _, group in groupby(shapes, key=_stem):
        names = tuple(group)
        if len(names) <= LARGEST:
            found.append(names)
        else:
            found += [tuple(part) for _, part in groupby(names, key=lambda name: tuple(shapes[name])[1:])]
    return found


def label_stage(names: Sequence[str], whole: bool = True) -> str:
    """Name a stage, or with ``whole=False`` the part of it that `names` are.

    Examples
    --------
    >>> from tlkit.graph.stages import label_stage
    >>> label_stage(["block5_conv1", "block5_conv2"]), label_stage(["block5_conv1", "block5_conv2"], whole=False)
    ('block5', 'block5 conv1–conv2')
    """
    if len(names) == 1:
        return names[0]
    stem = _stem(names[0])
    return stem if whole else f"{stem} {names[0][len(stem) + 1 :]}–{names[-1][len(stem) + 1 :]}"


def _stem(name: str) -> str:
    return name.rsplit("_", 1)[0] or name
