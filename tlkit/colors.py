"""The colors of figures, widgets and tables: Okabe and Ito's, which people with any color vision can tell apart."""

from __future__ import annotations

__all__ = [
    "BLACK",
    "CURVES",
    "FOCUS",
    "FROZEN",
    "FROZEN_STRIPE",
    "GRAY",
    "GRID",
    "INK",
    "MUTED",
    "NEUTRAL",
    "RIGHT",
    "RULE",
    "TRAINABLE",
    "WHITE",
    "WRONG",
    "css_variables",
    "translucent",
]

WHITE, BLACK = "#fff", "#000"
FROZEN = "#0072B2"  # always with diagonal hatching and the word
FROZEN_STRIPE = "#00588A"  # the hatching where white words stand on it
TRAINABLE = "#E69F00"  # always plain and with the word
RIGHT = "#009E73"
WRONG = "#D55E00"
NEUTRAL = "#56B4E9"  # a bar that means neither frozen nor trainable
CURVES = (RIGHT, "#CC79A7", BLACK, WRONG, NEUTRAL)  # blue and orange keep their meaning
INK = "#222"
MUTED = "#666"
GRAY = "#808080"  # seen on white and on black
RULE = "#CCCCCC"  # between the cells of a drawn table
GRID = "#DDDDDD"  # behind curves, and where a bar is empty
FOCUS = "#1a73e8"  # around what the keyboard reaches


def css_variables() -> str:
    """Return the colors that style sheets and scripts of widgets name, as CSS variables.

    Examples
    --------
    >>> from tlkit.colors import css_variables
    >>> print(css_variables())
    :root { --tlkit-frozen: #0072B2; --tlkit-trainable: #E69F00; --tlkit-focus: #1a73e8; }
    <BLANKLINE>
    """
    colors = {"frozen": FROZEN, "trainable": TRAINABLE, "focus": FOCUS}
    return f":root {{ {' '.join(f'--tlkit-{name}: {color};' for name, color in colors.items())} }}\n"


def translucent(color: str, opacity: float) -> str:
    """Return a color of six hexadecimal digits as CSS, mixed with the ground: readable on light and dark pages.

    Examples
    --------
    >>> from tlkit.colors import RIGHT, translucent
    >>> translucent(RIGHT, 0.25)
    'rgba(0,158,115,0.25)'
    """
    red, green, blue = bytes.fromhex(color[1:])
    return f"rgba({red},{green},{blue},{opacity})"
