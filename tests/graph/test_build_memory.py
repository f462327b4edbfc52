"""What a build costs in memory: nothing for the weights that it keeps, until one of the two networks changes them."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from nets import blobs, classifier, furthest, moved, narrow_vgg16, pictures, seeded, weights
from safetensors.torch import save_file
from torch import nn
from torchvision import models

import tlkit as tl
from tlkit.files import weights as weight_files
from tlkit.files.weights import fill_module, read_weights
from tlkit.graph.importing import take_over

pytestmark = pytest.mark.slow  # measures memory in processes of their own

WRITERS = {
    "safetensors": save_file,
    "pth": torch.save,
    "old.pth": lambda tensors, path: torch.save(tensors, path, _use_new_zipfile_serialization=False),
}
OWN = "torch's own"


def with_new_head(net: tl.Network) -> tl.Network:
    """Freeze everything but a new last layer."""
    *_, last = net.vertices
    return (
        tl.TransferLearning(net)
        .fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Adam(0.1), dropout=None, seed=1))
        .set_feature_extractor(*net.vertices[last].inputs)
        .remove_vertex_keep_connections(last)
        .add_layer(last, tl.Output(5), *net.vertices[last].inputs)
        .build()
    )


# -- peaks ----------------------------------------------------------------------------------------------------------


def peak() -> int:
    """Return the most memory that this process ever held; what getrusage says starts with its parent's."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def drawn(name: str) -> dict[str, torch.Tensor]:
    """Weights of an architecture that lie in memory, without its slow initialization."""
    with torch.device("meta"):
        state = models.get_model(name).state_dict()
    return {key: torch.full(value.shape, 0.01).to(value.dtype) for key, value in state.items()}


def loaded(name: str, state: dict[str, torch.Tensor]) -> tl.Network:
    module = fill_module(lambda: models.get_model(name), state, "a test")
    return take_over(module, [torch.empty(1, 3, 224, 224, device="meta")])


def measure(folder: Path) -> dict[str, dict[str, int]]:
    """Return by origin of the weights: their bytes, and what a build and a deep copy add to the peak."""
    with_new_head(classifier(4, 5, 3))  # imports what a build needs
    weight_files.AT_ONCE = 1 << 20  # the peak while a file is read would hide a peak behind it
    figures, nets = {}, []
    for origin in (*WRITERS, OWN):
        own = origin == OWN
        state = drawn("vgg16") if own else read_weights(folder / f"weights.{origin}")
        nets.append(loaded("vgg16" if own else "resnet18", state))
        before = peak()
        nets.append(with_new_head(nets[-1]))
        figures[origin] = {"weights": sum(value.nbytes for value in state.values()), "build": peak() - before}
    before = peak()
    nets.append(copy.deepcopy(nets[-1]))
    figures[OWN]["deepcopy"] = peak() - before
    return figures


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for kind, write in WRITERS.items():
        write(drawn("resnet18"), folder / f"weights.{kind}")
    paths = os.pathsep.join(sys.path)  # among them the folder of `nets`
    command = [sys.executable, __file__, folder]
    ended = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads peaks from /proc")


@linux
@pytest.mark.parametrize("origin", [*WRITERS, OWN])
def test_a_build_holds_no_second_copy_of_the_weights_that_it_keeps(figures, origin):
    assert figures[origin]["weights"] > 4e7
    assert figures[origin]["build"] < 0.1 * figures[origin]["weights"]


@linux
def test_a_deep_copy_holds_one(figures):
    assert figures[OWN]["weights"] > 5e8
    assert figures[OWN]["deepcopy"] > 0.9 * figures[OWN]["weights"]


# -- independence ---------------------------------------------------------------------------------------------------


def small(updater: tl.Updater) -> tl.Network:
    """A classifier of rows with batch norm."""
    with seeded(1):
        module = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    net = tl.Network.from_module(module, [torch.zeros(1, 4)])
    tuned = tl.FineTuneConfiguration(updater=updater, seed=1)
    edits = tl.TransferLearning(net).fine_tune_configuration(tuned).remove_output_layer()
    return edits.add_layer("answer", tl.Output(3)).build()


