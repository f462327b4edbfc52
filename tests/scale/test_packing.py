"""Networks on their way to other processes."""

from __future__ import annotations

import torch
from nets import chain, narrow_vgg16

from tlkit.scale.packing import collect_numbers, copy_structure, fill_network, make_network, write_network


def test_a_structure_is_small_and_leaves_the_network_its_numbers():
    net = chain(400, 300, 2)
    structure = copy_structure(net)
    assert all(value.is_meta for value in structure.state_dict().values())
    assert list(structure.vertices) == list(net.vertices)
    assert not any(value.is_meta for value in net.state_dict().values())


def test_a_network_comes_back_from_its_structure_and_a_file(tmp_path):
    net = narrow_vgg16(batch_norm=True).freeze("block1_pool")
    write_network(net, tmp_path / "weights")
    back = fill_network(copy_structure(net), tmp_path / "weights")
    assert back.frozen == net.frozen
    assert all(torch.equal(value, collect_numbers(net)[name]) for name, value in collect_numbers(back).items())
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(back(x), net(x))


def test_a_network_to_be_filled_in_has_room_on_its_device():
    made = make_network(copy_structure(chain(4, 3)))
    assert {value.device.type for value in collect_numbers(made).values()} == {"cpu"}
