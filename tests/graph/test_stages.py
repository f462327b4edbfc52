import pytest
import torch

import tlkit as tl
from tlkit.graph.stages import group_stages, label_stage


def stages_of(name):
    with torch.device("meta"):
        net = tl.zoo.load(name, weights=None)
    shapes = net.output_shapes()
    found = group_stages({vertex: shapes[vertex] for vertex in net.vertices})
    assert [vertex for names in found for vertex in names] == list(net.vertices)
    return found


def test_vgg16_has_the_blocks_of_its_documentation():
    labels = [label_stage(names) for names in stages_of("vgg16")]
    assert labels == ["block1", "block2", "block3", "block4", "block5", "flatten", "fc1", "fc2", "predictions"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet50", "mobilenet_v3_large", "vit_b_16"])
def test_other_networks_have_as_many_stages_as_a_picture_can_show(name):
    assert 5 <= len(stages_of(name)) <= 12


def test_a_long_stage_is_divided_where_its_pictures_change_size():
    shapes = {f"features_{number}": (4, size, size) for number, size in enumerate([8, 8, 8, 8, 4, 4, 4, 2])}
    assert [len(names) for names in group_stages(shapes)] == [4, 3, 1]
    assert len(group_stages(dict(list(shapes.items())[:6]))) == 1


def test_part_of_a_stage_says_which():
    assert label_stage(["block5_conv1", "block5_conv2"], whole=False) == "block5 conv1–conv2"
    assert label_stage(["block5_pool"], whole=False) == "block5_pool"
