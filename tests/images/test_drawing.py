"""Drawn flowers: the same everywhere, all five kinds, and a folder that appears whole or not at all."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tlkit.images import drawing
from tlkit.images.drawing import KINDS, draw_flower, draw_flowers

pytestmark = pytest.mark.filterwarnings("error")


def pixels(kind: str, seed, size: int = 64) -> np.ndarray:
    return np.asarray(draw_flower(kind, seed, size), dtype=int)


def files(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_draws_at_every_size(kind):
    for size in (64, 300):
        picture = draw_flower(kind, 3, size)
        assert (picture.size, picture.mode) == ((size, size), "RGB")
        assert np.asarray(picture).std() > 10


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_every_pixel(kind):
    assert np.array_equal(pixels(kind, (13, 2)), pixels(kind, (13, 2)))
    assert np.abs(pixels(kind, (13, 2)) - pixels(kind, (13, 3))).mean() > 10


def test_the_size_changes_the_resolution_and_not_the_picture():
    small, large = (draw_flower("sunflowers", 4, size).resize((14, 14), Image.Resampling.BOX) for size in (56, 224))
    assert np.abs(np.asarray(small, dtype=int) - np.asarray(large, dtype=int)).mean() < 3


def test_the_same_seed_gives_every_kind_the_same_background_and_camera():
    together = np.stack([pixels(kind, 22) for kind in KINDS])
    assert len({pictured.tobytes() for pictured in together}) == len(KINDS)
    darkest, brightest = np.sort(together, axis=0)[[1, -2]]  # of the three that agree best, wherever one flower is
    assert np.median(brightest - darkest) < 12


def test_the_camera_never_sees_beyond_the_picture():
    white = Image.new("RGB", (64, 64), "white")
    for seed in range(300):
        assert np.asarray(drawing.view(white, np.random.default_rng(seed), 32)).min() == 255


# Of the pictures with seed 37: means of 7 x 7 gray cells, two hexadecimal digits each.
FINGERPRINTS = {
    "daisy": "3431180fa1d8283a496da6c4b31a428dcbc8c34e2447ada394ccc78033564e82cba2343b654f549b7131b2745a14497e57",
    "dandelion": "34311c0e89b5b33a476d929eada44268b1bda3a489ac6b858d7d70467a672d41643753253c3c2f686c9615335f2888afaa",
    "roses": "3431180f161f263a4683c96e1d1a437ab0a6c31e1796a7a2978f1f4695a37292b65d9e8578688b7e6b6e69484a5d446761",
    "sunflowers": "344b28407f692b466f6a9e5ca43645656699868133476a868a916d3b3689535898422029866d6e783b2b1f7b78616e7969",
    "tulips": "3440230f16a6813a6c84a6368e4f455bbac085241e514aa6af8b2f2f463a4a5266472d23677e417e543e40ad875eb9857d",
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_style_is_the_one_that_the_version_names(kind):
    gray = draw_flower(kind, 37).convert("L").resize((7, 7), Image.Resampling.BOX)
    expected = np.frombuffer(bytes.fromhex(FINGERPRINTS[kind]), np.uint8).reshape(7, 7)
    difference = np.abs(np.asarray(gray, dtype=int) - expected)
    assert difference.max() <= 6, "the drawings changed: raise VERSION if that is meant"


def test_an_unknown_kind_names_the_near_ones():
    with pytest.raises(ValueError, match=r"no kind of flower 'rose'\. Did you mean 'roses'\? The kinds are 'daisy',"):
        draw_flower("rose", 1)


def test_a_folder_holds_the_pictures_asked_for(tmp_path):
    folder = draw_flowers(tmp_path / "flowers", 2, seed=9, size=32, workers=1, progress=False)
    assert sorted(files(folder)) == [f"{kind}/{kind}_00{number}.png" for kind in KINDS for number in range(2)]
    with Image.open(folder / "tulips" / "tulips_001.png") as picture:
        assert np.array_equal(np.asarray(picture), pixels("tulips", (9, KINDS.index("tulips"), 1), 32))
    assert json.loads((folder / "drawing.json").read_text())["seed"] == 9
    assert [path.name for path in tmp_path.iterdir()] == ["flowers"]


@pytest.mark.slow
def test_processes_draw_the_same_as_one(tmp_path):
    one = draw_flowers(tmp_path / "one", 2, size=32, workers=1, progress=False)
    two = draw_flowers(tmp_path / "two", 2, size=32, workers=2, progress=False)
    assert files(one) == files(two)


def test_drawing_goes_on_in_this_process_when_others_die(tmp_path, monkeypatch):
    class Broken:
        def __init__(self, *arguments):
            pass

        def map(self, *arguments, **options):
            raise drawing.BrokenExecutor

        def shutdown(self, **options):
            pass

    monkeypatch.setattr(drawing, "ProcessPoolExecutor", Broken)
    assert len(files(draw_flowers(tmp_path / "flowers", 1, size=32, workers=2, progress=False))) == len(KINDS)


@pytest.mark.slow
def test_a_second_call_draws_nothing(tmp_path, monkeypatch):
    folder = draw_flowers(tmp_path / "flowers", 1, size=32, workers=1, progress=False)
    monkeypatch.setattr(drawing, "draw_flower", None)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert draw_flowers(folder, 1, size=32) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_leaves_nothing(tmp_path, monkeypatch, interruption):
    draw, drawn = drawing._draw_file, []

    def interrupted(*arguments):
        if len(drawn) == 3:
            raise interruption
        drawn.append(draw(*arguments))

    monkeypatch.setattr(drawing, "_draw_file", interrupted)
    with pytest.raises(interruption):
        draw_flowers(tmp_path / "flowers", 1, size=32, workers=1, progress=False)
    assert len(drawn) == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_empty_folder_is_filled(tmp_path):
    assert len(files(draw_flowers(tmp_path, 1, size=32, workers=1, progress=False))) == len(KINDS)


@pytest.mark.slow
def test_a_process_that_comes_second_keeps_the_pictures_of_the_first(tmp_path, monkeypatch):
    target, checked = tmp_path / "flowers", []
    draw_all, check = drawing._draw_all, drawing._checked

    def overtaken(*arguments):
        monkeypatch.setattr(drawing, "_draw_all", draw_all)
        draw_flowers(target, 1, size=32, workers=1, progress=False)
        draw_all(*arguments)

    monkeypatch.setattr(drawing, "_draw_all", overtaken)
    monkeypatch.setattr(drawing, "_checked", lambda *arguments: checked.append(arguments) or check(*arguments))
    assert draw_flowers(target, 1, size=32, workers=1, progress=False) == target
    assert len(checked) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["flowers"]


@pytest.mark.slow
def test_other_contents_are_never_touched(tmp_path):
    folder = draw_flowers(tmp_path / "flowers", 1, size=32, workers=1, progress=False)
    with pytest.raises(FileExistsError, match=r"doesn't hold the drawings asked for: it was drawn with .*'seed': 13"):
        draw_flowers(folder, 1, seed=14, size=32)
    (folder / "roses" / "roses_000.png").unlink()
    with pytest.raises(FileExistsError, match=r"1 of 5 pictures are missing, the first is roses/roses_000\.png"):
        draw_flowers(folder, 1, size=32)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(FileExistsError, match=r"no readable drawing\.json\. Delete it, or name another folder"):
        draw_flowers(tmp_path / "mine", 1, size=32)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_an_unusable_place_or_number_is_said_at_once(tmp_path):
    with pytest.raises(ValueError, match=r"got 0, expected 1 or more"):
        draw_flowers(tmp_path / "flowers", 0)
    (tmp_path / "file").write_text("")
    with pytest.raises((NotADirectoryError, FileNotFoundError)):
        draw_flowers(tmp_path / "file" / "flowers", 1, size=32, workers=1, progress=False)
