import copy
import functools
import json
import os
import random
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nets import blobs, chain, classifier, furthest, moved, narrow_vgg16, pictures, seeded, weights
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import tlkit as tl
from tlkit import saving
from tlkit.files.weights import write_weights


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.tlk"


def round_trip(net, path, source=None, **options):
    return tl.load(tl.save(net, path), source, **options)


def zoo_head(net, classes=5, **options):
    """Replace the last layer of a network of the zoo."""
    return (
        tl.TransferLearning(net)
        .fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Nesterovs(1e-2, 0.9), l2=1e-3, seed=5))
        .set_feature_extractor(net.landmarks.penultimate)
        .remove_vertex_keep_connections(net.landmarks.head)
        .add_layer(net.landmarks.head, tl.Output(classes, **options), *net.vertices[net.landmarks.head].inputs)
        .build()
    )


# -- round trips ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_efficientnet_comes_back_bit_by_bit(path):
    net = zoo_head(tl.zoo.load())
    net.classes = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    loaded = round_trip(net, path)
    assert furthest(weights(net), weights(loaded)) == 0
    with seeded(1):
        images = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(loaded(images), net(images))
    assert loaded.classes == net.classes
    assert loaded.preprocessing == net.preprocessing
    assert loaded.landmarks == net.landmarks
    assert loaded.frozen == net.frozen
    again = zoo_head(loaded, classes=3)
    assert again.outputs == loaded.outputs


@pytest.fixture(scope="module")
def squeezenet():
    with seeded(2):
        return tl.zoo.load("squeezenet1_1", weights=None)


def squeezed(squeezenet):
    return (
        tl.TransferLearning(squeezenet)
        .fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Adam(1e-3), l1=1e-4, dropout=0.2, seed=5))
        .set_feature_extractor("features_9")
        .add_layer(
            "hidden", tl.Dense(8, activation="tanh", weight_init=tl.Normal(0, 0.1), updater=tl.Sgd(0.1)), "flatten"
        )
        .add_layer("answer", tl.Output(5, l2=0.1), "hidden")
        .set_outputs("answer")
        .build()
    )


@pytest.mark.filterwarnings("ignore:'dropout' of the configuration")
def test_a_network_of_the_zoo_comes_back_with_everything(squeezenet, path):
    net = squeezed(squeezenet).freeze("features_11", backprop=True)
    net.classes, net.epochs_seen = tuple("abcde"), 4
    loaded = round_trip(net, path)
    assert furthest(weights(net), weights(loaded)) == 0
    assert list(loaded.vertices) == list(net.vertices)
    for name, vertex in net.vertices.items():
        assert loaded.vertices[name].settings == vertex.settings
        assert loaded.vertices[name].inputs == vertex.inputs
        assert str(loaded.vertices[name].module) == str(vertex.module)
    assert {n: p.requires_grad for n, p in loaded.named_parameters()} == {
        n: p.requires_grad for n, p in net.named_parameters()
    }
    for attribute in ("inputs", "input_shapes", "outputs", "frozen", "passing", "classes", "seed", "epochs_seen"):
        assert getattr(loaded, attribute) == getattr(net, attribute), attribute
    assert loaded.preprocessing == net.preprocessing
    assert not loaded.training
    assert not any(p.is_meta for p in [*loaded.parameters(), *loaded.buffers()])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:'dropout' of the configuration")
def test_the_next_training_step_is_the_same(squeezenet, path):
    net = squeezed(squeezenet)
    with seeded(1):
        data = torch.randn(6, 3, 64, 64), torch.arange(6) % 5
    loaded = round_trip(net, path)
    histories = [tl.fit(one, data, epochs=2, batch_size=3, progress=False) for one in (net, loaded)]
    assert histories[0].losses == histories[1].losses
    assert furthest(weights(net), weights(loaded)) == 0


def test_training_goes_on_where_it_was_saved(path):
    source = chain(4, 8, 3)
    net = classifier(4, 8, 3)  # plain gradient descent keeps no state between steps
    tl.fit(net, blobs(), epochs=2, batch_size=8, progress=False)
    loaded = round_trip(net, path, source)
    for one in (net, loaded):
        tl.fit(one, blobs(), epochs=2, batch_size=8, progress=False)
    assert furthest(weights(net), weights(loaded)) == 0


