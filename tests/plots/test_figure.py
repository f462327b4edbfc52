"""The look of all figures: small, described in words, and drawn without global state."""

from __future__ import annotations

import base64
import io
import threading
from html.parser import HTMLParser

import pytest
from drawings import Photos, history, texts, vgg16
from matplotlib import pyplot
from PIL import Image

from tlkit import plots
from tlkit.plots.figure import Picture, shorten, text_width
from tlkit.plots.strip import draw_strip


@pytest.fixture(scope="module")
def pictures(evaluation) -> dict[str, Picture]:
    return {
        "grid": plots.image_grid(Photos(), probabilities=evaluation.probabilities),
        "curves": plots.learning_curves({"transferred": history(0.9), "from scratch": history(0.4)}, batch_size=15),
        "losses": plots.learning_curves(history(0.9, 500), show="loss"),
        "confusion": plots.confusion_matrix(evaluation),
        "strip": draw_strip(vgg16("fc2"), boundary="fc2"),
        "bars": plots.bars({"from scratch": 31.0, "transferred": 92.7}, "Transfer triples the accuracy", unit="%"),
    }


@pytest.mark.parametrize("name", ["grid", "curves", "losses", "confusion", "strip", "bars"])
def test_a_picture_is_small_white_16_cm_wide_and_titled_with_its_message(pictures, name):
    picture = pictures[name]
    image = Image.open(io.BytesIO(picture.encoded[1]))
    assert image.width == 630
    assert len(picture.encoded[1]) < (100_000 if name == "grid" else 60_000)
    assert image.convert("RGB").getpixel((image.width - 1, 0)) == (255, 255, 255)
    title = " ".join(picture.figure.texts[0].get_text().split("\n"))
    assert picture.alt.startswith(title)
    assert len(picture.alt) > len(title)


@pytest.mark.parametrize("name", ["grid", "curves", "losses", "confusion", "strip", "bars"])
def test_no_letter_is_smaller_than_10_points_or_cut_off(pictures, name):
    picture = pictures[name]
    picture.figure.draw_without_rendering()
    width, height = picture.figure.bbox.width, picture.figure.bbox.height
    axes = picture.figure.axes[0]
    written = [*picture.figure.texts, *axes.texts]
    if axes.axison:
        written += [axes.xaxis.label, axes.yaxis.label, *axes.get_xticklabels(), *axes.get_yticklabels()]
    for text in (text for text in written if text.get_text()):
        assert text.get_fontsize() >= 10
        box = text.get_window_extent()
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= width, text
        assert box.y1 <= height, text


def test_a_notebook_gets_image_html_and_a_stable_text():
    picture = plots.bars({"a": 1}, 'The <b>title</b> says "it"')
    data, metadata = picture._repr_mimebundle_(include=None, exclude=None)
    assert set(data) == {"image/png", "text/html", "text/plain"}
    assert base64.b64decode(data["image/png"]) == picture.encoded[1]
    assert metadata == {"image/png": {"alt": picture.alt}}
    assert data["text/plain"] == "Picture('Bars: a')"

    tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append((tag, dict(attributes)))
    parser.feed(data["text/html"])
    [(tag, attributes)] = tags
    assert tag == "img"
    assert attributes["alt"] == picture.alt == 'The <b>title</b> says "it". Bars: a 1.'
    assert attributes["src"] == "data:image/png;base64," + data["image/png"]


def test_the_text_of_a_picture_holds_no_measured_numbers():
    one, other = (plots.learning_curves({"run": history(best)}) for best in (0.5, 0.9))
    assert repr(one) == repr(other)
    assert one.alt != other.alt


def test_pyplot_knows_nothing_of_the_figures_and_its_styles_do_not_reach_them(pictures):
    assert pyplot.get_fignums() == []
    with pyplot.style.context("dark_background"):
        dark = draw_strip(vgg16("fc2"), boundary="fc2").encoded[1]
        curves = plots.learning_curves(history(0.9, 500), show="loss").encoded[1]
    assert dark == pictures["strip"].encoded[1]
    assert curves == pictures["losses"].encoded[1]
    assert pyplot.get_fignums() == []


@pytest.mark.slow
def test_threads_draw_at_the_same_time(pictures):
    drawn = {}

    def draw(number: int) -> None:
        drawn[number] = draw_strip(vgg16("fc2"), boundary="fc2").encoded[1]

    threads = [threading.Thread(target=draw, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert drawn == dict.fromkeys(range(4), pictures["strip"].encoded[1])


def test_a_picture_is_saved_as_png_and_as_svg(pictures, tmp_path):
    pictures["bars"].save(tmp_path / "bars.png")
    pictures["bars"].save(tmp_path / "bars.svg")
    assert Image.open(tmp_path / "bars.png").width == 630
    assert "<svg" in (tmp_path / "bars.svg").read_text()


def test_names_start_no_formula_and_long_ones_are_cut():
    long = "yellow lady's slipper, yellow lady-slipper, Cypripedium calceolus"
    picture = plots.bars({"$x^2$": 3, long: 2}, "Costs $5 and $6")
    assert "$x^2$" in texts(picture)
    assert not any(text.get_parse_math() for text in [*picture.figure.texts, *picture.figure.axes[0].texts])
    assert any(text.endswith("…") and long.startswith(text[:-1]) for text in texts(picture))
    assert len(picture.encoded[1]) > 1000
    assert text_width(shorten(long, 120)) <= 120
    assert shorten("daisy", 120) == "daisy"
