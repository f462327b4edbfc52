"""Folders of small pictures."""

from __future__ import annotations

import zlib

import pytest
from scenes import scene


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The folder of downloads, an empty one."""
    monkeypatch.setenv("TLKIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def folder(tmp_path):
    """Three classes of 6, 7 and 9 pictures, and what else lies about in such folders."""
    root = tmp_path / "flores silvestres 花"
    for kind, (name, count) in enumerate({"daisy": 6, "rosé": 7, "tulip": 9}.items()):
        (root / name).mkdir(parents=True)
        for number in range(count):
            scene(10 * kind + number).save(root / name / f"{number}.{'png' if number % 2 else 'JPG'}")
    (root / "LICENSE.txt").write_text("free")
    return root


@pytest.fixture
def damaged(folder):
    """Four broken pictures: cut, empty, a web page, and too large to open."""
    whole = (folder / "tulip" / "0.JPG").read_bytes()
    (folder / "tulip" / "0.JPG").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "tulip" / "1.png").write_bytes(b"")
    (folder / "tulip" / "2.JPG").write_text("<html>not found</html>")
    bomb = bytearray((folder / "tulip" / "3.png").read_bytes())
    bomb[16:24] = (10_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    (folder / "tulip" / "3.png").write_bytes(bomb)
    return folder
