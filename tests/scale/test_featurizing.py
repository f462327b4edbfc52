"""Featurizing on a cluster of two workers writes what the loop on one machine writes.

What a worker does is tested in this process where that says the same: each run of Ray takes seconds.
"""

from __future__ import annotations

import errno
import json

import pytest
import samples
from torch import nn

import tlkit as tl
from tlkit.features import filling
from tlkit.features.store import FeatureStore
from tlkit.scale import featurizing


def records(path) -> list[dict]:
    """What the records say besides the time it took."""
    found = [json.loads(file.read_bytes()) for file in sorted((path / "shards").glob("*.json"))]
    return [
        {name: value for name, value in record.items() if name not in ("seconds", "record_crc32")} for record in found
    ]


@pytest.fixture
def helper():
    return samples.make_helper()


@pytest.mark.ray
def test_the_store_equals_that_of_the_local_loop(two_workers, small_shards, photos, helper, tmp_path):
    from ray._raylet import AuthenticationMode, get_authentication_mode

    pictures = samples.read_photos(photos, helper)
    local = helper.featurize(pictures, to=tmp_path / "local", progress=False)
    store = helper.featurize(pictures, to=tmp_path / "ray", engine=two_workers, progress=False)
    assert isinstance(store, FeatureStore)
    assert (store.rows_computed, store.reasons) == (local.rows_computed, local.reasons) == (24, ())
    assert samples.shard_bytes(store.path) == samples.shard_bytes(local.path)
    assert records(store.path) == records(local.path)
    assert {p.name for p in store.path.iterdir()} == {"spec.json", "shards"}
    assert (store.path / "spec.json").read_bytes() == (local.path / "spec.json").read_bytes()
    assert get_authentication_mode() == AuthenticationMode.TOKEN


def test_what_is_there_is_not_made_again(one_worker, small_shards, photos, helper, tmp_path, monkeypatch):
    pictures = samples.read_photos(photos, helper)
    helper.featurize(pictures, to=tmp_path / "store", progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(featurizing, "connect", lambda settings: pytest.fail("Ray is not needed"))
        assert helper.featurize(pictures, to=tmp_path / "store", engine=one_worker, progress=False).rows_computed == 0
    samples.save_picture(pictures.paths[9], seed=99)
    again = helper.featurize(
        samples.read_photos(photos, helper), to=tmp_path / "store", engine=one_worker, progress=False
    )
    assert again.rows_computed == 1
    assert again.reasons == ("1 image edited",)


def test_bad_photos_are_told_of_as_in_the_local_run(one_worker, small_shards, photos, helper, tmp_path):
    (photos / "daisy" / "4.png").write_bytes(b"no picture")
    (photos / "roses" / "13.png").write_bytes(b"")
    pictures = samples.read_photos(photos, helper)
    said = []
    for options in ({}, {"engine": one_worker}):
        with pytest.raises(tl.images.BadImagesError) as caught:
            helper.featurize(pictures, to=tmp_path / f"store{len(said)}", progress=False, **options)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert len(samples.shard_bytes(tmp_path / "store1")) == 4  # the whole shards stay


def test_a_shard_that_cannot_be_written_is_told_of(one_worker, small_shards, photos, helper, tmp_path, monkeypatch):
    def full(folder, shard, *_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(filling, "write_shard", full)
    with pytest.raises(OSError, match=r"The feature store in .* cannot be written: the disk is full"):
        helper.featurize(samples.read_photos(photos, helper), to=tmp_path / "store", engine=one_worker, progress=False)


def test_a_network_of_ones_own_needs_no_recipe(one_worker, photos, tmp_path):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module.append(nn.Linear(4, 2))
    net = tl.Network.from_module(module.eval(), samples.torch.empty(1, 3, 32, 32))
    net.preprocessing = tl.Preprocessing(size=32, resize=36)
    helper = tl.TransferLearningHelper(net, list(net.vertices)[-2])
    pictures = samples.read_photos(photos, helper)
    local = helper.featurize(pictures, to=tmp_path / "local", progress=False)
    store = helper.featurize(pictures, to=tmp_path / "ray", engine=one_worker, progress=False)
    assert samples.shard_bytes(store.path) == samples.shard_bytes(local.path)
