"""Predictor: any photo, five answers, two networks side by side, and no upload in anything that is saved."""

from __future__ import annotations

import base64
import contextlib
import io
import json

import ipywidgets
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import tlkit as tl
from tlkit.images.decoding import Geometry, decode
from tlkit.widgets import Predictor
from tlkit.widgets.photo import TOO_LARGE, jpeg

VIEW = "application/vnd.jupyter.widget-view+json"
CLASSES = ("blue", "green", "red")


def colors_net(classes=CLASSES, *, scores=False, seed=0):
    """A network that answers by the color of a picture of 16 pixels."""
    torch.manual_seed(seed)
    layers = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, len(classes))]
    if not scores:
        layers.append(nn.Softmax(dim=1))
    net = tl.Network.from_module(nn.Sequential(*layers), [torch.rand(1, 3, 16, 16)])
    net.preprocessing = tl.Preprocessing(size=16, resize=18)
    net.classes = tuple(classes)
    with torch.no_grad():
        for weight in net.parameters():
            weight.zero_()
        weight = next(iter(net.parameters()))
        weight[:3] = 3 * torch.eye(3).flip(0)
    return net


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("colors")
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir()
        for shade in range(3):
            color = [0, 0, 0]
            color[2 - number] = 160 + 40 * shade
            Image.new("RGB", (24, 20), tuple(color)).save(folder / name / f"{shade}.png")
    return tl.images.load(folder, split=None, size=tl.Preprocessing(size=16, resize=18))


@pytest.fixture
def predictor(images):
    return Predictor(colors_net(), images)


def picture(color=(250, 10, 10), kind="JPEG", **options):
    file = io.BytesIO()
    Image.new("RGB", (40, 30), color).save(file, kind, **options)
    return file.getvalue()


