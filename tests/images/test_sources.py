from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from tlkit.images import sets
from tlkit.images.decoding import BadImagesError
from tlkit.images.sources import picture_files

STEERING = "ro\x1b[31m\nse\u202e"
SHOWN = r"ro\x1b[31m\nse\u202e"


@pytest.fixture
def folder(tmp_path):
    if os.name == "nt":
        pytest.skip("such names cannot be made here")
    for name in ("daisy", STEERING):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


@pytest.mark.filterwarnings("ignore:.*in two classes")
def test_names_of_classes_cannot_steer_a_terminal_or_a_page(folder):
    images = sets.load(folder, split=None, size=8)
    assert images.classes == ("daisy", SHOWN)
    assert len(images) == 4
    for text in (repr(images), images._repr_html_()):
        assert STEERING not in text
        assert SHOWN in text


def test_sentences_about_files_cannot_either(folder):
    next((folder / STEERING).iterdir()).write_bytes(b"no picture")
    with pytest.warns(UserWarning, match="in two classes") as warned, pytest.raises(BadImagesError) as caught:
        sets.load(folder, split=None, size=8).pixels()
    for text in (str(warned[0].message), str(caught.value)):
        assert STEERING not in text
        assert SHOWN in text


def test_names_of_classes_in_a_list_cannot_either(folder):
    pairs = [(path, name) for name in ("daisy", STEERING) for path in (folder / name).iterdir()]
    assert list(picture_files(pairs)[1]) == ["daisy", SHOWN]


def test_sentences_about_classes_cannot_either(folder):
    for picture in (folder / STEERING).iterdir():
        picture.unlink()
    with pytest.raises(ValueError, match="has no pictures") as caught:
        sets.load(folder)
    assert "Class 'ro\\x1b[31m\\nse\\u202e' has no pictures" in str(caught.value)
