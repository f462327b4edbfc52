"""Files of a store that change behind its back: every fault is noticed, and only what it hit is computed again."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import Counter

import pytest
import samples
import torch

from tlkit.features import store as store_module
from tlkit.features.spec import Layout
from tlkit.features.store import FeatureStore, StoreError

pytestmark = pytest.mark.slow  # a disk or a network fails at every step

FAULTS = 200
SHARDS = 10
ROWS = SHARDS * samples.ROWS_PER_SHARD


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def data(path, number):
    return Layout.read(path).shards[number].data(path)


def record(path, number):
    return Layout.read(path).shards[number].record(path)


def flip_a_bit(file, chance):
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


def exchange(one, two):
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)


class Faults:
    """Does harm to a store, and says which shards it hit."""

    def __init__(self, path, foreign, chance):
        self.path, self.foreign, self.chance = path, foreign, chance

    def flipped_bit(self, number):
        flip_a_bit(data(self.path, number), self.chance)
        return {number}

    def truncated(self, number):
        file = data(self.path, number)
        os.truncate(file, self.chance.randrange(1, file.stat().st_size))
        return {number}

    def longer(self, number):
        with data(self.path, number).open("ab") as file:
            file.write(bytes(self.chance.randrange(1, 100)))
        return {number}

    def zero_length(self, number):
        data(self.path, number).write_bytes(b"")
        return {number}

    def zeros(self, number):
        file = data(self.path, number)
        file.write_bytes(bytes(file.stat().st_size))
        return {number}

    def missing_data(self, number):
        data(self.path, number).unlink()
        return {number}

    def missing_record(self, number):
        record(self.path, number).unlink()
        return {number}

    def torn_record(self, number):
        file = record(self.path, number)
        os.truncate(file, self.chance.randrange(file.stat().st_size - 1))
        return {number}

    def swapped_shards(self, number):
        other = self.chance.choice([shard for shard in range(SHARDS) if shard != number])
        for file in self.chance.choice([(data,), (record,), (data, record)]):
            exchange(file(self.path, number), file(self.path, other))
        return {number, other}

    def foreign_key(self, number):
        for file in self.chance.choice([(data,), (record,), (data, record)]):
            shutil.copyfile(file(self.foreign, number), file(self.path, number))
        return {number}

    def flipped_bit_in_a_record(self, number):
        flip_a_bit(record(self.path, number), self.chance)
        return {number}


KINDS = [name for name in vars(Faults) if not name.startswith("_") and name != "flipped_bit_in_a_record"]


@pytest.fixture
def harmed(tmp_path):
    """A store, and a store of other features with the same rows."""
    samples.fill(tmp_path / "store", samples.make_spec(ROWS))
    samples.fill(tmp_path / "foreign", samples.make_spec(ROWS, key={"graph": "conv gelu"}))
    return Faults(tmp_path / "store", tmp_path / "foreign", random.Random(11))


def mend(harmed, hit, whole):
    """See that a fault is noticed in three ways, and that only the shards it hit are computed."""
    with pytest.raises(StoreError, match=r"is (damaged|unfinished)"):
        FeatureStore(harmed.path)
    store, compute = samples.fill(harmed.path, samples.make_spec(ROWS))
    assert set(compute.asked) == hit
    assert len(compute.asked) == len(hit)
    assert store.reasons, "the reason is told"
    assert all(str(number) in " ".join(store.reasons) for number in hit), (hit, store.reasons)
    assert samples.shard_bytes(harmed.path) == whole
    assert store.verify() == []


def test_each_of_200_random_faults_is_noticed_and_only_its_shards_are_computed_again(harmed):
    whole, done = samples.shard_bytes(harmed.path), Counter()
    opened = FeatureStore(harmed.path)
    for _ in range(FAULTS):
        kind = harmed.chance.choice(KINDS)
        hit = getattr(harmed, kind)(harmed.chance.randrange(SHARDS))
        told = " ".join(opened.verify())
        assert all(f"hard {number} is" in told for number in hit), kind
        mend(harmed, hit, whole)
        done[kind] += 1
    assert sum(done.values()) == FAULTS
    assert set(done) == set(KINDS)


def test_a_store_too_large_to_be_read_when_opened_never_gives_a_row_of_a_harmed_shard(harmed, monkeypatch):
    whole, spec = samples.shard_bytes(harmed.path), samples.make_spec(ROWS)
    monkeypatch.setattr(store_module, "CHECKED_AT_ONCE", 0)
    for number in range(60):
        in_memory = number % 2
        monkeypatch.setattr(store_module, "available_memory", lambda room=in_memory: room * 10**9)
        hit = getattr(harmed, harmed.chance.choice(KINDS))(harmed.chance.randrange(SHARDS))
        given = []
        with pytest.raises(StoreError, match=r"is (damaged|unfinished)|was replaced"):  # noqa: PT012
            for x, _ in FeatureStore(harmed.path).batches(samples.ROWS_PER_SHARD):
                given.append(x)
        assert len(given) <= min(hit)
        rows = range(len(given) * samples.ROWS_PER_SHARD)
        assert torch.equal(torch.cat([*given, torch.empty(0, 16)]), samples.values(rows)["fc2"])
        _, compute = samples.fill(harmed.path, spec)
        assert set(compute.asked) == hit
        assert samples.shard_bytes(harmed.path) == whole


def test_a_bit_that_flipped_in_a_record_is_noticed_wherever_it_is(harmed):
    whole = samples.shard_bytes(harmed.path)
    for _ in range(40):
        number = harmed.chance.randrange(SHARDS)
        before = json.loads(record(harmed.path, number).read_bytes())
        hit = harmed.flipped_bit_in_a_record(number)
        try:
            same = json.loads(record(harmed.path, number).read_bytes()) == before
        except ValueError:
            same = False
        if not same:  # an upper-case letter in "\\u00E4" means the same
            mend(harmed, hit, whole)


def test_a_bit_that_flipped_in_the_plan_is_noticed_and_costs_no_shard(harmed):
    whole = samples.shard_bytes(harmed.path)
    plan = harmed.path / "spec.json"
    right = plan.read_bytes()
    for _ in range(40):
        flip_a_bit(plan, harmed.chance)
        with pytest.raises(StoreError, match=r"is damaged|does not belong to a feature store|newer version"):
            FeatureStore(harmed.path)
        try:
            _, compute = samples.fill(harmed.path, samples.make_spec(ROWS))
            assert compute.asked == []
        except StoreError:  # its first lines no longer say that this is a store of ours
            plan.write_bytes(right)
        assert plan.read_bytes() == right
        assert samples.shard_bytes(harmed.path) == whole


def test_faults_in_several_shards_at_once_cost_these_shards_alone(harmed):
    whole = samples.shard_bytes(harmed.path)
    for _ in range(10):
        hit = set()
        for kind in harmed.chance.sample(KINDS, 3):
            left = [number for number in range(SHARDS) if number not in hit]
            if kind != "swapped_shards":
                hit |= getattr(harmed, kind)(harmed.chance.choice(left))
        mend(harmed, hit, whole)


def test_a_record_of_another_key_is_never_taken_for_the_shard_s_own(harmed):
    for number in range(SHARDS):
        for file in (data, record):
            shutil.copyfile(file(harmed.foreign, number), file(harmed.path, number))
    store, compute = samples.fill(harmed.path, samples.make_spec(ROWS))
    assert compute.asked == list(range(SHARDS))
    assert store.reasons == tuple(
        f"shard {n} was damaged: its record is one of other pictures, labels or rows" for n in range(SHARDS)
    )
    assert Layout.read(harmed.path) == samples.make_spec(ROWS).layout
