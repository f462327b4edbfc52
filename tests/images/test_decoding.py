"""From files to square pixels: each kind of picture, broken ones, and many in threads."""

from __future__ import annotations

import ast
import io
import os
import random
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from scenes import count_decoding, saved, scene

import tlkit
from tlkit.images import decoding, sets
from tlkit.images.decoding import BadImagesError, Geometry, decode, explain_broken, open_picture

pytestmark = pytest.mark.usefixtures("home")


def test_a_size_of_another_type_is_explained(folder):
    with pytest.raises(TypeError, match=r"size=\(224, 224\) is neither a number of pixels nor"):
        sets.load(folder, size=(224, 224))


def test_every_picture_is_decoded_once_and_shared_by_all_subsets(folder, monkeypatch):
    decoded = count_decoding(monkeypatch)
    flowers = sets.load(folder, size=32)
    assert not decoded
    for _ in range(3):
        list(flowers.train.batches(4))
        flowers.test.pixels()
        flowers.train[2:5][0]
    assert set(decoded) == {path.read_bytes() for path in (*flowers.train.paths, *flowers.test.paths)}
    assert set(decoded.values()) == {1}


def test_above_the_memory_budget_every_pass_decodes_again(folder, monkeypatch):
    decoded = count_decoding(monkeypatch)
    flowers = sets.load(folder, size=32, cache_megabytes=18 * 3 * 32 * 32 / 2**20 - 0.001)
    for _ in range(2):
        list(flowers.train.batches(4))
    assert set(decoded.values()) == {2}


def test_decoding_is_only_a_little_ahead_and_stops_with_the_loop(folder, monkeypatch):
    decoded = count_decoding(monkeypatch)
    batches = sets.load(folder, split=None, size=32, threads=2, cache_megabytes=0).batches(2)
    next(batches)
    time.sleep(0.1)
    assert 2 <= sum(decoded.values()) <= 2 * 4
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def reading(pictures):
    yield lambda: list(pictures.batches(4))
    yield pictures.pixels
    yield lambda: list(pictures)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_first_broken_picture_met_reports_all_of_them(damaged):
    for read in reading(sets.load(damaged, split=None, size=32)):
        with pytest.raises(BadImagesError, match=r"4 of 22 pictures in .* cannot be decoded") as caught:
            read()
        assert [path.name for path, _ in caught.value.broken] == ["0.JPG", "1.png", "2.JPG", "3.png"]
        for sentence in (
            r"tulip.0\.JPG: .*truncated",
            r"tulip.1\.png: the file is empty",
            r"tulip.2\.JPG: it is a web page, no picture",
            r"tulip.3\.png: it claims 10000 x 10000 pixels",
            "on_bad='skip'",
        ):
            assert caught.match(sentence)


def test_a_long_list_of_broken_pictures_ends_in_a_count(folder):
    for number in range(30):
        (folder / "daisy" / f"broken{number}.png").write_bytes(b"")
    with pytest.raises(BadImagesError, match=r"(?s)30 of 52 .*and 10 more") as caught:
        sets.load(folder, split=None, size=32).pixels()
    assert len(caught.value.broken) == 30
    assert str(caught.value).count("the file is empty") == 20


def test_a_picture_deleted_after_loading_is_reported(folder):
    pictures = sets.load(folder, split=None, size=32)
    pictures.paths[5].unlink()
    with pytest.raises(BadImagesError, match="No such file"):
        pictures.pixels()


def torchvision_pixels(image, size, resize, interpolation="bilinear"):
    from torchvision.transforms import CenterCrop, InterpolationMode, Resize

    square = CenterCrop(size)(Resize(resize, InterpolationMode(interpolation))(image))
    return np.asarray(square).transpose(2, 0, 1)


