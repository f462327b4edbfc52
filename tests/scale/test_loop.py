"""Several workers that train one network together do what one process does; here they are threads, without Ray."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import samples
import torch
from nets import classifier

import tlkit as tl
from tlkit.features.store import FeatureStore
from tlkit.scale.checkpoints import Progress, read_progress, restore_checkpoint, write_checkpoint
from tlkit.scale.loop import FitJob, name_stop_file, train
from tlkit.scale.packing import copy_structure

ROWS = 43  # the last shard and the last batch are shorter


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    """Random rows of three numbers, four to a shard."""
    generator = torch.Generator().manual_seed(5)
    values, labels = torch.randn(ROWS, 4, generator=generator), torch.randint(3, (ROWS,), generator=generator)
    classes = ("daisy", "roses", "tulips")
    spec = samples.make_spec(ROWS, shapes={"x": (4,)}, labels=labels, classes=classes)
    return FeatureStore.fill(tmp_path / "store", spec, lambda rows: {"x": values[list(rows)]}, progress=False)


def network(**output) -> tl.Network:
    net = classifier(4, 6, 3, **{"updater": tl.Adam(0.05), **output})
    (image,) = net.inputs
    vertices = {
        name: tl.Vertex(
            vertex.module, tuple("x" if other == image else other for other in vertex.inputs), vertex.settings
        )
        for name, vertex in net.vertices.items()
    }
    named = tl.Network(vertices, {"x": (4,)}, net.outputs)
    named.seed = 1
    return named


class AddUp:
    """Replaces a tensor of each of several threads by the sum of all."""

    def __init__(self, world: int) -> None:
        self.given: dict[int, torch.Tensor] = {}
        self.barrier = threading.Barrier(world)

    def of(self, rank: int):
        def add_up(tensor: torch.Tensor) -> None:
            self.given[rank] = tensor.clone()
            self.barrier.wait(60)
            tensor.copy_(sum(self.given[other] for other in sorted(self.given)))
            self.barrier.wait(60)

        return add_up


def train_together(net: tl.Network, store: FeatureStore, path: Path, world: int = 2, **changes) -> Progress:
    """Train with threads for workers, and give the network what comes of it."""
    options = {"epochs": 3, "batch_size": 8, "shuffle": True, "whole": True, "threads": 1, "device": "cpu", **changes}
    total = options.pop("total", 10**6)
    job = FitJob(str(store.path), str(path), copy_structure(net), total=total, **options)
    if not path.exists():
        write_checkpoint(net, Progress(epochs_seen=net.epochs_seen), path)
    sums = AddUp(world)
    workers = [threading.Thread(target=train, args=(job, rank, world, sums.of(rank))) for rank in range(world)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    return restore_checkpoint(net, path)


def assert_alike(net: tl.Network, other: tl.Network) -> None:
    torch.testing.assert_close(dict(net.state_dict()), dict(other.state_dict()), rtol=1e-5, atol=1e-5)


@pytest.mark.slow  # thirteen trainings
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("shuffle", [True, False])
def test_workers_train_as_one_process_does(store, tmp_path, world, shuffle):
    net, alone = network(l2=0.01), network(l2=0.01)
    progress = train_together(net, store, tmp_path / "fit", world, shuffle=shuffle)
    history = tl.fit(alone, store, 3, 8, shuffle, progress=False)
    assert_alike(net, alone)
    assert progress.losses == pytest.approx(history.losses, abs=1e-5)
    assert (progress.examples, net.epochs_seen) == (history.examples, alone.epochs_seen)


def test_a_second_fit_goes_on_with_what_the_updaters_remember(store, tmp_path):
    net, alone = network(), network()
    for number in range(2):
        train_together(net, store, tmp_path / f"fit{number}", epochs=2)
        tl.fit(alone, store, 2, 8, progress=False)
    assert_alike(net, alone)


def test_training_goes_on_from_a_checkpoint_as_if_nothing_had_happened(store, tmp_path):
    net, alone = network(), network()
    train_together(net, store, tmp_path / "fit", epochs=2)
    progress = train_together(net, store, tmp_path / "fit", epochs=5)  # begins with epoch 3
    tl.fit(alone, store, 5, 8, progress=False)
    assert_alike(net, alone)
    assert progress.epoch == read_progress(tmp_path / "fit").epoch == 5
    assert len(progress.losses) == 5 * 6


def test_training_ends_after_the_batches_asked_for(store, tmp_path):
    net, alone = network(), network()
    progress = train_together(net, store, tmp_path / "fit", total=8)
    tl.fit(alone, store, 3, 8, max_iterations=8, progress=False)
    assert len(progress.losses) == 8
    assert_alike(net, alone)


def test_all_workers_stop_together_where_the_loss_is_lost(store, tmp_path):
    net = network(updater=tl.Sgd(1e30))
    progress = train_together(net, store, tmp_path / "fit")
    assert "try a smaller learning rate" in progress.stopped
    assert len(progress.losses) < 3 * 6


def test_frozen_weights_stay_as_they_are(store, tmp_path):
    net = network()
    first = next(iter(net.vertices))
    net.freeze(first)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    train_together(net, store, tmp_path / "fit")
    same = {name for name, value in net.state_dict().items() if torch.equal(value, before[name])}
    assert same == {name for name in before if name.startswith(f"{first}.")}


def test_all_workers_stop_together_when_asked_to(store, tmp_path, monkeypatch):
    monkeypatch.setattr("tlkit.scale.loop.LOOK_EVERY", 0.0)
    net, alone = network(), network()
    name_stop_file(tmp_path / "fit").touch()
    progress = train_together(net, store, tmp_path / "fit")
    assert (progress.stopped, len(progress.losses), progress.ended) == ("interrupted", 1, True)
    tl.fit(alone, store, 3, 8, max_iterations=1, progress=False)
    assert_alike(net, alone)  # the last whole batch counts
