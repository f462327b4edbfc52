"""What the tests of the scale package share."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import samples

import tlkit as tl
from tlkit.scale import engine, featurizing
from tlkit.scale.workers import ShardFeaturizer


@pytest.fixture(scope="session")
def two_workers():
    """An engine whose cluster lives as long as the tests; for tests marked ``ray``."""
    cluster = tl.scale.Ray(workers=2)
    yield cluster
    cluster.stop()


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four rows a shard, so that few pictures fill several."""
    monkeypatch.setattr("tlkit.features.spec.MOST_ROWS", samples.ROWS_PER_SHARD)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of 24 pictures of two classes."""
    return samples.make_photos(tmp_path / "photos")


@pytest.fixture
def one_worker(monkeypatch):
    """An engine whose only worker is in this process, and gets its job and its tasks as another process would."""

    def work(ray, settings, job, tasks):
        actor = ShardFeaturizer(pickle.loads(pickle.dumps(job)))
        return (json.loads(actor({"task": task})["record"]) for task in tasks)

    monkeypatch.setattr(engine, "require_ray", lambda: None)
    monkeypatch.setattr(featurizing, "connect", lambda settings: None)
    monkeypatch.setattr(featurizing, "_records", work)
    return tl.scale.Ray(workers=1)


@pytest.fixture
def installed(monkeypatch):
    """Behave as if Ray were there; a start of it would be an error."""
    monkeypatch.setattr(engine, "require_ray", lambda: None)
