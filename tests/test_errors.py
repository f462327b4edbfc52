from __future__ import annotations

import pytest

from tlkit.errors import near_misses, printable, quoted


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("rose", "rose"),
        ("na\u00efve\u3000\u2603\U0001f469\u200d\U0001f33e", "na\u00efve\u3000\u2603\U0001f469\u200d\U0001f33e"),
        ("\x1b[31mrose\x07", r"\x1b[31mrose\x07"),
        ("ro\nse\r\t\u2028", r"ro\nse\r\t\u2028"),
        ("\u202eesor\u2066", r"\u202eesor\u2066"),
        ("\x9b31m\x7f\udce9\ufeff", r"\x9b31m\x7f\udce9\ufeff"),
        (r"C:\roses", r"C:\roses"),
        (7, "7"),
    ],
)  # fmt: skip
def test_a_name_is_shown_without_steering_the_terminal(name, shown):
    assert printable(name) == shown


def test_a_long_name_keeps_its_ends():
    shown = printable("a" * 40_000 + "z" * 40_000)
    assert len(shown) == 200
    assert shown.startswith("aaa")
    assert "a...z" in shown
    assert printable("a" * 300, None) == "a" * 300


def test_sentences_about_names_hold_no_escape_sequences():
    assert quoted(["ro\x1b[31mse", "tu\nlip"]) == r"'ro\x1b[31mse' and 'tu\nlip'"
    assert near_misses("rose", ["rose\x1b"]) == r" Did you mean 'rose\x1b'?"
