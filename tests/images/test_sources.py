"""Where pictures come from: folders, archives, links, and what is no source."""

from __future__ import annotations

import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import names, scene

from tlkit.files import downloads
from tlkit.images import drawing, sets
from tlkit.images.decoding import BadImagesError
from tlkit.images.sources import find_pictures

pytestmark = pytest.mark.usefixtures("home")


def test_files_that_are_no_pictures_of_a_class_change_nothing(folder):
    before = sets.load(folder).train.paths
    for junk in (".DS_Store", "daisy/._0.jpg", "daisy/Thumbs.db", "daisy/.ipynb_checkpoints/0.png", "__MACOSX/a/1.png"):
        (folder / junk).parent.mkdir(parents=True, exist_ok=True)
        (folder / junk).write_bytes(b"junk")
    assert sets.load(folder).train.paths == before


def test_pictures_in_deeper_folders_belong_to_the_class_on_top(folder):
    (folder / "daisy" / "close" / "up").mkdir(parents=True)
    scene().save(folder / "daisy" / "close" / "up" / "x.webp")
    pictures = sets.load(folder, split=None)
    assert len(pictures) == 23
    assert pictures.classes == ("daisy", "rosé", "tulip")


def test_an_only_folder_on_top_is_looked_into(folder, tmp_path):
    outer = tmp_path / "outer"
    outer.mkdir()
    before = names(sets.load(folder).train)
    folder.rename(outer / "inner")
    assert names(sets.load(outer).train) == before


@pytest.mark.parametrize("suffix", [".tgz", ".tar.gz", ".zip"])
def test_an_archive_gives_what_its_folder_gives_and_is_extracted_once(folder, tmp_path, suffix, home):
    archive = tmp_path / f"flowers{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for path in folder.rglob("*"):
                file.write(path, Path("top", path.relative_to(folder)))
    else:
        with tarfile.open(archive, "w:gz") as file:
            file.add(folder, "top")
    first, again = sets.load(str(archive)), sets.load(archive)
    assert names(first.train) == names(sets.load(folder).train)
    assert first.train.paths == again.train.paths
    assert home in first.train.paths[0].parents


def test_photos_are_fetched_then_extracted(folder, tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "flower_photos.tgz", "w:gz") as file:
        file.add(folder, "flower_photos")
    asked = []
    monkeypatch.setattr(downloads, "fetch", lambda remote: asked.append(remote) or tmp_path / "flower_photos.tgz")
    assert names(sets.load("photos").test) == names(sets.load(folder).test)
    assert asked == [downloads.FLOWER_PHOTOS]


@pytest.mark.slow
def test_drawn_flowers_are_drawn_once_and_have_the_kinds_as_classes(home):
    first, again = (sets.load("drawn", split=0.5, per_class=2) for _ in range(2))
    assert first.classes == drawing.KINDS
    assert len(first.train) == len(first.test) == 5
    assert home in first.train.paths[0].parents
    assert first.train.paths == again.train.paths


def test_an_unknown_source_names_the_known_ones_and_near_misses(folder):
    with pytest.raises(ValueError, match=r"no source of images 'drawm'.*'photos', a folder.*Did you mean 'drawn'"):
        sets.load("drawm")
    with pytest.raises(ValueError, match="Did you mean 'flores silvestres 花'"):
        sets.load(folder.with_name("flores silvestre 花"))
    with pytest.raises(ValueError, match=r"LICENSE.txt is a file, but no archive.*'\.tar' or '\.zip'"):
        sets.load(folder / "LICENSE.txt")


def test_a_folder_that_is_not_arranged_in_classes_is_explained(folder):
    with pytest.raises(ValueError, match=r"one subfolder for each class.*It has no subfolder\."):
        sets.load(folder / "daisy")
    (folder / "daisy").rename(folder / "tulip" / "inside")
    (folder / "rosé").rename(folder.with_name("away"))
    (folder / "tulip" / "inside").rename(folder / "tulip" / ".hidden")
    with pytest.raises(ValueError, match=r"two at least.*It has only 'tulip'\."):
        sets.load(folder, split=None)


def test_a_folder_that_is_split_already_is_not_taken_for_classes(folder, tmp_path):
    for part in ("train", "Val"):
        (tmp_path / "both" / part).mkdir(parents=True)
    folder.rename(tmp_path / "both" / "train" / "flowers")
    with pytest.raises(ValueError, match=r"split already: its subfolders 'Val' and 'train' are no classes.*split=None"):
        sets.load(tmp_path / "both")