def reread(net: tl.Network, path: Path) -> tl.Network:
    """Write a network's weights to a file, and let it have those of the file."""
    WRITERS[path.name.removeprefix("weights.")](weights(net), path)
    net.load_state_dict(read_weights(path), assign=True)
    net.freeze_exactly(dict.fromkeys(net.frozen, False))
    return net


def vertices_of(values: Iterable[str]) -> set[str]:
    return {name.split(".")[0] for name in values}


def shared(one: tl.Network, other: tl.Network) -> set[str]:
    """Names of the vertices all of whose weights lie in memory once for both networks."""
    places = [{name: torch._C._data_address(p) for name, p in net.named_parameters()} for net in (one, other)]
    apart = vertices_of(name for name, place in places[0].items() if places[1].get(name) != place)
    return vertices_of(places[0]) - apart


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("updater", [tl.Sgd(0.5), tl.Adam(0.5)], ids=["sgd", "adam"])
def test_training_either_network_never_changes_the_other_or_the_file(kind, updater, tmp_path):
    path = tmp_path / f"weights.{kind}"
    net = reread(small(updater), path)
    written = weights(net)
    built = tl.TransferLearning(net).build()
    assert shared(net, built) == vertices_of(written)
    for trained, other in ((built, net), (net, built)):
        before, own = weights(other), weights(trained)
        tl.fit(trained, blobs(), progress=False)
        assert moved(trained, own) == vertices_of(own)
        assert furthest(before, weights(other)) == 0
    assert furthest(read_weights(path), written) == 0


def test_frozen_weights_lie_in_memory_once_through_all_that_a_head_needs(tmp_path):
    net = reread(narrow_vgg16(batch_norm=True), tmp_path / "weights.pth")
    built = with_new_head(net)
    data = pictures(4)
    kept = shared(net, built)
    assert kept == vertices_of(weights(net)) - {"predictions"}

    tl.fit(built, data, epochs=2, progress=False)
    tl.evaluate(built, data)
    helper = tl.TransferLearningHelper(built)
    helper.fit_featurized(helper.featurize(data, progress=False), progress=False)
    helper.output_from_featurized(helper.featurize(data[0]))
    built.summary(), built.state_dict(), built.to_module()(data[0]), net(data[0])
    assert shared(net, built) == kept

    built.unfreeze("fc2")
    before = weights(net)
    tl.fit(built, data, progress=False)
    assert shared(net, built) == kept - {"fc2"}
    assert furthest(before, weights(net)) == 0


def test_networks_built_one_from_the_other_share_their_weights_and_stay_apart():
    first = narrow_vgg16(batch_norm=True, classes=5)
    second = with_new_head(first)
    third = tl.TransferLearning(second).set_feature_extractor("block4_pool").build()
    beside = with_new_head(first)
    kept = vertices_of(weights(first)) - {"predictions"}
    assert shared(first, second) == shared(first, beside) == shared(first, third) == kept
    assert shared(second, third) == kept | {"predictions"}

    before = [weights(net) for net in (first, second, beside)]
    tl.fit(third, pictures(4), progress=False)
    assert all(furthest(old, weights(net)) == 0 for old, net in zip(before, (first, second, beside), strict=True))
    assert shared(second, third) == third.frozen & kept

    expected = weights(third)
    with torch.no_grad():
        for net in (first, second, beside):
            for value in net.state_dict().values():
                value.zero_()
    assert furthest(expected, weights(third)) == 0


def test_saving_a_network_ends_no_sharing_and_hinders_none(tmp_path):
    net = narrow_vgg16(batch_norm=True)
    built = with_new_head(net)
    kept = shared(net, built)
    for each in (net, built):
        tl.save(each, tmp_path / "network.tlk")
    assert shared(net, built) == kept
    assert shared(net, with_new_head(net)) == kept


def test_a_loaded_network_shares_its_weights_with_what_is_built_from_it(tmp_path):
    net = narrow_vgg16(batch_norm=True)
    loaded = tl.load(tl.save(net, tmp_path / "network.tlk"), source=net)
    assert shared(loaded, with_new_head(loaded)) == vertices_of(weights(net)) - {"predictions"}
    assert not shared(loaded, net)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(Path(sys.argv[1]))))
