"""Photos as they lie about: what is read in spite of everything, what is refused, and the sentence for each."""

from __future__ import annotations

import io
import os
import random
import re
import zlib

import numpy as np
import pytest
import samples
from PIL import ExifTags, Image

from tlkit.images import sets
from tlkit.images.decoding import SUFFIXES, BadImagesError, Geometry, decode

SIZE = 32
FORMATS = {".jpg": "JPEG", ".png": "PNG", ".gif": "GIF", ".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF", ".ppm": "PPM"}

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*Corrupt EXIF|.*Truncated File:UserWarning"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]


def scene(width=60, height=40):
    """A smooth picture, so that JPEG changes it little."""
    noise = np.random.default_rng(width).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def claiming(width, height):
    """A small PNG whose header claims another size."""
    content = bytearray(encoded(scene()))
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def turned():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return encoded(scene(), "JPEG", exif=exif)


def good_files():
    frames = [Image.new("RGB", (40, 40), color) for color in ("red", "blue")]
    sixteen = np.linspace(0, 65535, 40 * 40).reshape(40, 40).astype(np.uint16)
    return {
        "cmyk.jpg": encoded(scene().convert("CMYK"), "JPEG"),
        "grey.jpg": encoded(scene().convert("L"), "JPEG"),
        "progressive.jpg": encoded(scene(), "JPEG", progressive=True),
        "sixteen bits.png": encoded(Image.fromarray(sixteen)),
        "palette.png": encoded(scene().convert("P"), transparency=3),
        "rgba.png": encoded(scene().convert("RGBA")),
        "one bit.png": encoded(scene().convert("1")),
        "animated.gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "animated.webp": encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "turned.jpg": turned(),
        "1x1.png": encoded(Image.new("RGB", (1, 1), "red")),
        "3000x1.jpg": encoded(Image.new("RGB", (3000, 1), "red"), "JPEG"),
        "1x3000.png": encoded(Image.new("RGB", (1, 3000), "red")),
        "a png named.jpg": encoded(scene()),
        "UPPER.JPEG": encoded(scene(61), "JPEG"),
        "花 größe e\u0301 🌼.png": encoded(scene(62)),
        "100% {odd} 'name'.png": encoded(scene(63)),
    }


