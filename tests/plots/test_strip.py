"""The drawn network: its blocks to scale, frozen and trainable told apart by more than color."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
import torch
from drawings import patches, texts, vgg16
from matplotlib.patches import Rectangle

from tlkit import plots
from tlkit.colors import FROZEN, TRAINABLE
from tlkit.graph.network import Network
from tlkit.plots.strip import draw_strip


def test_frozen_blocks_are_blue_hatched_and_trainable_ones_plain_orange():
    picture = draw_strip(vgg16("block4_pool"), boundary="block4_pool")
    frozen, trainable = patches(picture, FROZEN), patches(picture, TRAINABLE)
    assert sum(patch.get_hatch() is not None for patch in frozen) == 14
    assert all(patch.get_hatch() is None for patch in trainable)
    assert len([patch for patch in trainable if patch.get_height() > 5]) == 8
    written = texts(picture)
    assert "frozen: 7,635,264 parameters" in written
    assert "trainable: 126,645,765 parameters" in written
    assert "boundary: block4_pool" in written


def test_every_name_of_vgg16_is_written():
    written = " ".join(texts(draw_strip(vgg16("fc2"), boundary="fc2")))
    assert all(re.search(rf"\b{name}\b", written) for name, *_ in vgg16("fc2"))


def test_the_boundary_stands_right_of_its_block():
    picture = draw_strip(vgg16("block4_pool"), boundary="block4_pool")
    line = picture.figure.axes[0].lines[0].get_xdata()[0]
    blocks = sorted((patch for patch in picture.figure.axes[0].patches if patch.get_height() > 5), key=Rectangle.get_x)
    assert blocks[13].get_x() + blocks[13].get_width() <= line <= blocks[14].get_x()


def test_wider_blocks_have_more_parameters_and_none_vanishes():
    blocks = sorted(vgg16("fc2"), key=lambda block: block[2])
    picture = draw_strip(blocks)
    drawn = sorted((patch for patch in picture.figure.axes[0].patches if patch.get_height() > 5), key=Rectangle.get_x)
    widths = [patch.get_width() for patch in drawn]
    assert len(widths) == 22
    assert widths == sorted(widths)
    assert min(widths) >= 10


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 18, 40, 120])
def test_names_of_a_strip_never_overlap(count):
    blocks = [(f"layer{number}", "Block", 100 * number**2, number < count // 2) for number in range(count)]
    boundary = blocks[count // 2 - 1][0] if count > 1 else None
    picture = draw_strip(blocks, boundary=boundary)
    picture.figure.draw_without_rendering()
    names = [text for text in picture.figure.axes[0].texts if text.get_text().startswith("layer")]
    boxes = sorted((text.get_window_extent() for text in names), key=lambda box: box.x0)
    assert all(one.x1 <= other.x0 + 1.5 for one, other in pairwise(boxes))
    assert len(names) >= min(count, 15)
    assert {f"layer{number}" for number in (0, count - 1)} <= {text.get_text().split(" ")[0] for text in names}
    assert boxes[0].x0 >= 0
    assert boxes[-1].x1 <= 630


def test_alternating_parts_are_each_named_once():
    blocks = [(f"b{number}", "Block", 1000, number % 2 == 0) for number in range(6)]
    written = texts(draw_strip(blocks))
    assert sum(text.startswith("frozen:") for text in written) == 1
    assert sum(text.startswith("trainable:") for text in written) == 1


def test_a_strip_that_cannot_be_drawn_says_why():
    with pytest.raises(ValueError, match=r"No block is called 'fc_2'. Did you mean 'fc2'"):
        draw_strip(vgg16("fc2"), boundary="fc_2")
    with pytest.raises(ValueError, match="list of blocks is empty"):
        draw_strip([])


def test_a_network_is_drawn_with_its_own_boundary_and_frozen_marks() -> None:
    layers = [torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2)]
    net = Network.from_module(torch.nn.Sequential(*layers), [torch.zeros(1, 8)]).freeze("0")
    picture = plots.network_strip(net)
    assert "boundary: 0" in " ".join(texts(picture))
    assert "frozen: 1 with 54 parameters; trainable: 1 with 14 parameters" in picture.alt


def test_a_drawn_network_counts_as_its_summary_does() -> None:
    shared = torch.nn.Linear(4, 4)
    layers = [torch.nn.Linear(8, 4), torch.nn.BatchNorm1d(4), shared, torch.nn.Sigmoid(), shared, torch.nn.Linear(4, 2)]
    net = Network.from_module(torch.nn.Sequential(*layers), [torch.zeros(1, 8)]).freeze("0")
    summary = net.summary()
    title = f"{summary.trainable:,} of {summary.total:,} parameters are trainable"
    assert summary.total == 36 + 16 + 20 + 10
    assert title in plots.network_strip(net).alt
