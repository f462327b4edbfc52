"""The keyboard guard: all of a widget can be used by keys, and none of them reaches the notebook around it."""

from __future__ import annotations

from pathlib import Path

import anywidget

from tlkit.colors import css_variables

__all__ = ["GUARDED", "KeyboardGuard"]

GUARDED = "tlkit-widget"  # class of the boxes whose controls are guarded; keyboard.js knows it too


class KeyboardGuard(anywidget.AnyWidget):
    """An invisible widget that keeps arrow keys and letters in the controls of all boxes of the class `GUARDED`.

    JupyterLab and Notebook 7 take most keys for their own commands while an output has the focus: in a drop-down list
    the arrow down selects the next cell, and "b" inserts one. `tlkit.widgets.face.Panel` brings a guard along.

    The guard also mends what controls of ipywidgets lack for people without a mouse or a screen: sliders get their
    label as a name, and the headers that unfold a part take Tab and Enter.

    Examples
    --------
    >>> import ipywidgets
    >>> from tlkit.widgets.keyboard import GUARDED, KeyboardGuard
    >>> box = ipywidgets.VBox([ipywidgets.Dropdown(options=["a", "b"]), KeyboardGuard()])
    >>> _ = box.add_class(GUARDED)
    """

    _esm = Path(__file__).with_name("keyboard.js")
    _css = css_variables() + Path(__file__).with_name("keyboard.css").read_text(encoding="utf-8")

    def __repr__(self) -> str:
        return "KeyboardGuard()"
