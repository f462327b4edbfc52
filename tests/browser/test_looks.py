"""Every widget in both themes and at 125% zoom: all of it is there, and can be read."""

from __future__ import annotations

import pytest
from legibility import hard_to_read, out_of_place, unnamed
from touching import LABELS, change_the_head, start_and_stop

pytestmark = pytest.mark.browser

NOTEBOOK = "widgets.ipynb"
THEMES = ("JupyterLab Light", "JupyterLab Dark")
SCREENS = {"plain": (1280, 4000), "zoomed": (1024, 4000)}  # at 125% as many pixels as 1280 are without; high ones


@pytest.fixture(scope="module")
def used(open_notebook):
    """The small notebook in JupyterLab, its widgets used and unfolded."""
    notebook = open_notebook(NOTEBOOK)
    change_the_head(notebook)
    start_and_stop(notebook)
    for label in LABELS.values():
        notebook.unfold(notebook.widget(label))
    yield notebook
    notebook.use_theme(THEMES[0])  # a setting, which other pages share


@pytest.fixture(scope="module", params=THEMES)
def theme(request, used):
    """One of JupyterLab's themes."""
    used.use_theme(request.param)
    return request.param


@pytest.fixture(scope="module", params=SCREENS)
def notebook(request, used, theme):
    """The notebook in a theme and at a zoom, on a screen on which every widget has room."""
    used.use_screen(*SCREENS[request.param])
    return used


@pytest.mark.parametrize("widget", LABELS)
def test_everything_is_in_its_place_and_readable(notebook, widget):
    found = notebook.widget(LABELS[widget])
    assert out_of_place(found) == []
    assert hard_to_read(found) == []


@pytest.mark.parametrize("widget", LABELS)
def test_controls_have_names_and_pictures_have_texts(used, widget):
    assert unnamed(used.widget(LABELS[widget])) == []


# the checks themselves


PAGE = """<div class="tlkit-widget" style="width: 400px; background: #fff; font: 14px sans-serif">%s</div>"""


@pytest.fixture
def shown(browser):
    """A function that shows HTML as a widget on an empty page."""
    page = browser.new_page()

    def show(html):
        page.set_content(PAGE % html)
        return page.locator(".tlkit-widget")

    yield show
    page.close()


@pytest.mark.parametrize(
    ("html", "ink"),
    [
        ("<p style='color: #999'>pale</p>", "pale"),
        ("<p style='color: #000; opacity: 0.4'>faint</p>", "faint"),
        ("<p style='background: #222; color: #333'>dark</p>", "dark"),
        ("<svg><text y='20' fill='#aaa'>drawn</text></svg>", "drawn"),
        (
            "<p style='background: repeating-linear-gradient(135deg, #fff, #fff 5px, #333 5px, #333 10px)'>barred</p>",
            "barred",
        ),
    ],
)
def test_words_that_are_hard_to_read_are_found(shown, html, ink):
    (found,) = hard_to_read(shown(html + "<p>good <b>bold</b></p>"))
    assert found.startswith(f"'{ink}'")


@pytest.mark.parametrize(
    ("html", "what"),
    [
        ("<p style='width: 3000px; text-align: right'>far</p>", "sticks out of the output: far"),
        (
            "<p style='width: 20px; overflow: hidden; white-space: nowrap'>a long line</p>",
            "cut off at its side: a long line",
        ),
        ("<p style='height: 8px; overflow: hidden'>low</p>", "cut off below: low"),
        ("<p style='margin: 0'>one</p><p style='margin: -12px 0 0'>two</p>", "on each other: one / two"),
    ],
)
def test_what_is_out_of_place_is_found(shown, html, what):
    assert out_of_place(shown(html)) == [what]


def test_controls_without_names_are_found(shown):
    assert unnamed(shown("<button>Go</button><button></button><img src='x'><input aria-label='a'>")) == [
        "button",
        "img",
    ]


def test_what_is_readable_and_in_its_place_is_left_alone(shown):
    widget = shown(
        "<p style='background: #0072B2; color: #fff'>fine</p><div style='overflow-x: auto'>" + "wide " * 200 + "</div>"
    )
    assert out_of_place(widget) == hard_to_read(widget) == []