UPDATERS = [
    tl.Adam(0.01),
    tl.AdamW(0.01),
    tl.Nesterovs(0.05, 0.9),
    tl.RmsProp(0.01),
    tl.AdaGrad(0.05),
    tl.AdaDelta(1.0),
    tl.AdaMax(0.01),
    tl.Nadam(0.01),
    functools.partial(torch.optim.SGD, lr=0.05, momentum=0.5),
]


@pytest.mark.slow  # twelve trainings, saved and loaded
@pytest.mark.parametrize("updater", UPDATERS, ids=lambda updater: getattr(updater, "optimizer", "partial"))
def test_with_the_updaters_state_training_goes_on_as_if_it_had_not_been_interrupted(updater, path):
    net = (
        tl.TransferLearning(classifier(4, 8, 8, 3))
        .fine_tune_configuration(tl.FineTuneConfiguration(updater=updater, bias_updater=tl.Adam(0.02)))
        .set_feature_extractor("0")
        .build()
    )
    tl.fit(net, blobs(), epochs=2, batch_size=8, progress=False)
    tl.save(net, path, updater_state=True)
    loaded = tl.load(path, source=chain(4, 8, 8, 3))
    assert loaded.optimizers.state().keys() == net.optimizers.state().keys() == {
        f"{layer}.{kind}" for layer in "12" for kind in ("weight", "bias")
    }  # fmt: skip
    for one in (net, loaded):
        tl.fit(one, blobs(), epochs=2, batch_size=8, progress=False)
    assert furthest(weights(net), weights(loaded)) == 0


def test_without_the_updaters_state_they_start_anew(path):
    net = classifier(4, 8, 3, updater=tl.Adam(0.01))
    tl.fit(net, blobs(), epochs=2, progress=False)
    assert tl.load(tl.save(net, path), source=chain(4, 8, 3)).optimizers is None
    small = path.stat().st_size
    tl.save(net, path, updater_state=True)
    assert path.stat().st_size > small + 2 * 4 * sum(p.numel() for p in net.parameters())


def test_a_network_that_was_never_trained_has_no_updaters_state_to_save(path):
    net = classifier(4, 8, 3)
    assert tl.load(tl.save(net, path, updater_state=True), source=chain(4, 8, 3)).optimizers is None


def test_the_state_of_weights_that_train_is_used_where_nothing_is_frozen_any_more(path):
    net = classifier(4, 8, 3, updater=tl.Adam(0.01)).freeze("0")
    tl.fit(net, blobs(), batch_size=8, progress=False)
    loaded = tl.load(tl.save(net, path, updater_state=True), source=chain(4, 8, 3), frozen=False)
    tl.fit(loaded, blobs(), batch_size=8, progress=False)
    assert int(loaded.optimizers.state()["0.weight"]["step"]) == 3
    assert int(loaded.optimizers.state()["1.weight"]["step"]) == 6


def test_vertex_names_with_slashes_keep_their_weights_and_states(path):
    def net():
        with seeded(0):
            hidden, out = torch.nn.Linear(4, 8), torch.nn.Linear(8, 3)
        vertices = {"a/b": tl.Vertex(hidden, "x"), "updater/c": tl.Vertex(out, "a/b")}
        return tl.Network(vertices, {"x": (4,)}, "updater/c")

    trained = tl.TransferLearning(net()).add_layer("out", tl.Loss()).build()
    tl.fit(trained, blobs(), progress=False)
    loaded = tl.load(tl.save(trained, path, updater_state=True), source=net())
    assert furthest(weights(trained), weights(loaded)) == 0
    assert loaded.optimizers.state().keys() == trained.optimizers.state().keys()


def test_a_whole_network_of_the_zoo_needs_no_edits(squeezenet, path):
    loaded = round_trip(squeezenet, path)
    assert furthest(weights(squeezenet), weights(loaded)) == 0
    assert loaded.classes == squeezenet.classes


def test_a_network_opened_into_layers_comes_back_opened(path):
    net = tl.zoo.load("squeezenet1_1", weights=None, granularity="layer")
    loaded = round_trip(net, path)
    assert list(loaded.vertices) == list(net.vertices)
    assert furthest(weights(net), weights(loaded)) == 0