def noise():
    """A photo whose bytes nothing else holds."""
    pixels = np.random.default_rng(7).integers(0, 255, (60, 80, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def upload(predictor, content):
    """What the browser does with a chosen file."""
    predictor._upload._handle_custom_msg("photo", [memoryview(content)])


def widgets_of(widget):
    """The widget and all that belongs to it."""
    found = [widget]
    for child in getattr(widget, "children", ()):
        found += widgets_of(child)
    return found


# -- answers --------------------------------------------------------------------------------------------------------


def test_the_first_picture_is_shown_at_once(predictor, images):
    assert "Test picture 1 of 9: blue (file blue/" in predictor._head.value
    assert "Answer: blue, correct" in predictor._tables.value
    assert predictor._photo._picture[:2] == b"\xff\xd8"


@pytest.mark.parametrize("row", range(9))
def test_every_picture_gets_the_answers_of_the_network(predictor, images, row):
    predictor._slider.value = row + 1
    pixels, label = images[row]
    with torch.no_grad():
        expected = predictor._net(pixels[None])[0]
    answers = predictor.predict(row)
    assert [answer.probability for answer in answers] == expected.sort(descending=True).values.tolist()
    assert answers[0].name == CLASSES[label]
    for name, probability in answers:
        assert f">{name}<" in predictor._tables.value
        assert f"{probability:.1%}" in predictor._tables.value


def test_of_a_thousand_classes_the_five_most_probable_are_shown(images):
    names = [*CLASSES, *(f"class {number}" for number in range(3, 1000))]
    predictor = Predictor(colors_net(names, scores=True), images)
    answers = predictor.predict(8)
    assert len(answers) == 5
    assert answers[0].name == "red"
    assert sum(answer.probability for answer in answers) < 1  # scores became probabilities
    assert predictor._tables.value.count("<tr>") == 1 + 5
    assert ".softmax(0)" in predictor.code


def test_a_network_without_names_numbers_its_classes(images):
    net = colors_net()
    net.classes = ()
    assert {answer.name for answer in Predictor(net, images).predict(0)} == {"class 0", "class 1", "class 2"}


def test_two_networks_answer_side_by_side_each_with_its_own_classes(images):
    before = colors_net(("sky", "grass", "brick", "red"), scores=True)
    predictor = Predictor(colors_net(), images, before=before)
    answers = predictor.predict(8)
    assert answers[0].name == "red"
    assert "Before: brick" in predictor._tables.value
    assert "Before: brick, wrong" in predictor._tables.value  # it knows the word "red"
    assert "After: red, correct" in predictor._tables.value
    predictor.predict(0)
    assert "Before: sky<" in predictor._tables.value  # it knows no "blue", so nobody says that it is wrong
    assert repr(predictor) == "Predictor(4 classes and 3 classes, 9 pictures to pick from)"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_photos_of_the_usual_kinds_are_read_from_files_and_from_bytes(predictor, tmp_path, kind):
    content = picture(kind=kind)
    path = tmp_path / "photo"
    path.write_bytes(content)
    assert predictor.predict(path) == predictor.predict(str(path)) == predictor.predict(content)
    assert predictor.predict(path)[0].name == "red"
    assert "Your photo" in predictor._head.value


def test_a_photo_is_turned_as_its_camera_says(tmp_path):
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:20, :, 0] = 255  # red above
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(pixels).save(tmp_path / "turned.jpg", exif=exif)
    predictor = Predictor(colors_net())
    predictor.predict((tmp_path / "turned.jpg").read_bytes())
    with Image.open(io.BytesIO(predictor._photo._picture)) as shown:
        upper, lower = shown.getpixel((8, 2)), shown.getpixel((8, 13))
    assert upper[0] < 60 < 200 < lower[0]


@pytest.mark.parametrize("scores", [False, True])
@pytest.mark.parametrize("uploaded", [False, True])
def test_running_its_code_gives_the_same_answers(images, tmp_path, monkeypatch, scores, uploaded):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(picture((20, 200, 90)))
    net = colors_net(scores=scores)
    predictor = Predictor(net, images)
    answers = predictor.predict("photo.jpg" if uploaded else 4)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(predictor.code, {"tl": tl, "net": net, "images": images})
    assert printed.getvalue().splitlines() == [f"{name} {probability:.1%}" for name, probability in answers]


def test_asking_changes_nothing_about_the_network(images):
    net = colors_net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    Predictor(net, images).predict(3)
    assert not net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


# -- uploads --------------------------------------------------------------------------------------------------------


def test_an_uploaded_photo_is_shown_and_classified(predictor):
    upload(predictor, picture((10, 10, 250)))
    assert "Your photo, cut to the square that the network sees." in predictor._head.value
    assert "Answer: blue<" in predictor._tables.value  # nobody knows whether that is right
    assert predictor._row is None
    predictor._slider.value = 9
    assert "Answer: red, correct" in predictor._tables.value


def test_an_uploaded_photo_is_in_no_state_and_in_no_face(images):
    predictor = Predictor(colors_net(), images, before=colors_net(seed=1))
    content = noise()
    upload(predictor, content)
    assert predictor._photo._picture == jpeg(decode(io.BytesIO(content), Geometry(16, 18)))
    states = json.dumps(ipywidgets.Widget.get_manager_state(), default=lambda value: base64.b64encode(value).decode())
    saved = [states, *predictor._repr_mimebundle_().values()]
    for secret in (content, predictor._photo._picture):
        for text in map(str, saved):
            assert base64.b64encode(secret).decode()[40:120] not in text
            assert str(secret[30:90])[2:-1] not in text
    for widget in widgets_of(predictor):
        for value in widget.get_state().values():
            assert not isinstance(value, (bytes, memoryview))
    assert "<img" not in predictor.face()


def test_a_view_that_is_opened_later_asks_for_the_photo(predictor):
    sent = []
    predictor._photo.send = lambda content, buffers=None: sent.append((content, buffers))
    upload(predictor, picture())
    predictor._photo._handle_custom_msg("ready", [])
    assert len(sent) == 3  # cleared, shown, asked for
    assert sent[1] == sent[2] == ({"alt": predictor._photo._alt}, [predictor._photo._picture])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html><html></html>", "it is a web page, no picture"),
        (b"\0\0\0\x18ftypheic" + bytes(60), "it is a HEIC picture, which Pillow does not read; save it as JPEG"),
        (b"just some text", "no picture in a format that Pillow knows"),
        (noise()[:2000], "image file is truncated"),
    ],
)
def test_a_file_that_is_no_picture_is_answered_with_a_sentence(predictor, content, sentence):
    upload(predictor, content)
    assert "<b>Error:</b> Your file cannot be read as a picture: " in predictor._head.value
    assert sentence in predictor._head.value
    assert "Choose a JPEG, PNG or WebP file." in predictor._head.value
    assert predictor._tables.value == ""
    assert predictor._photo._picture == b""
    with pytest.raises(ValueError, match=sentence):
        predictor.predict(content)
    predictor._slider.value = 2
    assert "Error" not in predictor._head.value


