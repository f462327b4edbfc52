"""HTML that stands still: escaped, and readable where styles are dropped."""

from __future__ import annotations

import pytest

pytest.importorskip("ipywidgets")

from tlkit.widgets.face import code_block, drawn_row, error, facts, headline, note, table


@pytest.mark.parametrize("make", [code_block, error, headline, note, lambda text: facts([(text, text)])])
def test_texts_are_escaped(make):
    assert "a &lt; b" in make("a < b")


def test_an_error_says_so_in_a_word():
    assert "<b>Error:</b>" in error("No.")


def test_numbers_stand_on_the_right_words_on_the_left_and_shares_are_bars():
    shown = table(["class", "share", ""], [("daisy", "50%", 0.5)], words=["class", ""], caption="A < B")
    assert shown.count("text-align:left") == 1 + 4  # caption, and head and cell of two columns
    assert "width:50%" in shown
    assert shown.count('scope="col"') == 3
    assert "A &lt; B</caption>" in shown


def test_a_drawn_row_has_a_caption_and_one_cell_for_each_text():
    assert drawn_row("Parts.", ["a", "b"], ["color:red", "color:blue"]).count("<td") == 2
