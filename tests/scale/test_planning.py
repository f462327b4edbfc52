"""tl.scale.plan: arithmetic that a reader can check by hand, and rates that are measured when none are given."""

from __future__ import annotations

import pytest
import torch
from nets import narrow_vgg16

import tlkit as tl
from tlkit.scale import planning

RATES = {"images_per_second": 4000, "decode_per_core": 600}


def test_a_billion_pictures_take_what_the_arithmetic_says():
    plan = tl.scale.plan(10**9, narrow_vgg16(), "fc2", workers=64, **RATES)
    assert plan.bytes_per_row == 16 + 4 * 12  # the features of narrow VGG16, a label and a number
    assert plan.feature_bytes == (64 * 10**9,)
    assert plan.shards == (3_906_250,)  # of 256 rows
    assert plan.worker_hours[0] == pytest.approx(10**9 / 4000 / 3600)
    assert plan.wall_seconds[0] == pytest.approx(10**9 / 4000 / 64)
    assert plan.decoding_cores == 427
    assert plan.core_hours[0] == pytest.approx(10**9 / 600 / 3600)
    assert plan.reading_rate == 64 * 4000 * 100_000


def test_rows_and_shards_are_those_of_the_store_that_featurize_makes(tmp_path):
    net = narrow_vgg16(classes=3).freeze("fc1")
    helper = tl.TransferLearningHelper(net)
    spec, _ = helper.plan((torch.rand(600, 3, 32, 32), torch.arange(600) % 3))
    plan = tl.scale.plan(600, net, "fc1", **RATES)
    assert (plan.bytes_per_row, plan.rows_per_shard) == (spec.row_bytes, spec.rows_per_shard)
    assert plan.shards == (len(spec.layout.shards),)


def test_half_precision_halves_the_features():
    full, half = (tl.scale.plan(10**6, narrow_vgg16(), "fc2", dtype=t, **RATES) for t in (torch.float32, torch.float16))
    assert half.bytes_per_row - 16 == (full.bytes_per_row - 16) / 2


def test_few_shards_keep_few_workers_busy():
    plan = tl.scale.plan(300, narrow_vgg16(), "fc2", workers=64, **RATES)
    assert plan.wall_seconds[0] == pytest.approx(300 / 4000 / 2)


def test_several_numbers_of_pictures_give_a_column_each():
    plan = tl.scale.plan([1000, 10**6, 10**9], narrow_vgg16(), "fc2", **RATES)
    assert all(len(cells) == 3 for cells in plan.rows().values())
    assert "1,000  1,000,000  1,000,000,000" in str(plan)
    assert plan._repr_html_().count("<tr>") == len(plan.rows())


def test_rates_that_are_not_given_are_measured_and_said_to_be(monkeypatch):
    monkeypatch.setattr(planning, "MEASURED", 0.02)
    plan = tl.scale.plan(100, narrow_vgg16(), "fc2")
    assert plan.images_per_second > 0
    assert plan.decode_per_core > 0
    assert str(plan).count("(measured here)") == 2
    assert "(measured here)" not in str(tl.scale.plan(100, narrow_vgg16(), "fc2", **RATES))


def test_the_network_is_left_alone():
    net = narrow_vgg16()
    tl.scale.plan(100, net, "fc1", **RATES)
    assert net.frozen == frozenset()
    assert all(weight.requires_grad for weight in net.parameters())


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"n_images": 0}, "n_images must be more than 0, got 0"),
        ({"n_images": (0, 10)}, "n_images must be more than 0, got 0"),
        ({"workers": 0}, "workers must be more than 0"),
        ({"images_per_second": -1}, "images_per_second must be more than 0, got -1"),
        ({"n_images": ()}, "n_images is the number of pictures"),
    ],
)
def test_numbers_that_cannot_be_are_refused(changes, text):
    with pytest.raises(ValueError, match=text):
        tl.scale.plan(**{"n_images": 10, "net": narrow_vgg16(), "boundary": "fc2", **RATES, **changes})


def test_a_mistyped_boundary_gets_a_hint():
    with pytest.raises(KeyError, match="Did you mean 'fc2'"):
        tl.scale.plan(10, narrow_vgg16(), "fc_2", **RATES)