def test_a_file_that_the_browser_cannot_make_smaller_is_refused(predictor):
    predictor._upload._handle_custom_msg("too large", [])
    assert TOO_LARGE in predictor._head.value
    assert predictor._tables.value == ""


def test_a_network_that_is_being_trained_is_left_alone(predictor):
    predictor._net.train()
    predictor._slider.value = 2
    assert "<b>Error:</b> The network is being trained." in predictor._head.value
    assert predictor._net.training


def test_whatever_fails_is_shown(predictor, monkeypatch):
    def fail(*_):
        raise RuntimeError("The memory is full.")

    monkeypatch.setattr("tlkit.widgets.predictor.ask", fail)
    predictor._slider.value = 2
    assert "<b>Error:</b> The memory is full." in predictor._head.value


# -- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda images: Predictor(nn.Linear(2, 2)), "got Linear. Network.from_module"),
        (lambda images: Predictor(colors_net(), before=nn.Linear(2, 2)), "got Linear"),
        (lambda images: Predictor(colors_net(), tl.images.Split(images, images)), r"got Split\. Pass its \.test"),
        (lambda images: Predictor(colors_net(), 3), "got int"),
        (lambda images: Predictor(colors_net(), images[:0]), "the images are empty"),
        (lambda images: Predictor(colors_net(), images).predict(9), "There is no picture 9: the widget has 9"),
        (lambda images: Predictor(colors_net(), images).predict(-1), "There is no picture -1"),
        (lambda images: Predictor(colors_net()).predict(0), "the widget has 0 to pick from"),
        (lambda images: Predictor(colors_net()).predict("nowhere.jpg"), "The file nowhere.jpg cannot be read"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words(images, make, sentence):
    with pytest.raises((TypeError, ValueError, IndexError), match=sentence):
        make(images)


def test_a_network_without_preprocessing_is_refused():
    net = colors_net()
    net.preprocessing = None
    with pytest.raises(ValueError, match="nobody knows which size and colors"):
        Predictor(net)


def test_a_network_that_answers_with_no_row_of_classes_is_refused():
    net = tl.Network.from_module(nn.Conv2d(3, 2, 3), [torch.rand(1, 3, 16, 16)])
    net.preprocessing = tl.Preprocessing(size=16, resize=18)
    with pytest.raises(ValueError, match=r"answers with one row of classes; this one reads .* \(2, 14, 14\)"):
        Predictor(net)


# -- what is shown --------------------------------------------------------------------------------------------------


def test_it_has_a_static_face_that_is_the_same_each_time(images):
    predictor = Predictor(colors_net(), images)
    bundle = predictor._repr_mimebundle_()
    assert VIEW in bundle
    assert bundle["text/plain"] == repr(predictor) == "Predictor(3 classes, 9 pictures to pick from)"
    face = bundle["text/html"]
    assert face == Predictor(colors_net(), images).face()
    assert 'alt="Test picture 1 of 9: blue (file blue/' in face
    assert "images.paths[0]" in face
    for absent in ("<style", "<script", "class=", "<svg"):
        assert absent not in face
    assert len(face) < 20_000


def test_without_pictures_it_waits_for_a_photo():
    predictor = Predictor(colors_net())
    assert "Upload a photo (JPEG, PNG or WebP)." in predictor._head.value
    assert predictor._slider.layout.display == "none"
    assert repr(predictor) == "Predictor(3 classes, no pictures to pick from)"
    assert "<img" not in predictor.face()


def test_every_control_has_a_label(predictor):
    assert predictor._upload.label == "Upload a photo"
    assert predictor._slider.description == "Test picture"
    assert predictor._photo._alt.startswith("Test picture 1 of 9")
