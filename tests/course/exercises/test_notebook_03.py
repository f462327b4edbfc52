"""The checks of the exercises in notebook 03: right answers are right, wrong ones get their hint."""

from __future__ import annotations

import pytest
import torch

import tlkit as tl


@pytest.fixture(scope="module")
def imagenet() -> tl.Network:
    with torch.device("meta"):
        return tl.zoo.load(weights=None)


def test_the_classes_and_the_daisies_are_counted(imagenet: tl.Network) -> None:
    assert tl.check("03.1", (1000, 1), imagenet)
    for wrong, hint in [((999, 1), "another number of classes"), ((1000, 2), "Count the names"), (7, "a pair")]:
        result = tl.check("03.1", wrong, imagenet)
        assert not result
        assert hint in result.sentence


def test_the_boundary_before_the_last_stage() -> None:
    assert tl.check("03.2", "layer3_1")
    assert tl.check("03.2", "layer3.1")
    for wrong, hint in [("layer4_0", "belongs to layer4"), ("layer2_1", "Name a later"), ("fc9", "no vertex")]:
        assert hint in tl.check("03.2", wrong).sentence


@pytest.mark.slow
def test_the_bytes_at_the_bottleneck_of_any_network(imagenet: tl.Network) -> None:
    with torch.device("meta"):
        blocks = tl.zoo.load("resnet18", weights=None)

    def numbers(network: tl.Network) -> int:
        return torch.Size(network.output_shapes()[network.landmarks.bottleneck]).numel()

    assert "62,720 bytes" in tl.check("03.3", lambda network: 4 * numbers(network), imagenet, blocks).sentence
    for hint, answer in {
        "Each of them takes four bytes": numbers,
        "for each network": lambda network: 4 * numbers(imagenet),
        "it returns 5 for": lambda network: 5,
        "a whole number": lambda network: "many",
        "the answer is a function": 62_720,
    }.items():
        result = tl.check("03.3", answer, imagenet, blocks)
        assert not result
        assert hint in result.sentence