def test_frozen_marks_can_be_left_behind(path):
    source = chain(4, 5, 6, 3)
    net = tl.TransferLearning(source).set_feature_extractor("1").build()
    assert round_trip(net, path, source).frozen == {"0", "1"}
    loaded = round_trip(net, path, source, frozen=False)
    assert loaded.frozen == frozenset()
    assert all(p.requires_grad for p in loaded.parameters())


def test_marks_set_after_the_build_are_saved_too(path):
    source = chain(4, 5, 6, 3)
    net = tl.TransferLearning(source).set_feature_extractor("1").build()
    net.unfreeze().freeze("0")
    assert round_trip(net, path, source).frozen == {"0"}


def test_marks_set_before_a_build_decide_what_it_tuned_and_that_comes_back(path):
    tuning = tl.FineTuneConfiguration(activation="tanh", dropout=0.5, l2=0.1)
    source = chain(4, 5, 6, 3)
    frozen = tl.TransferLearning(source).build().freeze("0")  # in place, as the helper does it
    net = tl.TransferLearning(frozen).fine_tune_configuration(tuning).build()
    net.unfreeze()
    net = tl.TransferLearning(net).fine_tune_configuration(tl.FineTuneConfiguration(l1=0.1)).build()
    loaded = round_trip(net, path, source)
    x, _ = blobs()
    assert torch.equal(loaded(x), net(x))
    for name, vertex in net.vertices.items():
        assert str(loaded.vertices[name].module) == str(vertex.module)
        assert loaded.vertices[name].settings == vertex.settings
    assert source.frozen == frozenset()


def test_several_builds_in_a_row_come_back(path):
    source = narrow_vgg16()
    third_b = (
        tl.TransferLearning(source)
        .fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Nesterovs(5e-5, 0.9), seed=12345))
        .set_feature_extractor("block5_pool")
        .n_out_replace("fc2", 10, "xavier", tl.Normal(0, 0.1))
        .remove_vertex_and_connections("predictions")
        .add_layer("fc3", tl.Dense(6, activation="relu"), "fc2")
        .add_layer("newpredictions", tl.Output(5), "fc3")
        .set_outputs("newpredictions")
        .build()
    )
    loaded_b = round_trip(third_b, path, source)
    third_c = (
        tl.TransferLearning(loaded_b)
        .fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Sgd(1e-3), dropout=None))
        .set_feature_extractor("block4_pool")
        .build()
    )
    loaded_c = round_trip(third_c, path, source)
    assert furthest(weights(third_c), weights(loaded_c)) == 0
    assert loaded_c.frozen == loaded_c.ancestors("block4_pool")
    assert loaded_c.recipe == third_c.recipe
    for name, vertex in third_c.vertices.items():
        assert loaded_c.vertices[name].settings == vertex.settings
        assert str(loaded_c.vertices[name].module) == str(vertex.module)
    for one in (third_c, loaded_c):
        tl.fit(one, pictures(), batch_size=4, progress=False)
    assert furthest(weights(third_c), weights(loaded_c)) == 0


def test_a_second_round_trip_gives_the_same_file(path, tmp_path):
    source = narrow_vgg16()
    net = tl.TransferLearning(source).n_out_replace("fc2", 10).set_feature_extractor("fc1").build()
    tl.save(tl.load(tl.save(net, path), source), tmp_path / "again.tlk")
    assert (tmp_path / "again.tlk").read_bytes() == path.read_bytes()


# -- networks of ones own -------------------------------------------------------------------------------------------


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.layer(torch.relu(self.layer(x))))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.head(self.second(torch.relu(self.first(x))))


@pytest.mark.parametrize("kind", [Twice, Tied])
def test_weights_that_vertices_share_are_saved_once_and_shared_again(kind, path):
    source = tl.Network.from_module(kind(), [torch.zeros(1, 4)])
    net = tl.TransferLearning(source).remove_vertex_keep_connections("head")
    net = net.add_layer("head", tl.Output(3, updater=tl.Sgd(0.1)), *source.vertices["head"].inputs).build()
    net.seed = 1
    loaded = round_trip(net, path, source)
    assert len(list(loaded.parameters())) == len(list(net.parameters()))
    with safe_open(path, "pt") as file:
        assert len(file.keys()) == len(list(net.parameters()))
    for one in (net, loaded):
        tl.fit(one, blobs(), epochs=2, batch_size=8, progress=False)
    assert furthest(weights(net), weights(loaded)) == 0


