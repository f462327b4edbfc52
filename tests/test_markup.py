"""Tables as HTML: escaped, with heads that a screen reader finds."""

from __future__ import annotations

from tlkit.markup import Markup, html_row, html_table


def test_texts_are_escaped_and_markup_is_not():
    said = html_row(["<b>&", Markup("<b>bold</b>")], ["", ""])
    assert said == '<tr><td style="">&lt;b&gt;&amp;</td><td style=""><b>bold</b></td></tr>'
    assert '<caption style="text-align:left">a &lt; b</caption>' in html_table([], caption="a < b")


def test_heads_stand_on_the_left_and_may_say_what_they_head():
    assert html_row(["a", 1], ["", ""], heads=1, scope="row") == (
        '<tr><th scope="row" style="">a</th><td style="">1</td></tr>'
    )


def test_a_table_without_a_caption_has_none_and_a_wide_one_scrolls_in_its_place():
    assert html_table(["<tr></tr>"]) == '<table style="border-collapse:collapse"><tr></tr></table>'
    assert html_table([], scrolls=True).startswith('<div style="overflow-x:auto"><table')
