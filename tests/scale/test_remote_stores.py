"""A cluster fills a store on object storage as the loop on one machine does."""

from __future__ import annotations

import re

import pytest
import samples

import tlkit as tl
from tlkit.features.store import FeatureStore
from tlkit.files.storage import place


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A folder of its own for copies."""
    monkeypatch.setenv("TLKIT_HOME", str(tmp_path / "home"))


def remote_bytes(address: str) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (place(address) / "shards").glob("*.safetensors")}


def left_behind(address: str) -> list[str]:
    return [path.name for path in place(address).glob(".*")]


@pytest.mark.slow
def test_what_a_worker_publishes_at_an_address_is_what_the_local_loop_writes(
    small_shards, photos, tmp_path, one_worker
):
    helper, address = samples.make_helper(), "memory://cluster/features"
    pictures = samples.read_photos(photos, helper)
    local = helper.featurize(pictures, to=tmp_path / "local", progress=False)
    for path in pictures.paths:
        (place("memory://cluster/photos") / path.parent.name / path.name).write_bytes(path.read_bytes())
    remote = samples.read_photos("memory://cluster/photos", helper)
    store = helper.featurize(remote, to=address, engine=one_worker, progress=False)
    assert remote_bytes(address) == samples.shard_bytes(local.path)
    assert (store.rows_computed, left_behind(address)) == (24, [])
    assert helper.featurize(remote, to=address, engine=tl.scale.Ray(workers=1), progress=False).rows_computed == 0
    with pytest.raises(ValueError, match=r"on a disk that all of them reach; this store is at 'memory://cluster"):
        helper.fit_featurized(store, engine=tl.scale.Ray(workers=1))


@pytest.mark.ray
@pytest.mark.s3
def test_two_workers_fill_a_store_on_a_server_that_speaks_s3(s3, two_workers, small_shards, photos, tmp_path):
    two_workers.stop()  # a new cluster gets the environment that says where the server is
    helper, address = samples.make_helper(), f"{s3.bucket()}/features"
    pictures = samples.read_photos(photos, helper)
    local = helper.featurize(pictures, to=tmp_path / "local", progress=False)
    first = []

    def busy_once(method, key):
        fails = method == "PUT" and re.search(r"00003-\w+\.safetensors$", key) and not first
        first.extend([key] * bool(fails))
        return ("503 Service Unavailable", "SlowDown") if fails else None

    s3.fails = busy_once
    store = helper.featurize(pictures, to=address, engine=two_workers, progress=False)
    assert first
    assert remote_bytes(address) == samples.shard_bytes(local.path)
    assert (store.rows_computed, left_behind(address)) == (24, [])
    assert FeatureStore(address).verify() == []
    assert helper.featurize(pictures, to=address, engine=two_workers, progress=False).rows_computed == 0
