from __future__ import annotations

import pytest
import torch
from nets import classifier, seeded

import tlkit as tl
from tlkit.layers.noise import as_weight_noise


def test_drop_connect_drops_about_that_share_and_keeps_the_mean():
    weight = torch.ones(200, 200)
    with seeded(0):
        noisy = tl.DropConnect(0.25)(weight)
    assert torch.allclose(noisy.unique(), torch.tensor([0, 4 / 3]))
    assert float((noisy == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert torch.equal(weight, torch.ones(200, 200))


def test_a_probability_is_at_least_0_and_below_1():
    for p in (-0.1, 1.0):
        with pytest.raises(ValueError, match=f"probability to drop a weight.*got {p}"):
            tl.DropConnect(p)


def test_weight_noise_is_plain_data_and_nothing_else_is_weight_noise():
    assert as_weight_noise(tl.DropConnect(0.2).to_dict()) == tl.DropConnect(0.2)
    with pytest.raises(TypeError, match=r"weight_noise is tl.DropConnect\(p\), or None to remove it, got 0.5"):
        tl.Dense(3, weight_noise=0.5)


def test_weight_noise_survives_a_new_width_a_copy_and_a_file(tmp_path):
    net = (
        tl.TransferLearning(classifier(4, 8, 3))
        .fine_tune_configuration(tl.FineTuneConfiguration(weight_noise=tl.DropConnect(0.2)))
        .build()
    )
    wider = tl.TransferLearning(net).n_out_replace("0", 16).build()
    tl.save(wider, tmp_path / "net.tlk")
    again = tl.load(tmp_path / "net.tlk", source=classifier(4, 8, 3))
    for one in (net, wider, again):
        assert [vertex.module.weight_noise for vertex in one.vertices.values()] == [tl.DropConnect(0.2)] * 2