@pytest.mark.slow
def test_a_module_of_ones_own_is_needed_again(path):
    source = tl.Network.from_module(Twice(), [torch.zeros(1, 4)])
    tl.save(source, path)
    with pytest.raises(
        ValueError, match=r"built from .*Twice, which the file cannot rebuild.*source=tl.Network.from_m"
    ):
        tl.load(path)
    other = tl.Network.from_module(Twice(), [torch.zeros(1, 4)])
    before = weights(other)
    loaded = tl.load(path, other)
    assert furthest(weights(loaded), weights(source)) == 0
    assert furthest(weights(other), before) == 0, "the source lends its structure only"
    assert loaded is not other
    assert all(p.device.type == "cpu" for p in other.parameters())


def test_edits_of_a_network_built_by_hand_come_back(path):
    vertices = {"hidden": tl.Vertex(nn.Linear(4, 8), ("x",)), "out": tl.Vertex(nn.Linear(8, 2), ("hidden",))}
    source = tl.Network(vertices, {"x": (4,)}, ["out"])
    net = tl.TransferLearning(source).n_out_replace("out", 5).set_feature_extractor("hidden").build()
    loaded = round_trip(net, path, source)
    assert furthest(weights(net), weights(loaded)) == 0
    assert loaded.frozen == {"hidden"}
    with pytest.raises(ValueError, match="built from a network built by hand"):
        tl.load(path)


def test_a_source_of_another_structure_is_refused(path):
    net = tl.TransferLearning(chain(4, 5, 3)).build()
    tl.save(net, path)
    with pytest.raises(
        ValueError,
        match=r"not fit the network it describes: 2 tensors are missing, such as '2.weight' and",
    ):
        tl.load(path, chain(4, 5, 6, 3))
    with pytest.raises(
        ValueError, match=r"not fit the network it describes: .*'0.weight': \(5, 4\), expected \(6, 4\)"
    ):
        tl.load(path, chain(4, 6, 3))


def test_a_vertex_added_as_an_object_is_refused_with_its_name(path):
    layer = tl.TransferLearning(chain(4, 5, 3)).add_layer("mine", nn.Linear(5, 2), "0").set_outputs("1", "mine").build()
    with pytest.raises(ValueError, match=r"'mine' was added as an object of torch.nn.modules.linear.Linear.*tl.Dense"):
        tl.save(layer, path)
    later = tl.TransferLearning(layer).set_feature_extractor("0").build()
    with pytest.raises(ValueError, match="'mine' was added as an object"):
        tl.save(later, path)
    assert not path.exists()


