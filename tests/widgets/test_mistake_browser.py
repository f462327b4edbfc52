"""MistakeBrowser: what a network gets wrong, the worst first, chosen by cell."""

from __future__ import annotations

import re

import pytest
import torch
from PIL import Image

import tlkit as tl
from tlkit.widgets import MistakeBrowser

VIEW = "application/vnd.jupyter.widget-view+json"
CLASSES = ("daisy", "roses", "tulips")
PER_CLASS = 20


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flowers")
    for name, color in zip(CLASSES, ("white", "red", "orange"), strict=True):
        (folder / name).mkdir()
        for number in range(PER_CLASS):
            Image.new("RGB", (20 + number, 20), color).save(folder / name / f"{number}.png")
    return tl.images.load(folder, split=None, size=16)


def guesses(images, seed=0):
    """An evaluation with random answers, right in about half of the cases."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(len(images), len(images.classes), generator=generator)
    scores[torch.arange(len(images)), images.labels] += 0.4
    return tl.Evaluation(scores.softmax(1), images.labels, images.classes)


@pytest.fixture
def browser(images):
    return MistakeBrowser(guesses(images), images)


def shown(browser):
    """The row numbers of the pictures on the page, by the names of their files."""
    names = re.findall(r'alt="(\w+/\d+\.png): true class', browser._pictures.value)
    known = [f"{path.parent.name}/{path.name}" for path in browser._mistakes.images.paths]
    return [known.index(name) for name in names]


# -- which pictures -------------------------------------------------------------------------------------------------


def test_all_mistakes_are_shown_first_those_with_the_largest_loss_in_front(browser, images):
    evaluation = guesses(images)
    wrong = evaluation.predicted != evaluation.labels
    assert set(browser.rows) == set(wrong.nonzero()[:, 0].tolist())
    losses = evaluation.losses[browser.rows]
    assert losses.tolist() == sorted(losses.tolist(), reverse=True)
    assert shown(browser) == browser.rows[:10]
    assert f"{int(wrong.sum())} of 60 pictures are answered wrongly" in browser.face()


def test_every_cell_shows_its_pictures_and_every_picture_is_in_one(browser, images):
    evaluation = guesses(images)
    seen = []
    for (true, answered), button in browser._buttons.items():
        count = int(evaluation.confusion[true, answered])
        assert button.description == str(count)
        assert button.disabled == (count == 0)
        button._click_handlers(button)
        assert len(browser.rows) == count
        assert all(evaluation.labels[row] == true for row in browser.rows)
        assert all(evaluation.predicted[row] == answered for row in browser.rows)
        seen += browser.rows
    assert sorted(seen) == list(range(60))


def test_the_list_offers_the_most_frequent_mistakes_first_and_the_right_answers_last(browser, images):
    labels = [label for label, _ in browser._choice.options]
    counts = [int(re.search(r"\((\d+)\)", label)[1]) for label in labels]
    wrong = [count for label, count in zip(labels, counts, strict=True) if "taken for" in label]
    assert labels[0] == f"All mistakes ({sum(wrong)})"
    assert wrong == sorted(wrong, reverse=True)
    assert "answered correctly" in labels[-1]


def test_the_list_and_the_matrix_agree(browser):
    cell = browser._choice.options[1][1]
    browser._choice.value = cell
    assert browser.cell == tuple(CLASSES[number] for number in cell)
    assert [place for place, button in browser._buttons.items() if button.icon] == [cell]
    browser._buttons[1, 1]._click_handlers(browser._buttons[1, 1])
    assert browser._choice.value == (1, 1)
    browser._choice.value = ()
    assert browser.cell is None
    assert not any(button.icon for button in browser._buttons.values())


def test_a_cell_is_set_by_names_or_numbers(browser):
    browser.cell = "roses", "daisy"
    by_name = browser.rows
    browser.cell = None
    browser.cell = (1, 0)
    assert browser.cell == ("roses", "daisy")
    assert browser.rows == by_name == sorted(by_name, key=by_name.index)


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        (("rose", "daisy"), "There is no class 'rose'. Did you mean 'roses'"),
        ("roses", "A cell is a pair"),
        ((0, 3), "There is no class 3"),
    ],
)
def test_a_cell_that_does_not_exist_is_refused(browser, cell, sentence):
    with pytest.raises(ValueError, match=sentence):
        browser.cell = cell
    assert browser.cell is None


def test_pages_turn_and_end(browser):
    rows = browser.rows
    assert len(rows) > 20
    pages = [shown(browser)]
    assert browser._back.disabled
    while not browser._next.disabled:
        browser._next._click_handlers(browser._next)
        pages.append(shown(browser))
    assert [row for page in pages for row in page] == rows
    assert f"to {len(rows)} of {len(rows)}, largest loss first" in browser._where.value
    browser._next._click_handlers(browser._next)
    assert shown(browser) == pages[-1]
    browser._back._click_handlers(browser._back)
    assert shown(browser) == pages[-2]
    browser.cell = "roses", "roses"
    assert "pictures 1 to" in browser._where.value


def test_an_empty_cell_says_so(images):
    right = tl.Evaluation(torch.eye(3)[images.labels], images.labels, images.classes)
    browser = MistakeBrowser(right, images)
    assert "All mistakes: no pictures." in browser._where.value
    assert (browser._back.disabled, browser._next.disabled) == (True, True)
    browser.cell = "roses", "daisy"
    assert browser.rows == []
    assert "roses taken for daisy: no pictures." in browser._where.value
    assert repr(browser) == "MistakeBrowser(0 mistakes among 60 pictures)"
    assert browser.face()


# -- networks and evaluations ---------------------------------------------------------------------------------------


def pooled(classes):
    torch.manual_seed(0)
    layers = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, classes), torch.nn.Softmax(1)]
    net = tl.Network.from_module(torch.nn.Sequential(*layers), [torch.rand(1, 3, 16, 16)])
    net.preprocessing = tl.Preprocessing(size=16, resize=18)
    return net


def test_a_network_is_asked_about_the_images(images):
    net = pooled(3)
    browser, told = MistakeBrowser(net, images), MistakeBrowser(tl.evaluate(net, images), images)
    assert browser.rows == told.rows
    assert browser.face() == told.face()


@pytest.mark.slow  # runs four times
@pytest.mark.parametrize("option", [0, 1, -1, None])
def test_running_its_code_finds_the_same_pictures(images, option):
    net = pooled(3)
    browser = MistakeBrowser(net, images)
    empty = [browser._mistakes.classes.index(name) for name in ("daisy", "roses")]
    browser.cell = empty if option is None else browser._choice.options[option][1] or None
    assert bool(browser.rows) == (option is not None)
    names = {"tl": tl, "net": net, "images": images}
    exec(browser.code, names)
    assert sorted(names["rows"].tolist()) == sorted(browser.rows)
    losses = names["evaluation"].losses
    assert losses[names["rows"]].tolist() == losses[browser.rows].tolist()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda images: MistakeBrowser(guesses(images), images[:5]), "the evaluation of other images: it has 60 rows"),
        (lambda images: MistakeBrowser(pooled(3), tl.images.Split(images, images)), r"got Split\. Pass its \.test"),
        (lambda images: MistakeBrowser(pooled(3), 3), "got int"),
        (lambda images: MistakeBrowser(pooled(4), images), "The network answers 4 classes, but the data has 3"),
    ],
)
def test_what_cannot_be_looked_into_is_refused_in_words(images, make, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        make(images)


def test_many_classes_have_a_list_and_no_buttons(tmp_path):
    for number in range(12):
        (tmp_path / f"kind{number:02}").mkdir()
        for copy in range(2):
            Image.new("RGB", (20, 20), (20 * number, 99, copy)).save(tmp_path / f"kind{number:02}" / f"{copy}.png")
    images = tl.images.load(tmp_path, split=None, size=16)
    browser = MistakeBrowser(guesses(images), images)
    assert browser._buttons == {}
    assert len(browser._choice.options) > 2
    assert "The most frequent mistakes." in browser.face()


# -- what is shown --------------------------------------------------------------------------------------------------


def test_each_picture_has_words_and_few_bytes(browser):
    grid = browser._pictures.value
    assert grid.count("<img") == 10
    first = browser.rows[0]
    true = CLASSES[int(browser._mistakes.evaluation.labels[first])]
    answered = CLASSES[int(browser._mistakes.evaluation.predicted[first])]
    share = float(browser._mistakes.evaluation.probabilities[first].max())
    assert f": true class {true}, answered {answered} with {share:.0%}, wrong" in grid
    assert f"true: {true}<br>answer: {answered} {share:.0%}<br>wrong, loss" in grid
    browser.cell = "roses", "roses"
    assert ", correct" in browser._pictures.value


def test_it_has_a_static_face_that_is_the_same_each_time(browser, images):
    bundle = browser._repr_mimebundle_()
    assert VIEW in bundle
    assert bundle["text/plain"] == repr(browser)
    assert re.fullmatch(r"MistakeBrowser\(\d+ mistakes among 60 pictures\)", repr(browser))
    face = bundle["text/html"]
    assert face == MistakeBrowser(guesses(images), images).face()
    assert face.count("<img") == face.count(' alt="') == 10
    assert "Confusion matrix." in face
    for absent in ("<style", "<script", "class=", "<svg"):
        assert absent not in face


def test_every_control_has_a_label(browser):
    assert browser._choice.description == "Show"
    for button in (browser._back, browser._next, *browser._buttons.values()):
        assert button.description
        assert button.tooltip
    assert "Show roses taken for daisy: " in browser._buttons[1, 0].tooltip
