from __future__ import annotations

import re

import pytest
import torch
from nets import narrow_vgg16
from torch import nn
from torchvision import models

import tlkit as tl
from tlkit.graph.summary import COLUMNS, Summary


def counted_by_torch(net: nn.Module) -> int:
    statistics = [value for name, value in net.named_buffers() if "running_" in name]
    return sum(value.numel() for value in [*net.parameters(), *statistics])


def small() -> tl.Network:
    return tl.Network.from_module(
        nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 2)
        ),
        [torch.zeros(1, 3, 8, 8)],
    )


def test_the_table_says_what_each_vertex_is_reads_and_holds():
    rows = small().freeze("0").summary().rows
    assert [tuple(row) for row in rows] == [
        ("input_1", "Input", "-", "-", "-", "-", "3 × 8 × 8", "-"),
        ("0", "Conv2d", "3, 4", "128", "6 tensors", "input_1", "4 × 6 × 6", "frozen"),
        ("3", "MaxPool2d", "-", "-", "-", "0", "4 × 3 × 3", "-"),
        ("4", "Flatten", "-", "-", "-", "3", "36", "-"),
        ("5", "Linear", "36, 2", "74", "weight: 2 × 36, bias: 2", "4", "2", "trainable"),
    ]
    assert len(COLUMNS) == len(rows[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "densenet121", "swin_v2_t", "googlenet", "vit_b_16", "efficientnet_b0"])
def test_totals_are_torchs_own_counts_with_batch_norm_statistics(name):
    with torch.device("meta"):
        options = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
        module = models.get_model(name, **options)
    net = tl.Network.from_module(module)
    summary = net.summary()
    assert summary.total == counted_by_torch(module)
    assert summary.frozen == 0
    assert summary.trainable == summary.total

    middle = net.cut_points[len(net.cut_points) // 2]
    summary = net.freeze(middle).summary()
    held = [vertex.module for name, vertex in net.vertices.items() if name in net.frozen]
    assert summary.frozen == sum(map(counted_by_torch, held)) > 0
    assert summary.trainable + summary.frozen == summary.total == counted_by_torch(module)


def test_frozen_parts_are_marked_in_words():
    net = narrow_vgg16().freeze("block5_pool").freeze("fc2", backprop=True)
    marks = {row.vertex: row.training for row in net.summary().rows}
    assert marks["block1_conv1"] == marks["block5_pool"] == "frozen"
    assert marks["fc2"] == "frozen, passes gradients"
    assert marks["fc1"] == marks["predictions"] == "trainable"
    assert marks["flatten"] == marks["x"] == "-"  # nothing to train there


def test_shared_weights_are_counted_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared, self.between = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.shared(self.between(self.shared(x)))

    net = tl.Network.from_module(Twice(), [torch.zeros(1, 4)])
    summary = net.summary()
    assert summary.total == counted_by_torch(net) == 40
    assert [row.parameters for row in summary.rows] == ["-", "20", "20", "-"]
    assert net.freeze("shared_2").summary().frozen == 40


def test_the_text_is_a_table_with_totals():
    net = small().freeze("0")
    text = str(net.summary())
    lines = text.splitlines()
    assert lines[0] == lines[2] == lines[-1] == "=" * len(lines[0])
    assert all(title in lines[1] for title in COLUMNS)
    assert text.endswith("Total parameters: 202\nTrainable parameters: 74\nFrozen parameters: 128\n" + lines[0])
    header = lines[1]
    for line, row in zip(lines[3:], net.summary().rows, strict=False):
        assert len(line) <= len(lines[0])
        assert line[header.index("type") :].startswith(row.type)  # columns begin where their title does
    assert repr(net.summary()) == text


def test_thousands_are_separated():
    net = tl.Network({"a": tl.Vertex(nn.Linear(1000, 2000), "x")}, {"x": (1000,)}, "a")
    assert "Total parameters: 2,002,000" in str(net.summary())
    assert net.summary().rows[1].in_out == "1,000, 2,000"


def test_html_holds_the_same_cells_and_escapes_names():
    net = tl.Network({"<b>&": tl.Vertex(nn.Linear(2, 2), "x")}, {"x": (2,)}, "<b>&")
    page = net.summary()._repr_html_()
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;" in page
    assert page.count("<tr>") == 3
    assert page.count("<th ") == page.count("<td ") / 2 == len(COLUMNS)
    assert "Total parameters: 6" in page
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", page)
    assert cells[len(COLUMNS) + 1] == "Linear"


def test_new_vertices_show_the_names_of_their_descriptions():
    net = (
        tl.TransferLearning(small())
        .add_vertex("sum", tl.ElementWise("add"), "5", "5")
        .add_vertex("both", tl.Merge(), "5", "sum")
        .set_outputs("both")
        .build()
    )
    assert {row.vertex: row.type for row in net.summary().rows}["sum"] == "ElementWise"
    assert isinstance(net.summary(), Summary)
