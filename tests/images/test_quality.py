"""Advice about pictures: each sentence where it belongs, and none where it does not."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from tlkit.images import sets
from tlkit.images.quality import advice, find_near_copies, interval


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_HOME", str(tmp_path / "home"))


def scene(seed, side=96):
    """Smooth colored noise: two seeds give two pictures that have nothing in common."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)


def folder(root, **counts):
    for kind, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            scene(1000 * kind + number).save(root / name / f"{number}.jpg")
    return root


def advised(root):
    return advice(sets.load(root, split=None, on_bad="skip", size=64))


def test_enough_even_and_different_pictures_need_no_advice(tmp_path):
    found = advised(folder(tmp_path / "photos", cats=125, dogs=130))
    assert found == []
    assert repr(found) == "Nothing stands out in these pictures."
    assert "Nothing stands out" in found._repr_html_()


def test_few_pictures_are_told_with_what_their_test_is_worth(tmp_path):
    (sentence,) = advised(folder(tmp_path / "photos", cats=9, dogs=10))
    assert "1 class has fewer than 10 pictures: 'cats' 9." in sentence
    assert "leaves 4 pictures to test on. Each is 25 points of accuracy" in sentence
    (sentence,) = advised(folder(tmp_path / "more", cats=20, dogs=20))
    assert "fewer than" not in sentence
    assert sentence == (
        "A split at 80% leaves 8 pictures to test on. Each is 12.5 points of accuracy, and about 90% measured may be "
        "anything from 53% to 98%."
    )


def test_uneven_classes_are_told_with_what_is_lost(tmp_path):
    *_, sentence = advised(folder(tmp_path / "photos", cats=12, dogs=30, owls=15))
    assert sentence == (
        "Class 'dogs' has 30 pictures, 'cats' only 12. A split cuts each class to the smallest, so 21 of 57 pictures "
        "are not used. Add pictures of 'cats'."
    )


def test_copies_are_found_smaller_brighter_and_saved_again(tmp_path):
    root = folder(tmp_path / "photos", cats=10, dogs=10)
    scene(3, 48).save(root / "cats" / "small.png")
    scene(4).save(root / "cats" / "again.jpg", quality=30)
    ImageEnhance.Brightness(scene(1002)).enhance(1.3).save(root / "dogs" / "bright.jpg")
    shutil.copy(root / "dogs" / "5.jpg", root / "dogs" / "copy.jpg")
    *_, sentence = advised(root)
    assert sentence.startswith("4 pictures are there more than once: ")
    for one, other in (("3", "small"), ("4", "again"), ("2", "bright"), ("5", "copy")):
        assert any(
            f"/{one}.jpg" in group and f"/{other}." in group
            for group in sentence.split(": ")[1].split(". ")[0].split("; ")
        )
    assert "(leakage). Keep one of each." in sentence


def test_a_copy_in_two_classes_is_a_wrong_label(tmp_path):
    root = folder(tmp_path / "photos", cats=10, dogs=10)
    scene(3).save(root / "dogs" / "stray.png")
    *_, sentence = advised(root)
    assert sentence.startswith("1 picture is in two classes: ")
    assert "cats/3.jpg" in sentence
    assert "One of the labels is wrong" in sentence


def test_several_copies_are_one_group(tmp_path):
    root = folder(tmp_path / "photos", cats=10, dogs=10)
    for side in (40, 50, 60):
        scene(3, side).save(root / "cats" / f"side{side}.png")
    pictures = sets.load(root, split=None, size=64)
    (rows,) = find_near_copies(pictures)
    assert sorted(pictures.paths[row].name for row in rows) == ["3.jpg", "side40.png", "side50.png", "side60.png"]


def test_plain_pictures_are_not_taken_for_each_other(tmp_path):
    root = folder(tmp_path / "photos", cats=10, dogs=10)
    for number, color in enumerate(("black", "white", "red", "blue")):
        Image.new("RGB", (64, 64), color).save(root / "cats" / f"plain{number}.png")
    assert find_near_copies(sets.load(root, split=None, size=64)) == []


def test_broken_files_are_named_with_the_reason(tmp_path):
    root = folder(tmp_path / "photos", cats=10, dogs=10)
    (root / "cats" / "note.jpg").write_text("no picture")
    first, *_ = advised(root)
    assert first.startswith("1 file cannot be read and is left out: cats/note.jpg (no picture")


def test_photos_of_kinds_that_are_not_read_are_counted(tmp_path):
    root = folder(tmp_path / "photos", cats=10, dogs=10)
    for name in ("cats/1.HEIC", "dogs/deeper/2.heic", "dogs/3.nef", "dogs/.4.heic", "dogs/notes.txt"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"0")
    first, *_ = advised(root)
    assert first == "Photos of some kinds are left out: 2 of '.heic', 1 of '.nef'. Save them as JPEG."


def test_advice_is_shown_as_a_list(tmp_path):
    found = advised(folder(tmp_path / "a <b>", cats=5, dogs=20))
    assert repr(found).count("\n- ") == len(found) - 1
    assert found._repr_html_().count("<li") == len(found)
    assert "<b>" not in found._repr_html_()


def test_pictures_that_are_split_already_are_refused(tmp_path):
    with pytest.raises(TypeError, match=r"got Split. Load them with split=None"):
        advice(sets.load(folder(tmp_path / "photos", cats=5, dogs=5)))


def test_the_interval_holds_the_measured_share_and_narrows():
    for right, total in ((0, 10), (9, 10), (10, 10), (90, 100)):
        low, high = interval(right, total)
        assert 0 <= low <= right / total <= high <= 1
    assert np.subtract(*interval(9, 10)[::-1]) > np.subtract(*interval(90, 100)[::-1])
    with pytest.raises(ValueError, match="Of 3 pictures, 4 cannot be right"):
        interval(4, 3)


@pytest.mark.slow
@pytest.mark.photos
def test_hardly_any_photo_is_taken_for_another(photos):
    flowers = sets.load(photos, split=None, per_class=60)
    pairs = find_near_copies(flowers)
    assert len(pairs) <= 2
    assert all(len({int(flowers.labels[row]) for row in rows}) == 1 for rows in pairs)
