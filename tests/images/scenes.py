"""Small pictures for tests, and what is in tables and sets of them."""

from __future__ import annotations

import io
import re
from collections import Counter

import numpy as np
from PIL import Image

from tlkit.images import pictures


def scene(seed=0, width=60, height=40, channels=3):
    """A smooth picture, so that JPEG and resizing change it little."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 5, channels), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def cells(table):
    return [re.findall("<td[^>]*>(.*?)</td>", row) for row in table.split("<tr>")]


def names(pictures):
    return [f"{path.parent.name}/{path.name}" for path in pictures.paths]


def count_decoding(monkeypatch):
    decoded = Counter()
    original = pictures.decode
    note = lambda content, size: decoded.update([content.getvalue()]) or original(content, size)  # noqa: E731
    monkeypatch.setattr(pictures, "decode", note)
    return decoded


def saved(image, suffix=".png", **options):
    file = io.BytesIO()
    image.save(file, Image.registered_extensions()[suffix], **options)
    file.seek(0)
    return file