def broken_files():
    whole, png = encoded(scene(), "JPEG"), encoded(scene())
    text_bomb = bytearray(encoded(scene()))
    chunk = b"zTXtkey\0\0" + zlib.compress(bytes(30_000_000), 9)
    text_bomb[33:33] = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    return {
        "truncated.jpg": (whole[: len(whole) * 2 // 3], "truncated"),
        "truncated.png": (png[: len(png) // 2], "truncated"),
        "header only.jpg": (whole[:40], r"[Tt]runcated"),
        "flipped.png": (flipped(png, 0), "its pixels have changed: a checksum in the file is another"),
        "empty.jpg": (b"", "the file is empty"),
        "page.jpg": (b"\n<!DOCTYPE html><html>404</html>", "it is a web page, no picture"),
        "page.png": (b"<html>404</html>", "it is a web page, no picture"),
        "text.gif": (b"version https://git-lfs", "no picture in a format that Pillow knows"),
        "phone.jpg": (b"\0\0\0\x24ftypheic" + bytes(50), "it is a HEIC picture, which Pillow does not read"),
        "bomb.png": (claiming(50_000, 50_000), r"it claims 2,500,000,000 pixels, more than are safe to open"),
        "larger.png": (claiming(10_000, 10_000), r"it claims 10000 x 10000 pixels, more than the 89,478,485"),
        "nothing.png": (claiming(0, 0), "no picture in a format"),
        "text bomb.png": (bytes(text_bomb), "Decompressed data too large"),
    }


def flipped(content, seed, count=8):
    """Flip bits behind the header."""
    chance, changed = random.Random(seed), bytearray(content)
    for _ in range(count):
        changed[chance.randrange(len(content) // 3, len(content))] ^= 1 << chance.randrange(8)
    return bytes(changed)


@pytest.fixture
def zoo(tmp_path):
    """Two classes of photos, and with them all that can be read and all that cannot."""
    root = samples.make_photos(tmp_path / "my photos", 8)
    for name, content in good_files().items():
        (root / "roses" / name).write_bytes(content)
    for name, (content, _) in broken_files().items():
        (root / "daisy" / name).write_bytes(content)
    for name in (".hidden.jpg", "._mac.jpg", ".ipynb_checkpoints/1.jpg", ".cache/x/1.png", "Thumbs.db", "notes.txt"):
        (root / "daisy" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "daisy" / name).write_bytes(b"no picture")
    (root / ".ipynb_checkpoints").mkdir()
    (root / ".ipynb_checkpoints" / "1.jpg").write_bytes(b"no picture")
    if os.name == "posix":
        (root / "daisy" / "link.png").symlink_to("nowhere.png")
    return root


def reasons():
    linked = {"link.png": "it is a link to 'nowhere.png': No such file"} if os.name == "posix" else {}
    return {name: reason for name, (_, reason) in broken_files().items()} | linked


def test_all_broken_photos_are_listed_at_once_each_with_its_reason(zoo):
    with pytest.raises(BadImagesError, match=f"{len(reasons())} of ") as caught:
        sets.load(zoo, split=None, size=SIZE).pixels()
    lines = str(caught.value).splitlines()[1:-1]
    assert len(lines) == len(reasons())
    for name, reason in reasons().items():
        [line] = [line for line in lines if os.path.join("daisy", name) + ":" in line]
        assert re.search(f": .*{reason}", line)
    assert "on_bad='skip'" in str(caught.value)


def test_broken_photos_are_skipped_on_request_and_everything_else_is_read(zoo):
    pictures = sets.load(zoo, split=None, size=SIZE, on_bad="skip")
    assert {path.name for path, _ in pictures.skipped} == set(reasons())
    assert {path.name for path in pictures.paths} == {*good_files(), *(f"{number}.png" for number in range(8))}
    assert pictures.pixels().shape == (8 + len(good_files()), 3, SIZE, SIZE)
    assert pictures.classes == ("daisy", "roses")


def test_featurizing_meets_all_broken_photos_at_once_and_goes_on_without_them(zoo, tmp_path, small_shards):
    helper = samples.make_helper()
    with pytest.raises(BadImagesError, match=f"{len(reasons())} of "):
        helper.featurize(samples.read_photos(zoo, helper), to=tmp_path / "store", progress=False)
    pictures = samples.read_photos(zoo, helper, on_bad="skip")
    store = helper.featurize(pictures, to=tmp_path / "store", progress=False)
    assert len(store) == len(pictures)
    assert store.labels.tolist() == pictures.labels.tolist()
    assert store.verify() == []
    for name in reasons():
        (zoo / "daisy" / name).unlink()
    again = helper.featurize(samples.read_photos(zoo, helper), to=tmp_path / "store", progress=False)
    assert (again.rows_computed, again.reasons) == (0, ())


def test_what_a_good_photo_shows():
    expected = {"animated.gif": "red", "animated.webp": "red", "1x1.png": "red", "3000x1.jpg": "red"}
    for name, content in good_files().items():
        pixels = decode(io.BytesIO(content), Geometry.of(SIZE)).astype(int)
        assert pixels.shape == (3, SIZE, SIZE)
        if name in expected:
            assert pixels[0].min() > 240
            assert pixels[1:].max() < 20
        if name in ("grey.jpg", "sixteen bits.png", "one bit.png"):
            assert np.array_equal(pixels[0], pixels[1])
            assert np.array_equal(pixels[0], pixels[2])
            assert pixels.std() > 10
    upright = encoded(scene().transpose(Image.Transpose.ROTATE_270))
    for name in ("turned.jpg", "cmyk.jpg", "progressive.jpg", "palette.png", "rgba.png", "a png named.jpg"):
        expected = decode(io.BytesIO(upright if name == "turned.jpg" else encoded(scene())), Geometry.of(SIZE))
        difference = decode(io.BytesIO(good_files()[name]), Geometry.of(SIZE)).astype(int) - expected
        assert np.abs(difference).mean() < 12, name


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_damaged_photo_of_any_format_is_read_or_refused_with_a_sentence(tmp_path, suffix):
    assert suffix in SUFFIXES
    root = samples.make_photos(tmp_path / "photos", 4)
    whole, chance = encoded(scene(), FORMATS[suffix]), random.Random(7)
    for number in range(12):
        content = flipped(whole, number, 1 + number) if number % 2 else whole[: chance.randrange(1, len(whole))]
        (root / "daisy" / f"damaged {number}{suffix}").write_bytes(content)
    pictures = sets.load(root, split=None, size=SIZE, on_bad="skip")
    assert len(pictures) + len(pictures.skipped) == 4 + 12
    assert pictures.pixels().shape == (len(pictures), 3, SIZE, SIZE)
    assert sum(".png" not in path.suffix for path, _ in pictures.skipped) >= (0 if suffix == ".png" else 4)
    for path, reason in pictures.skipped:
        assert path.name.startswith("damaged")
        assert " " in reason
        assert str(path) not in reason


def test_a_bit_that_flipped_in_a_png_is_noticed_or_changes_no_pixel():
    whole, noticed = encoded(scene()), 0
    expected = decode(io.BytesIO(whole), Geometry.of(SIZE))
    for seed in range(200):
        try:
            pixels = decode(io.BytesIO(flipped(whole, seed, 1)), Geometry.of(SIZE))
        except (OSError, SyntaxError, ValueError):
            noticed += 1
        else:
            assert np.array_equal(pixels, expected)
    assert noticed >= 190


def test_folders_that_make_no_classes_are_each_explained(tmp_path):
    root = samples.make_photos(tmp_path / "photos", 4)
    (root / "empty").mkdir()
    with pytest.raises(ValueError, match=r"Class 'empty' has no pictures\. Expected in .* found: none\. Add pictures"):
        sets.load(root)
    samples.save_picture(root / "empty" / "only.png", 50)
    with pytest.raises(ValueError, match=r"Class 'empty' in .* has one usable picture, and a split needs two"):
        sets.load(root)
    assert len(sets.load(root, split=None)) == 5
    for name in ("empty", "roses"):
        (root / name).rename(tmp_path / name)
    with pytest.raises(ValueError, match=r"one subfolder for each class, two at least.* It has only 'daisy'\."):
        sets.load(root)


def test_a_photo_in_two_classes_or_both_sets_is_warned_of(tmp_path):
    root = samples.make_photos(tmp_path / "photos", 12)
    flowers = sets.load(root)
    trained, tested = flowers.train.paths[0], flowers.test.paths[0]
    assert trained.parent == tested.parent
    tested.write_bytes(trained.read_bytes())
    with pytest.warns(UserWarning, match=r"1 picture is in the training and the test set: .*\(leakage\)"):
        sets.load(root)
    other = next(path for path in flowers.train.paths if path.parent != trained.parent)
    other.write_bytes(trained.read_bytes())
    with pytest.warns(UserWarning, match=r"1 picture is in two classes: .* One of the labels is wrong"):
        sets.load(root)
