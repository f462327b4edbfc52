"""The exercises of the notebooks, a module for each; importing this package registers their checks."""

from __future__ import annotations

from tlkit.course.exercises import (
    notebook_00,
    notebook_01,
    notebook_02,
    notebook_03,
    notebook_04,
    notebook_05,
    notebook_06,
    notebook_07,
    notebook_08,
    notebook_09,
    notebook_10,
    notebook_11,
    notebook_12,
    notebook_13,
)

__all__ = [
    "notebook_00",
    "notebook_01",
    "notebook_02",
    "notebook_03",
    "notebook_04",
    "notebook_05",
    "notebook_06",
    "notebook_07",
    "notebook_08",
    "notebook_09",
    "notebook_10",
    "notebook_11",
    "notebook_12",
    "notebook_13",
]