class Shifted(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("shift", torch.tensor([1.0, 2.0, 3.0, 4.0]), persistent=False)
        self.register_buffer("scale", torch.tensor([0.5]))

    def forward(self, x):
        return self.layer((x + self.shift) * self.scale)


def test_buffers_that_no_file_holds_are_computed_again(path):
    source = tl.Network.from_module(Shifted(), [torch.zeros(1, 4)])
    loaded = round_trip(tl.TransferLearning(source).build(), path, source)
    x, _ = blobs()
    assert torch.equal(loaded(x), source(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_type_of_the_weights_comes_back(dtype, path):
    source = chain(4, 5, 3)
    net = tl.TransferLearning(source).build().to(dtype)
    loaded = round_trip(net, path, source)
    assert {p.dtype for p in loaded.parameters()} == {dtype}
    assert furthest(weights(net), weights(loaded)) == 0


def test_weights_in_another_memory_order_come_back(path):
    source = narrow_vgg16()
    net = tl.TransferLearning(source).build().to(memory_format=torch.channels_last)
    assert furthest(weights(net), weights(round_trip(net, path, source))) == 0


# -- the file -------------------------------------------------------------------------------------------------------


def test_saving_returns_the_path_and_makes_its_folder(tmp_path):
    where = tl.save(chain(4, 3), os.fspath(tmp_path / "a" / "b" / "net.tlk"))
    assert where == tmp_path / "a" / "b" / "net.tlk"
    assert where.is_file()


def test_home_may_be_written_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    monkeypatch.setenv("USERPROFILE", os.fspath(tmp_path))
    assert tl.save(chain(4, 3), "~/net.tlk") == tmp_path / "net.tlk"
    assert tl.load("~/net.tlk", chain(4, 3)).outputs == ("0",)


def test_saving_changes_nothing_about_the_network(path):
    net = narrow_vgg16(batch_norm=True).freeze("block1_pool").train()
    before, modes = weights(net), [module.training for module in net.modules()]
    tl.save(net, path)
    assert moved(net, before) == set()
    assert [module.training for module in net.modules()] == modes


def test_the_file_can_be_replaced_or_removed_while_a_network_from_it_lives(path):
    source = chain(4, 8, 3)
    net = round_trip(tl.TransferLearning(source).build(), path, source)
    before = weights(net)
    with torch.no_grad():
        net.vertices["0"].module.weight.add_(1)
    tl.save(net, path)
    assert moved(tl.load(path, source), before) == {"0"}
    path.write_bytes(b"\0" * 10_000)
    path.unlink()
    assert moved(net, before) == {"0"}


def test_a_loaded_network_can_be_edited_and_trained(path):
    source = chain(4, 8, 3)
    loaded = round_trip(tl.TransferLearning(source).build(), path, source)
    before = weights(loaded)
    net = tl.TransferLearning(loaded).remove_vertex_keep_connections("1").add_layer("1", tl.Output(3), "0").build()
    own = weights(net)
    tl.fit(net, blobs(), progress=False)
    assert moved(net, own) == {"0", "1"}
    assert moved(loaded, before) == set()


def test_a_build_from_a_loaded_network_shares_its_memory(path):
    source = chain(4, 8, 3)
    loaded = round_trip(tl.TransferLearning(source).build(), path, source)
    built = tl.TransferLearning(loaded).build()
    addresses = [torch._C._data_address(net.vertices["0"].module.weight) for net in (loaded, built)]
    assert addresses[0] == addresses[1]


def fail_halfway(weights, filename, metadata):
    filename.write_bytes(b"half a file")
    raise OSError(28, "No space left on device")


def stop_halfway(weights, filename, metadata):
    filename.write_bytes(b"half a file")
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("broken", "error"),
    [(fail_halfway, OSError), (stop_halfway, KeyboardInterrupt)],
)
@pytest.mark.parametrize("there", [True, False], ids=["over an old file", "new"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(broken, error, there, path, monkeypatch):
    source = chain(4, 3)
    if there:
        tl.save(source, path)
    before = path.read_bytes() if there else b""
    monkeypatch.setattr(saving, "write_weights", broken)
    with pytest.raises(error):
        tl.save(chain(4, 3).freeze("0"), path)
    assert [file.name for file in path.parent.iterdir()] == (["net.tlk"] if there else [])
    if there:
        assert path.read_bytes() == before
        assert tl.load(path, source).frozen == frozenset()


def test_a_disk_that_fills_up_is_said_in_a_sentence(path, monkeypatch):
    monkeypatch.setattr(saving, "write_weights", fail_halfway)
    with pytest.raises(OSError, match=r"net.tlk cannot be written: .*No space left.*older file .* still there"):
        tl.save(chain(4, 3), path)


def test_a_save_leaves_one_file(path):
    for _ in range(2):
        tl.save(chain(4, 3), path)
    assert [file.name for file in path.parent.iterdir()] == ["net.tlk"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_is_respected(mask, mode, path):
    before = os.umask(mask)
    try:
        tl.save(chain(4, 3), path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_folder_in_the_way_is_said(path):
    path.mkdir()
    with pytest.raises(IsADirectoryError, match=r"net.tlk is a folder. Give the name of a file in it"):
        tl.save(chain(4, 3), path)


# -- files that cannot be read --------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_is_said(path):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*net.tlk. tl.save\(net, path\) writes one"):
        tl.load(path)


@pytest.mark.slow
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_truncated_file_is_said_to_be_damaged(path, data):
    tl.save(chain(4, 3), path)
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(ValueError, match=r"net.tlk is damaged or no file of tl.save"):
        tl.load(path, chain(4, 3))


@pytest.mark.slow
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_flipped_bit_in_the_weights_is_said_to_be_damage(path, data):
    tl.save(chain(4, 3), path)
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    content[data.draw(st.integers(start, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"net.tlk is damaged: it does not hold what was saved"):
        tl.load(path, chain(4, 3))


@pytest.mark.slow
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_flipped_bit_anywhere_ends_in_a_sentence(path, data):
    tl.save(chain(4, 3), path)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"net.tlk (is damaged|is a safetensors file, but not|has format \d)"):
        saving._read(path)


def test_a_foreign_safetensors_file_is_said_to_be_one(path):
    save_file({"weight": torch.zeros(3)}, path, {"format": "pt"})
    with pytest.raises(
        ValueError, match=r"a safetensors file, but not one of tl.save.*tl.zoo.load\(name, weights=path\)"
    ):
        tl.load(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + b"\0" * 100], ids=["empty", "text", "zip"])
def test_any_other_file_is_said_to_be_none_of_ours(content, path):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged or no file of tl.save"):
        tl.load(path)


def test_a_file_with_pickled_weights_is_not_opened(path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (os.fspath(path.parent / "ran"),)

    torch.save({"weight": Trap()}, path)
    with pytest.raises(ValueError, match=r"damaged or no file of tl.save"):
        tl.load(path)
    assert not (path.parent / "ran").exists()


def test_a_file_of_a_newer_version_is_said_to_be_newer(path, monkeypatch):
    monkeypatch.setattr(saving, "FORMAT", 2)
    tl.save(chain(4, 3), path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"has format 2; this version of tlkit reads up to 1. Update tlkit"):
        tl.load(path, chain(4, 3))


# -- files of earlier versions --------------------------------------------------------------------------------------


def test_a_file_of_format_1_is_read_and_its_network_answers_and_trains_as_it_did():
    net = tl.load(Path(__file__).parent / "fixtures" / "network_format_1.tlk")
    assert net.frozen == {"features_0"}
    assert net.classes == ("daisy", "rose", "tulip")
    assert net.vertices["hidden"].settings.updater == tl.Adam(1e-4)
    assert net.vertices["flowers"].settings.constraints == (tl.MaxNorm(3.0),)
    assert net.vertices["hidden"].module.weight_noise == tl.DropConnect(0.1)
    x, y = torch.linspace(-2, 2, 6 * 3 * 32 * 32).reshape(6, 3, 32, 32), torch.arange(6) % 3
    answers = [[0.171856, 0.309121, 0.519023], [0.479828, 0.242804, 0.277368]]
    assert torch.allclose(net(x[::3]), torch.tensor(answers), atol=1e-4)
    history = tl.fit(net, (x, y), batch_size=3, shuffle=False, progress=False)
    assert history.losses == pytest.approx([0.684817, 0.710268], abs=1e-3)


# -- files from strangers -------------------------------------------------------------------------------------------


def weights_of_network(net):
    return {name: value.detach() for name, value in net.state_dict().items()}


def forged(path, header, weights=None):
    """Write a file with a header of one's own and the right checksum."""
    header = {name: value for name, value in header.items() if name != "crc32"}
    weights = weights or {}
    write_weights(weights, path, {"tlkit": json.dumps({**header, "crc32": saving._crc32(header, weights)})})
    return path


def contents(path):
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["tlkit"])
        return header, {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118


def described(**changes):
    header = {"format": 1, "recipe": {"source": {"module": "mine"}, "edits": []}, "frozen": {}, "classes": []}
    return {**header, "preprocessing": None, "seed": None, "epochs_seen": 0, **changes}


def one_build(*edits):
    return described(recipe={"source": {"module": "mine"}, "edits": [list(edits)]})


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        ({"edit": "n_out_replac", "name": "0"}, "There is no edit 'n_out_replac'. Did you mean 'n_out_replace'"),
        ({"edit": ["add_layer"]}, "TypeError"),
        ({"name": "0"}, "There is no edit 'None'"),
        (
            {"edit": "n_out_replace", "name": "0", "n_uot": 5},
            "The edit 'n_out_replace' has no argument 'n_uot'. Did you mean 'n_out'",
        ),
        ({"edit": "n_out_replace", "name": "0"}, "The edit 'n_out_replace' lacks its argument 'n_out'"),
        ({"edit": "n_out_replace", "name": "0", "n_out": -5}, "n_out is a whole number, 1 or more, got -5"),
        ({"edit": "set_feature_extractor", "names": ["9"]}, "This network has no vertex '9'"),
        (
            {"edit": "add_layer", "name": "a", "layer": {"layer": "Dens", "n_out": 3}, "inputs": []},
            "There is no layer 'Dens'. Did you mean 'Dense'",
        ),
        (
            {"edit": "add_layer", "name": "a", "layer": {"layer": "Pool2d", "kernel": 3}, "inputs": []},
            "Pool2d has no argument 'kernel'. Did you mean 'kernel_size'",
        ),
        (
            {"edit": "add_layer", "name": "a", "layer": {"layer": "Dense"}, "inputs": []},
            "Dense lacks .* 'n_out'",
        ),
        (
            {"edit": "fine_tune_configuration", "configuration": {"l3": 1}},
            "FineTuneConfiguration has no option 'l3'",
        ),
        (
            {"edit": "fine_tune_configuration", "configuration": {"updater": {"updater": "Adam", "rate": 1}}},
            "Adam has no argument 'rate'",
        ),
        (
            {"edit": "fine_tune_configuration", "configuration": {"weight_init": {"distribution": "Norma"}}},
            "There is no distribution 'Norma'. Did you mean 'Normal'",
        ),
    ],
)
def test_an_edit_that_does_not_exist_is_refused_by_name(edit, sentence, path):
    with pytest.raises(ValueError, match=f"net.tlk cannot be made a network again: .*{sentence}"):
        tl.load(forged(path, one_build(edit)), chain(4, 5, 3))


@pytest.mark.parametrize("field", ["recipe", "frozen", "classes", "preprocessing", "seed", "epochs_seen"])
@pytest.mark.parametrize("value", ["missing", "a text", 1.5])
def test_a_field_that_is_missing_or_holds_something_else_is_named(field, value, path):
    header = described(**{field: value})
    if value == "missing":
        del header[field]
    with pytest.raises(ValueError, match=f"The field '{field}' (is missing|holds (str|float)); it is "):
        tl.load(forged(path, header), chain(4, 5, 3))


def test_nested_too_deep_is_a_sentence(path):
    text = '{"format": 1, "recipe": ' + "[" * 100_000 + "]" * 100_000 + "}"
    write_weights({}, path, {"tlkit": text})
    with pytest.raises(ValueError, match=r"net.tlk is damaged"):
        tl.load(path)


@pytest.mark.parametrize("edits", [[[]] * 201, [[{"edit": "set_feature_extractor", "names": []}] * 2001]])
def test_more_builds_or_edits_than_a_network_takes_are_refused(edits, path):
    with pytest.raises(ValueError, match=r"builds and .* edits, at most 200 and 2000"):
        tl.load(forged(path, described(recipe={"source": {"module": "mine"}, "edits": edits})), chain(4, 5, 3))


def test_a_frozen_vertex_that_does_not_exist_is_named(path):
    source = chain(4, 5, 3)
    header, weights = contents(tl.save(source, path))
    with pytest.raises(ValueError, match=r"This network has no vertex '11'. Did you mean '1'"):
        tl.load(forged(path, {**header, "frozen": {"11": False}}, weights), source)


def test_renamed_weights_are_told_with_their_new_names_and_both_versions(path, monkeypatch):
    source = chain(4, 5, 3)
    header, weights = contents(tl.save(source, path))
    assert set(header["versions"]) == {"tlkit", "torch", "torchvision", "timm"}
    weights["0.wieght"] = weights.pop("0.weight")
    header["versions"]["timm"] = "0.1"
    found = (
        r"1 tensor is missing, such as '0.weight'; 1 tensor is unexpected, such as '0.wieght'; '0.weight' may have got "
        r"another name: Did you mean '0.wieght'\?\. It was written with timm 0.1, and read with timm \d"
    )
    with pytest.raises(ValueError, match=found):
        tl.load(forged(path, header, weights), source)


def test_many_missing_names_are_a_count_and_the_first_few(path):
    net = tl.zoo.load("timm/test_resnet", weights=None)
    header, _ = contents(tl.save(net, path))
    with pytest.raises(ValueError, match=r"(\d\d+) tensors are missing, such as 'conv1") as caught:
        tl.load(forged(path, header))
    assert len(str(caught.value)) < 500


HOSTILE = {
    "a wide layer": [
        {"edit": "add_layer", "name": "a", "layer": {"layer": "Dense", "n_out": 3_000_000}, "inputs": ["flatten"]},
        {"edit": "add_layer", "name": "b", "layer": {"layer": "Dense", "n_out": 3_000_000}, "inputs": ["a"]},
        {"edit": "set_outputs", "names": ["b"]},
    ],
    "large maps that nothing pools": [
        {"edit": "set_inputs", "inputs": {"x": [3, 100_000, 100_000]}},
        {"edit": "add_vertex", "name": "a", "vertex": {"layer": "Pool2d", "kernel_size": 900_000}, "inputs": ["x"]},
        {"edit": "set_outputs", "names": ["a"]},
    ],
    "a huge kernel": [
        {
            "edit": "add_layer",
            "name": "a",
            "layer": {"layer": "Conv2d", "n_out": 10**6, "kernel_size": 10**6, "padding": 10**6},
            "inputs": ["x"],
        },
        {"edit": "set_outputs", "names": ["a"]},
    ],
    "numbers beyond all numbers": [
        {"edit": "add_layer", "name": "a", "layer": {"layer": "Dense", "n_out": 10**30}, "inputs": ["flatten"]},
        {"edit": "set_outputs", "names": ["a"]},
    ],
}


@pytest.mark.slow  # a process each that imports torch
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the peak of memory")
@pytest.mark.parametrize("edits", HOSTILE.values(), ids=HOSTILE)
def test_a_small_file_takes_little_memory_whatever_it_asks_for(edits, path):
    source = {"zoo": "squeezenet1_1", "granularity": "block"}
    forged(path, described(recipe={"source": source, "edits": [edits]}))
    assert path.stat().st_size < 2000
    program = f"""
import re, tlkit as tl
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024
tl.zoo.load("squeezenet1_1", weights=None)  # what torch itself takes at the first call
before = peak()
try:
    tl.load({str(path)!r})
except ValueError as error:
    print(peak() - before, error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    megabytes, sentence = done.stdout.split(" ", 1)
    assert int(megabytes) < 50, sentence
    assert "net.tlk" in sentence


def places_in(value, place=()):
    """Return the places of all values in nested data."""
    yield place
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places_in(item, (*place, key))


def changed(value, place, change):
    if not place:
        return change(value)
    copied = copy.copy(value)
    copied[place[0]] = changed(value[place[0]], place[1:], change)
    return copied


CHANGES = [
    lambda value: None,
    lambda value: [],
    lambda value: {},
    lambda value: "x",
    lambda value: -1,
    lambda value: 10**12,
    lambda value: 0.5,
    lambda value: [value],
    lambda value: {"edit": value},
    lambda value: (
        value[:-1]
        if isinstance(value, (str, list)) and value
        else dict([*value.items()][1:])
        if isinstance(value, dict)
        else True
    ),
]


@pytest.mark.slow  # loads 200 files
def test_200_changed_headers_load_the_same_or_end_in_a_sentence(path):
    fixture = Path(__file__).parent / "fixtures" / "network_format_1.tlk"
    header, weights = contents(fixture)
    del header["crc32"]
    before, x = tl.load(fixture), torch.linspace(-2, 2, 3 * 32 * 32).reshape(1, 3, 32, 32)
    choose = random.Random(5)
    places, refused = [place for place in places_in(header) if place], []
    for _ in range(200):
        place, change = choose.choice(places), choose.choice(CHANGES)
        try:
            net = tl.load(forged(path, changed(header, place, change), weights))
        except ValueError as error:
            refused.append(str(error))
        else:
            same = net.input_shapes == before.input_shapes and net.preprocessing == before.preprocessing
            assert furthest(weights_of_network(net), weights_of_network(before)) == 0
            assert not same or net(x).shape == before(x).shape, place
    assert 50 < len(refused) < 200
    assert [text for text in refused if not text.startswith(str(path)) or text[-1] not in ".?"] == []
