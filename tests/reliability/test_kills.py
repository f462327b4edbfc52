"""Processes that are killed at any moment, and processes that fill one store at once."""

from __future__ import annotations

import os
import random
import time

import pytest
import samples

from tlkit.features import spec as spec_module
from tlkit.features.shards import verify_shard
from tlkit.features.spec import Layout
from tlkit.features.store import FeatureStore
from tlkit.images import drawing

pytestmark = pytest.mark.slow  # other processes are killed

KILLS = 24
SHARDS = 60
WIDTH = 4096  # 64 kB a shard, so that kills meet writes as well as computations
SPEC = {"shapes": {"fc2": (WIDTH,)}}


def fill_slowly(send, path, log):
    """Fill a store of a slow network, and note each shard that was computed."""
    compute = samples.Compute(WIDTH)

    def slow(rows):
        if not compute.asked:
            send("begun")
        time.sleep(0.01)
        with log.open("a") as file:
            file.write(f"{rows[0]}\n")
        return compute(rows)

    store = FeatureStore.fill(path, samples.make_spec(SHARDS * samples.ROWS_PER_SHARD, **SPEC), slow, progress=False)
    return store.rows_computed


def featurize(send, photos, path):
    """Featurize photos, slowly."""
    spec_module.MOST_ROWS = samples.ROWS_PER_SHARD
    helper = samples.make_helper()
    run = helper.frozen_network.forward

    def slow(*arguments):
        send("begun")
        time.sleep(0.02)
        return run(*arguments)

    helper.frozen_network.forward = slow
    return helper.featurize(samples.read_photos(photos, helper), to=path, progress=False).rows_computed


def whole_shards(path):
    """Numbers of the shards that have a record; each must be right to the last byte."""
    if not (path / "spec.json").exists():
        return set()
    plan = Layout.read(path)
    recorded = [shard for shard in plan.shards if shard.record(path).exists()]
    for shard in recorded:
        assert verify_shard(path, shard, plan.shapes) == []
    return {shard.number for shard in recorded}


def test_a_store_survives_kills_at_random_moments_and_loses_at_most_one_shard_in_each(tmp_path, apart, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # here only: the children that are killed call it
    spec = samples.make_spec(SHARDS * samples.ROWS_PER_SHARD, **SPEC)
    samples.fill(tmp_path / "undisturbed", spec, samples.Compute(WIDTH))
    chance, kills, stores = random.Random(4), 0, 0
    while kills < KILLS:
        path, log = tmp_path / f"store {stores}", tmp_path / f"computed {stores}"
        killed_here, before = 0, set()
        while len(before) < SHARDS - 2 and kills < KILLS:
            child = apart(fill_slowly, path, log)
            child.word()
            time.sleep(chance.uniform(0, 0.2))
            killed = child.kill()
            kills, killed_here = kills + killed, killed_here + killed
            after = whole_shards(path)
            assert after >= before, "what was finished stays"
            before = after
        store, compute = samples.fill(path, spec, samples.Compute(WIDTH))
        assert set(compute.asked) == set(range(SHARDS)) - before
        assert len(log.read_text().split()) + len(compute.asked) <= SHARDS + killed_here
        assert len(list(path.rglob("*.tmp"))) <= killed_here
        assert store.verify() == []
        assert samples.shard_bytes(path) == samples.shard_bytes(tmp_path / "undisturbed")
        stores += 1


def test_a_featurization_that_was_killed_goes_on_where_it_stopped(tmp_path, apart, small_shards):
    photos = drawing.draw_flowers(tmp_path / "flowers", per_class=4)
    child = apart(featurize, photos, tmp_path / "killed")
    for _ in range(3):
        child.word()
    assert child.kill()
    finished = whole_shards(tmp_path / "killed")
    helper = samples.make_helper()
    pictures = samples.read_photos(photos, helper)
    store = helper.featurize(pictures, to=tmp_path / "killed", progress=False)
    assert len(finished) >= 2
    assert store.rows_computed == 20 - samples.ROWS_PER_SHARD * len(finished)
    assert store.verify() == []
    helper.featurize(pictures, to=tmp_path / "undisturbed", progress=False)
    assert samples.shard_bytes(tmp_path / "killed") == samples.shard_bytes(tmp_path / "undisturbed")


def test_processes_that_featurize_into_one_store_at_once_all_end_with_the_same_bytes(tmp_path, photos, apart):
    children = [apart(featurize, photos, tmp_path / "shared") for _ in range(2)]
    for child in children:
        child.word()
    computed = [child.result() for child in children]
    assert 24 <= sum(computed) <= 48
    assert whole_shards(tmp_path / "shared") == set(range(6))
    assert not list(tmp_path.rglob("*.tmp"))
    alone = apart(featurize, photos, tmp_path / "alone")
    assert alone.result() == 24
    assert samples.shard_bytes(tmp_path / "shared") == samples.shard_bytes(tmp_path / "alone")
