"""Photos in a page: small, and with their text."""

from __future__ import annotations

import torch

from tlkit.widgets.photo import thumbnail


def test_thumbnails_are_small_whatever_the_photos_are():
    noise = torch.randint(256, (3, 1024, 1024), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    assert len(thumbnail(noise, "noise")) < 12_000


def test_the_text_of_a_thumbnail_is_escaped():
    assert 'alt="a &quot;b&quot;"' in thumbnail(torch.zeros(3, 8, 8, dtype=torch.uint8), 'a "b"')
