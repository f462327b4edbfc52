"""Controls that several widgets share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets

__all__ = ["WRAPPED", "make_button", "make_toggles"]

WRAPPED = {"flex_flow": "row wrap", "align_items": "center"}  # of a box: beside one another as long as there is room


def make_button(text: str, tooltip: str) -> ipywidgets.Button:
    """Return a button as wide as its text."""
    return ipywidgets.Button(description=text, tooltip=tooltip, layout={"width": "auto"})


def make_toggles(description: str, options: Sequence[Any], *, label: str) -> ipywidgets.ToggleButtons:
    """Return buttons of which one is pressed, the first one now; their label is as wide as `label` says."""
    style = {"description_width": label, "button_width": "auto"}
    layout = {"display": "flex", "flex_flow": "row wrap", "width": "auto"}
    return ipywidgets.ToggleButtons(options=options, description=description, style=style, layout=layout)
