from __future__ import annotations

import ast
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

import tlkit
from tlkit.images import decoding
from tlkit.images.decoding import decode, open_picture, why_broken

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
    assert why_broken(tmp_path / "x.jpg", caught.value) == "it is a PostScript file, no photo; save it as JPEG"


def test_heif_is_read_where_a_reader_of_it_is_registered(tmp_path, monkeypatch):
    (tmp_path / "x.jpg").write_bytes(b"\0\0\0\x24ftypheic" + bytes(50))
    with pytest.raises(UnidentifiedImageError):
        open_picture(tmp_path / "x.jpg")
    opener = (lambda file, name: PICTURE.copy(), lambda start: start[4:12] == b"ftypheic")
    monkeypatch.setitem(Image.OPEN, "HEIF", opener)
    assert open_picture(tmp_path / "x.jpg").size == PICTURE.size


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