def test_a_class_without_pictures_and_a_class_of_one_are_named(folder):
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match=r"Class 'empty' has no pictures.*found: none"):
        sets.load(folder)
    (folder / "empty" / "phone.HEIC").write_bytes(b"?")
    with pytest.raises(ValueError, match=r"files that end in '\.HEIC'"):
        sets.load(folder)
    scene().save(folder / "empty" / "0.png")
    with pytest.raises(ValueError, match=r"Class 'empty' in .* has one usable picture, and a split needs two"):
        sets.load(folder)
    assert len(sets.load(folder, split=None)) == 23


@pytest.mark.parametrize("names", [("Rose", "rose"), ("caf\u00e9", "cafe\u0301"), ("STRASSE", "straße")])
def test_classes_that_some_disks_take_for_one_are_two_with_a_warning(tmp_path, names):
    for number, name in enumerate(names):
        (tmp_path / "kinds" / name).mkdir(parents=True)
        scene(number).save(tmp_path / "kinds" / name / "1.png")
    if len(list((tmp_path / "kinds").iterdir())) == 1:
        pytest.skip("this disk takes the two names for one")
    with pytest.warns(UserWarning, match=r"Classes '.*' and '.*' in .* are told apart here.*rename one") as caught:
        pictures = sets.load(tmp_path / "kinds", split=None)
    assert pictures.classes == tuple(sorted(names))
    assert caught[0].filename == __file__


needs_links = pytest.mark.skipif(os.name != "posix", reason="making a link takes a privilege on Windows")


@needs_links
def test_links_to_folders_and_files_are_followed_and_loops_end(folder, tmp_path):
    away = folder / "tulip"
    away.rename(tmp_path / "elsewhere")
    away.symlink_to(tmp_path / "elsewhere")
    more = tmp_path / "more"
    more.mkdir()
    scene(7).save(more / "far.png")
    (folder / "daisy" / "linked").symlink_to(more)
    (folder / "daisy" / "again").symlink_to(more)
    (folder / "daisy" / "loop").symlink_to(folder / "daisy")
    (folder / "rosé" / "file.png").symlink_to(folder / "rosé" / "1.png")
    pictures = sets.load(folder, split=None)
    assert torch.bincount(pictures.labels).tolist() == [7, 8, 9]
    assert pictures.pixels().shape[0] == 24


@needs_links
def test_a_link_that_leads_nowhere_is_named_with_where_it_leads(folder, tmp_path):
    (folder / "daisy" / "link.png").symlink_to("nowhere.png")
    (folder / "daisy" / "loop.png").symlink_to("loop.png")
    for sentence in (
        r"daisy.link\.png: it is a link to 'nowhere\.png': No such file",
        r"daisy.loop\.png: it is a link to 'loop\.png': Too many levels",
    ):
        with pytest.raises(BadImagesError, match=sentence):
            sets.load(folder, split=None).pixels()
    (folder / "gone").symlink_to(tmp_path / "moved away")
    with pytest.raises(ValueError, match=r"Class 'gone' in .* is a link to '.*moved away', which is not there\. Mend"):
        sets.load(folder)
    (tmp_path / "photos").symlink_to(tmp_path / "moved away")
    with pytest.raises(ValueError, match=r"photos is a link to '.*moved away', which is not there\. Mend the link"):
        sets.load(tmp_path / "photos")


STEERING = "ro\x1b[31m\nse\u202e"
SHOWN = r"ro\x1b[31m\nse\u202e"


@pytest.fixture
def steering(tmp_path):
    if os.name == "nt":
        pytest.skip("such names cannot be made here")
    for name in ("daisy", STEERING):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


@pytest.mark.filterwarnings("ignore:.*in two classes")
def test_names_of_classes_cannot_steer_a_terminal_or_a_page(steering):
    images = sets.load(steering, split=None, size=8)
    assert images.classes == ("daisy", SHOWN)
    assert len(images) == 4
    for text in (repr(images), images._repr_html_()):
        assert STEERING not in text
        assert SHOWN in text


def test_sentences_about_files_cannot_either(steering):
    next((steering / STEERING).iterdir()).write_bytes(b"no picture")
    with pytest.warns(UserWarning, match="in two classes") as warned, pytest.raises(BadImagesError) as caught:
        sets.load(steering, split=None, size=8).pixels()
    for text in (str(warned[0].message), str(caught.value)):
        assert STEERING not in text
        assert SHOWN in text


def test_names_of_classes_in_a_list_cannot_either(steering):
    pairs = [(path, name) for name in ("daisy", STEERING) for path in (steering / name).iterdir()]
    assert list(find_pictures(pairs)[1]) == ["daisy", SHOWN]


def test_sentences_about_classes_cannot_either(steering):
    for picture in (steering / STEERING).iterdir():
        picture.unlink()
    with pytest.raises(ValueError, match="has no pictures") as caught:
        sets.load(steering)
    assert "Class 'ro\\x1b[31m\\nse\\u202e' has no pictures" in str(caught.value)
