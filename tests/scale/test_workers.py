"""A worker: it makes the shard of a task, unless that is there, and says what it did."""

from __future__ import annotations

import hashlib
import json

import pytest
import samples

from tlkit.features.filling import prepare
from tlkit.features.store import FeatureStore
from tlkit.scale.packing import copy_structure, write_network
from tlkit.scale.workers import Job, ShardFeaturizer, write_task


@pytest.fixture
def work(small_shards, photos, tmp_path):
    """A prepared store, its tasks, and a worker for them."""
    helper = samples.make_helper()
    pictures = samples.read_photos(photos, helper)
    spec, compute = helper.plan(pictures, "torch")
    work = prepare(tmp_path / "store", spec)
    write_network(helper.frozen_network, tmp_path / "weights")
    job = Job(
        store=str(tmp_path / "store"),
        weights=str(tmp_path / "weights"),
        structure=copy_structure(helper.frozen_network),
        root=str(pictures.root),
        geometry=pictures.geometry,
        classes=spec.classes,
        shapes=spec.shapes,
        dtype=spec.dtype,
        engine="torch",
        rows=len(spec),
        batch_size=compute.batch_size,
        threads=1,
        device="cpu",
    )
    tasks = [{"task": write_task(shard, pictures.paths)} for shard in work.shards]
    return ShardFeaturizer(job), tasks, pictures, helper


def test_shards_of_tasks_in_any_order_are_the_store_of_one_process(work, tmp_path):
    worker, tasks, pictures, helper = work
    records = [json.loads(worker(task)["record"]) for task in reversed(tasks)]
    assert [record["number"] for record in records] == [5, 4, 3, 2, 1, 0]
    assert all(record["computed"] for record in records)
    alone = helper.featurize(pictures, to=tmp_path / "alone", engine="torch", progress=False)
    assert FeatureStore(tmp_path / "store").verify() == []
    assert samples.shard_bytes(tmp_path / "store") == samples.shard_bytes(alone.path)


def test_a_shard_that_is_there_is_not_made_again(work):
    worker, (task, *_), *_ = work
    assert [json.loads(worker(task)["record"])["computed"] for _ in range(2)] == [4, 0]


def test_broken_pictures_are_told_of_in_the_record(work):
    worker, (task, *_), pictures, _ = work
    content, whole = b"no picture", json.loads(task["task"])
    pictures.paths[1].write_bytes(content)
    whole["images"][1]["sha256"] = hashlib.sha256(content).hexdigest()
    record = json.loads(worker({"task": json.dumps(whole)})["record"])
    assert record["broken"] == [[str(pictures.paths[1]), "no picture in a format that Pillow knows"]]
    assert not record["computed"]


def test_a_picture_that_changed_since_the_tasks_were_written_is_told_of(work):
    worker, (task, *_), pictures, _ = work
    pictures.paths[1].write_bytes(pictures.paths[0].read_bytes())
    name, _, text = json.loads(worker(task)["record"])["failed"]
    assert name == "ChangedImageError"
    assert "changed while the pictures were being read" in text


def test_rows_that_the_folder_holds_are_copied(work, tmp_path):
    worker, tasks, pictures, helper = work
    for task in tasks:
        worker(task)
    spec, _ = helper.plan(pictures[1:], "torch")
    after = [{"task": write_task(shard, pictures[1:].paths)} for shard in prepare(tmp_path / "store", spec).shards]
    assert [json.loads(worker(task)["record"])["computed"] for task in after] == [0] * len(after)
    assert FeatureStore(tmp_path / "store").verify() == []