@pytest.mark.parametrize("width", [37, 63, 64, 90, 201, 400])
@pytest.mark.parametrize("height", [40, 64, 131])
def test_crop_and_resize_in_one_step_equal_torchvision_s_two(width, height):
    noise = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    ours = decode(saved(image), Geometry(56, 64)).astype(int)
    difference = np.abs(ours - torchvision_pixels(image, 56, 64))
    assert difference.max() <= 2  # Pillow's two passes round, and it may swap them
    assert difference.mean() < 0.4


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_a_picture_turned_by_its_exif_equals_one_turned_by_hand(orientation, suffix):
    upright = scene(width=61, height=43)
    stored = upright.transpose(turn_back(orientation))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    lossless = {"lossless": True} if suffix == ".webp" else {}
    turned = decode(saved(stored, suffix, exif=exif, **lossless), Geometry(30, 32))
    assert np.array_equal(turned, decode(saved(upright), Geometry(30, 32)))


def turn_back(orientation):
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    return decoding._TURNS[inverse]


@pytest.mark.filterwarnings("ignore:.*EXIF|Truncated File|Tag data:UserWarning")
def test_damaged_exif_does_not_cost_the_picture():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 1
    exif[ExifTags.Base.Make] = "Camera"
    raw = bytearray(saved(scene(), ".jpg", exif=exif).getvalue())
    start = raw.find(b"Exif")
    chance = random.Random(0)
    for _ in range(100):
        bad = bytearray(raw)
        bad[start + 14 + chance.randrange(30)] = chance.randrange(256)
        assert decode(io.BytesIO(bad), Geometry(28, 32)).shape == (3, 28, 28)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "LAB"])
def test_pixels_of_every_mode_become_the_same_colors(mode):
    suffix = {"CMYK": ".jpg", "LAB": ".tif"}.get(mode, ".png")
    image = scene()
    if mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        stored = ImageCms.profileToProfile(image, *profiles, outputMode="LAB")
    else:
        stored = image.convert(mode)
    ours = decode(saved(stored, suffix), Geometry(28, 32)).astype(int)
    expected = decode(saved(image), Geometry(28, 32))
    assert np.abs(ours - expected).mean() < 12


def test_gray_pictures_have_three_equal_channels():
    for mode in ("L", "LA", "1"):
        red, green, blue = decode(saved(scene().convert(mode)), Geometry(28, 32))
        assert np.array_equal(red, green)
        assert np.array_equal(red, blue)
        assert red.std() > 10


def test_sixteen_bits_are_scaled_to_eight_instead_of_clipped():
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    gray = Image.fromarray(ramp)
    pgm = io.BytesIO(b"P5 64 64 65535\n" + ramp.astype(">u2").tobytes())
    for file in (saved(gray, ".png"), saved(gray, ".tif"), pgm):
        pixels = decode(file, Geometry(64, 64))
        assert np.abs(pixels[0].astype(int) - ramp // 257).max() <= 1


def test_floating_point_pixels_are_refused_with_a_reason():
    with pytest.raises(ValueError, match="floating-point numbers of unknown range"):
        decode(saved(Image.fromarray(np.ones((40, 40), np.float32)), ".tif"))


@pytest.mark.filterwarnings("error")
def test_transparency_is_dropped_without_a_warning():
    for mode, transparency in [("P", bytes(range(256))), ("P", 3), ("L", 3), ("RGB", (1, 2, 3))]:
        stored = scene().convert(mode)
        pixels = decode(saved(stored, transparency=transparency), Geometry(28, 32))
        assert np.array_equal(pixels, decode(saved(stored), Geometry(28, 32)))


def test_an_animation_gives_its_first_frame():
    red, blue = (Image.new("RGB", (40, 40), color) for color in ("red", "blue"))
    for suffix in (".gif", ".webp"):
        pixels = decode(saved(red, suffix, save_all=True, append_images=[blue]), Geometry(28, 32))
        assert pixels[0].min() > 240
        assert pixels[2].max() < 10


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3000, 1), (1, 3000), (2, 500)])
def test_tiny_and_extreme_shapes_are_decoded(width, height):
    assert decode(saved(Image.new("RGB", (width, height), "red")))[0].min() == 255


