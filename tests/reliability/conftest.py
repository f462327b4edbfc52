"""What the tests of reliability share: small photos, and a network that featurizes them into several shards."""

from __future__ import annotations

from pathlib import Path

import pytest
import samples
from apart import Child


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of 24 pictures of two classes."""
    return samples.make_photos(tmp_path / "photos")


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four rows a shard, so that few pictures fill several."""
    monkeypatch.setattr("tlkit.features.spec.MOST_ROWS", samples.ROWS_PER_SHARD)


@pytest.fixture
def apart():
    """Start work in a process of its own; what still runs when the test ends is killed."""
    started = []

    def start(work, *arguments):
        started.append(Child(work, *arguments))
        return started[-1]

    yield start
    for child in started:
        child.kill()
