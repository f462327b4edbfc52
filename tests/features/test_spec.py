"""What a store shall hold: which shards a change costs, and in what words it is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from stores import ROWS, SHARDS, Compute, changed_key, fill, image, make_spec

from tlkit.features.store import FeatureStore, StoreError

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


def test_a_broken_spec_costs_no_shard(tmp_path):
    fill(tmp_path)
    spec = tmp_path / "spec.json"
    spec.write_text(spec.read_text().replace('"fc2"', '"fc3"'))
    with pytest.raises(StoreError, match=r"damaged.*checksum.*whole shards are kept"):
        FeatureStore(tmp_path)
    store, compute = fill(tmp_path)
    assert compute.asked == []
    assert store.verify() == []


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (
            changed_key(weights={"block5_conv3.weight": "9", "block5_conv3.bias": "2"}),
            "weights of block5_conv3 differ",
        ),
        (changed_key(preprocessing={"resize": 232}), "preprocessing: resize 256 -> 232"),
        (changed_key(graph="conv gelu"), "graph conv relu -> conv gelu"),
        (make_spec(shapes={"fc1": (4,)}), "boundary 'fc1' instead of 'fc2'"),
        (make_spec(shapes={"fc2": (2, 2)}), "boundary 'fc2': shape (4,) -> (2, 2)"),
        (make_spec(dtype="float16"), "dtype float32 -> float16"),
    ],
)
def test_another_key_computes_all_and_says_why(tmp_path, spec, reason):
    fill(tmp_path)
    store, compute = fill(tmp_path, spec, Compute(spec.shapes))
    assert compute.asked == list(range(SHARDS))
    assert store.reasons == (reason,)
    assert FeatureStore(tmp_path).verify() == []


def test_another_boundary_is_the_only_reason_for_what_follows_from_it(tmp_path):
    fill(tmp_path)
    key = {**make_spec().key, "graph": "conv", "weights": {"block5_conv3.weight": "1"}}
    store, _ = fill(tmp_path, make_spec(shapes={"conv": (4,)}, key=key), Compute({"conv": (4,)}))
    assert store.reasons == ("boundary 'conv' instead of 'fc2'",)


def test_vertices_and_boundary_of_the_key_follow_from_another_boundary_and_a_changed_vertex_does_not(tmp_path):
    graph = {"conv": "3 x 3", "fc1": "relu", "fc2": "relu"}
    fill(tmp_path, make_spec(key={"boundary": ["fc2"], "graph": graph}))
    earlier = {"boundary": ["fc1"], "graph": {"conv": "5 x 5", "fc1": "relu"}}
    store, _ = fill(tmp_path, make_spec(shapes={"fc1": (4,)}, key=earlier), Compute({"fc1": (4,)}))
    assert store.reasons == ("boundary 'fc1' instead of 'fc2'", "graph: conv 3 x 3 -> 5 x 5")


def test_the_same_key_in_another_order_is_the_same(tmp_path):
    fill(tmp_path)
    key = {name: make_spec().key[name] for name in ("preprocessing", "weights", "graph")}
    before = (tmp_path / "spec.json").read_bytes()
    assert fill(tmp_path, make_spec(key=key))[1].asked == []
    assert (tmp_path / "spec.json").read_bytes() == before


def test_one_edited_image_computes_its_shard(tmp_path):
    fill(tmp_path)
    images = list(make_spec().images)
    images[20] = image(20, "edited")
    store, compute = fill(tmp_path, make_spec(images=images))
    assert compute.asked == [2]
    assert store.reasons == ("1 image edited",)


def test_an_added_image_computes_the_last_shard(tmp_path):
    fill(tmp_path)
    store, compute = fill(tmp_path, make_spec(ROWS + 1))
    assert compute.asked == [SHARDS - 1]
    assert store.reasons == ("1 image added",)
    assert len(FeatureStore(tmp_path)) == ROWS + 1


def test_a_changed_label_computes_nothing(tmp_path):
    fill(tmp_path)
    labels = make_spec().labels.clone()
    labels[9] = 2
    store, compute = fill(tmp_path, make_spec(labels=labels))
    assert compute.asked == []
    assert store.reasons == ("1 image with another label, nothing computed",)
    assert store.labels[9] == 2


def test_renamed_classes_compute_nothing(tmp_path):
    fill(tmp_path)
    store, compute = fill(tmp_path, make_spec(classes=("a", "b", "c")))
    assert compute.asked == []
    assert FeatureStore(tmp_path).classes == store.classes == ("a", "b", "c")


def test_changes_and_an_unfinished_run_are_both_told(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, compute=Compute(stop_at=3))
    images = list(make_spec().images)
    images[0] = image(0, "edited")
    store, compute = fill(tmp_path, make_spec(images=images))
    assert compute.asked == [0, 3, 4, 5, 6]
    assert store.reasons == ("the images or their labels differ", "shards 3 to 6 were not finished yet")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"dtype": "float"}, "stored as 'float32', 'float16' or 'bfloat16'; got 'float'. Did you mean 'float32'"),
        ({"dtype": torch.int64}, "got 'int64'"),
        ({"shapes": {}}, "at least one boundary tensor"),
        ({"shapes": {"label": (4,)}}, "cannot be called 'label'"),
        ({"labels": torch.zeros(0, dtype=torch.long), "images": ()}, "no rows"),
        ({"images": [{}]}, "got 1 images and 50 labels"),
        ({"rows_per_shard": 0}, "rows_per_shard is 0"),
        ({"labels": torch.arange(ROWS)}, "from 0 to 2; got labels from 0 to 49"),
        ({"key": {"dtype": torch.float32}}, "The key must be plain data that JSON can hold"),
        ({"key": {"mean": float("nan")}}, "The key must be plain data"),
        ({"key": ["graph"]}, "The key is a dict of plain data"),
        ({"images": [{"path": Path("a.jpg")}] * ROWS}, "The images must be plain data"),
    ],
)
def test_an_impossible_spec_is_refused(changes, text):
    with pytest.raises(ValueError, match=text):
        make_spec(**changes)


def test_a_newer_format_is_told_and_left_alone(tmp_path):
    fill(tmp_path)
    file = tmp_path / "spec.json"
    newer = {**json.loads(file.read_text()), "version": 3}
    file.write_text(json.dumps(newer))
    for use in (FeatureStore, fill):
        with pytest.raises(StoreError, match="has format 3, from a newer version of tlkit; this one reads format 2"):
            use(tmp_path)
    assert json.loads(file.read_text()) == newer


@pytest.mark.parametrize("content", ["{}", "[]", "openapi: 3.0", '{"format": "other", "version": 1}'])
def test_a_foreign_spec_is_left_alone(tmp_path, content):
    file = tmp_path / "spec.json"
    file.write_text(content)
    with pytest.raises(StoreError, match=r"does not belong to a feature store\. Choose another folder"):
        fill(tmp_path)
    assert file.read_text() == content


def test_shards_are_small_by_default():
    assert make_spec(rows_per_shard=None).rows_per_shard == 256
    large = make_spec(rows_per_shard=None, shapes={"pool1": (64, 112, 112)})
    assert large.rows_per_shard * large.row_bytes < 64e6 < (large.rows_per_shard + 1) * large.row_bytes