def test_large_jpegs_are_decoded_at_a_fraction_of_their_size_with_nearly_the_same_pixels():
    large = scene(width=1100, height=800)
    for orientation in (1, 6):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        ours = decode(saved(large, ".jpg", quality=95, exif=exif), Geometry(56, 64)).astype(int)
        upright = large if orientation == 1 else large.transpose(Image.Transpose.ROTATE_270)
        assert np.abs(ours - torchvision_pixels(upright, 56, 64)).mean() < 2


@pytest.mark.slow
@pytest.mark.photos
def test_real_flower_photos_load_and_match_torchvision(photos):
    flowers = sets.load(photos, per_class=20)
    assert flowers.classes == ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    assert (len(flowers.train), len(flowers.test)) == (80, 20)
    expected = np.stack([torchvision_pixels(Image.open(path), 224, 256) for path in flowers.test.paths])
    difference = np.abs(flowers.test.pixels().numpy().astype(int) - expected)
    assert difference.max() <= 2
    assert difference.mean() < 0.1


def test_pictures_read_once_are_not_kept_and_those_that_are_kept_are_used(folder):
    pictures = sets.load(folder, split=None, size=32)
    once = pictures.read_once()
    first = torch.cat([x for x, _ in once.batches(2)])
    assert not pictures._pictures._is_kept.any()
    assert torch.equal(first, pictures.pixels())
    assert pictures._pictures._is_kept.all()
    assert torch.equal(torch.cat([x for x, _ in once.batches(2)]), first)


PICTURE = Image.fromarray(np.arange(3 * 64 * 48, dtype=np.uint8).reshape(48, 64, 3))


@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "PPM"])
def test_the_formats_of_photos_are_read_whatever_the_file_is_called(tmp_path, name):
    Image.init()
    if name not in Image.SAVE:
        pytest.skip(f"this Pillow has no {name}")
    PICTURE.save(tmp_path / "photo.jpg", name)
    assert decode(tmp_path / "photo.jpg").shape == (3, 224, 224)


@pytest.mark.parametrize("name", ["PCX", "ICO", "TGA", "SGI", "PDF", "EPS"])
def test_other_formats_are_no_pictures(tmp_path, name):
    PICTURE.save(tmp_path / "photo.jpg", name)
    with pytest.raises(UnidentifiedImageError):
        decode(tmp_path / "photo.jpg")


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for Ghostscript is a shell script")
def test_postscript_starts_no_program(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/mark\n")
    (tmp_path / "bin" / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # it remembers where it looked
    PICTURE.save(tmp_path / "x.jpg", "EPS")
    with pytest.raises(UnidentifiedImageError) as caught:
        decode(tmp_path / "x.jpg")
    assert not (tmp_path / "mark").exists()
    assert explain_broken(tmp_path / "x.jpg", caught.value) == "it is a PostScript file, no photo; save it as JPEG"


def test_heif_is_read_where_a_reader_of_it_is_registered(tmp_path, monkeypatch):
    (tmp_path / "x.jpg").write_bytes(b"\0\0\0\x24ftypheic" + bytes(50))
    with pytest.raises(UnidentifiedImageError):
        open_picture(tmp_path / "x.jpg")
    opener = (lambda file, name: PICTURE.copy(), lambda start: start[4:12] == b"ftypheic")
    monkeypatch.setitem(Image.OPEN, "HEIF", opener)
    assert open_picture(tmp_path / "x.jpg").size == PICTURE.size


@pytest.mark.slow
def test_nothing_else_is_opened_without_naming_its_formats():
    for file in Path(tlkit.__file__).parent.rglob("*.py"):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "Image.open":
                assert "formats" in [keyword.arg for keyword in call.keywords], file


def test_every_suffix_belongs_to_one_format():
    assert len(set(decoding.SUFFIXES)) == len(decoding.SUFFIXES)
    Image.init()
    for name, suffixes in decoding.FORMATS.items():
        for suffix in suffixes:
            assert Image.EXTENSION.get(suffix, name) == name
