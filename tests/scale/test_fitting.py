"""Training on two workers of Ray: what one process gives, also when a worker is killed."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
import samples
import torch
from nets import narrow_vgg16

import tlkit as tl
from tlkit.features.store import FeatureStore
from tlkit.scale import engine, fitting, loop
from tlkit.scale.checkpoints import read_progress


def make_helper() -> tl.TransferLearningHelper:
    net = narrow_vgg16(classes=2)
    net = (
        tl.TransferLearning(net)
        .fine_tune_configuration(tl.FineTuneConfiguration(seed=3, updater=tl.Nesterovs(0.01, 0.9), dropout=None))
        .set_feature_extractor("fc1")
        .remove_vertex_keep_connections("predictions")
        .add_layer("predictions", tl.Output(2), "fc2")
        .build()
    )
    return tl.TransferLearningHelper(net)


def make_store(helper: tl.TransferLearningHelper, path, rows: int) -> FeatureStore:
    generator = torch.Generator().manual_seed(5)
    shapes = helper.unfrozen_network.input_shapes
    values = {name: torch.randn(rows, *shape, generator=generator) for name, shape in shapes.items()}
    spec = samples.make_spec(rows, shapes=shapes, rows_per_shard=32)
    return FeatureStore.fill(
        path, spec, lambda part: {name: value[list(part)] for name, value in values.items()}, progress=False
    )


def children(name: str) -> list[int]:
    """Processes below this one whose title begins with a name."""
    psutil = pytest.importorskip("psutil")
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if " ".join(process.cmdline()).startswith(name):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@pytest.mark.ray
def test_two_workers_train_as_one_process_does_even_if_one_is_killed(two_workers, tmp_path):
    helper, alone = make_helper(), make_helper()
    store = make_store(helper, tmp_path / "store", 2000)
    options = {"epochs": 12, "batch_size": 16, "progress": False}
    killed = []

    def kill_one() -> None:
        deadline = time.monotonic() + 90
        while not killed and time.monotonic() < deadline:
            time.sleep(0.05)
            for path in store.path.glob(".fit.*.tmp"):
                try:
                    epoch = read_progress(path).epoch
                except Exception:
                    continue
                workers = children("ray::RayTrainWorker")
                if 2 <= epoch < 9 and workers:
                    os.kill(workers[-1], signal.SIGKILL)
                    killed.append(epoch)

    killer = threading.Thread(target=kill_one)
    killer.start()
    history = helper.fit_featurized(store, engine=two_workers, **options)
    killer.join()
    assert killed, "the fit was over before a worker could be killed"
    expected = alone.fit_featurized(store, **options)
    torch.testing.assert_close(
        dict(helper.network.state_dict()), dict(alone.network.state_dict()), rtol=1e-5, atol=1e-5
    )
    assert history.losses == pytest.approx(expected.losses, abs=1e-5)
    assert (history.examples, history.stopped) == (expected.examples, "")
    assert helper.network.classes == alone.network.classes
    assert {path.name for path in store.path.iterdir()} == {"spec.json", "shards"}


@pytest.fixture
def installed(monkeypatch):
    """Behave as if Ray were there; a start of it would be an error."""
    monkeypatch.setattr(engine, "require_ray", lambda: None)
    monkeypatch.setattr("tlkit.scale.fitting.connect", lambda settings: pytest.fail("Ray is not needed"))
    return tl.scale.Ray(workers=2)


def test_what_a_cluster_cannot_train_is_refused_before_a_start(installed, tmp_path):
    helper = make_helper()
    store = make_store(helper, tmp_path / "store", 40)
    with pytest.raises(ValueError, match="read features from a store, got Features"):
        helper.fit_featurized(store.load(), engine=installed)
    with pytest.raises(ValueError, match="Listeners watch a fit in this process"):
        helper.fit_featurized(store, engine=installed, listeners=[tl.EvaluateEvery(1, store)])
    with pytest.raises(ValueError, match="trains batch by batch"):
        helper.fit_featurized(store, engine=installed, solver="lbfgs")
    with pytest.raises(ValueError, match="epochs must be at least 1"):
        helper.fit_featurized(store, engine=installed, epochs=0)


def test_batch_normalization_that_trains_is_refused(installed, tmp_path):
    net = narrow_vgg16(batch_norm=True, classes=2).freeze("block4_pool")
    helper = tl.TransferLearningHelper(net)
    with pytest.raises(ValueError, match="each worker sees a part of it"):
        helper.fit_featurized(make_store(helper, tmp_path / "store", 40), engine=installed)


# the driver's part, with a function in place of Ray's trainer


@pytest.fixture
def driver(monkeypatch):
    """An engine, and a way to say what its trainer does with a job."""
    monkeypatch.setattr(engine, "require_ray", lambda: None)
    monkeypatch.setattr(fitting, "connect", lambda settings: None)
    monkeypatch.setattr(fitting, "LOOK_EVERY", 0.01)

    def trainer(run):
        monkeypatch.setattr(fitting, "_run", lambda settings, job, failures: run(job, failures))
        return tl.scale.Ray(workers=1)

    return trainer


def alone(job, failures=None) -> None:
    loop.train(job, 0, 1, lambda message: None)


@pytest.mark.slow
def test_the_weights_and_the_history_come_back(driver, tmp_path):
    helper, same = make_helper(), make_helper()
    store = make_store(helper, tmp_path / "store", 100)
    history = helper.fit_featurized(store, epochs=2, engine=driver(alone), progress=False)
    expected = same.fit_featurized(store, epochs=2, progress=False)
    assert history.losses == pytest.approx(expected.losses, abs=1e-5)
    assert helper.network.classes == same.network.classes != ()
    assert {path.name for path in store.path.iterdir()} == {"spec.json", "shards"}


def test_a_trainer_that_does_not_end_is_left_when_training_has(driver, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "PATIENCE", 0.05)
    hanging = threading.Event()

    def hang(job, failures):
        alone(job)
        hanging.wait(60)

    helper = make_helper()
    store = make_store(helper, tmp_path / "store", 40)
    assert len(helper.fit_featurized(store, engine=driver(hang), progress=False).losses) == 2
    hanging.set()


def test_a_failure_is_told_of_and_leaves_the_network_as_it_was(driver, tmp_path):
    helper = make_helper()
    before = {name: value.clone() for name, value in helper.network.state_dict().items()}
    store = make_store(helper, tmp_path / "store", 40)
    with pytest.raises(RuntimeError, match=r"failed 4 times, and the network is as it was.*ended with: no room"):
        helper.fit_featurized(
            store, engine=driver(lambda job, failures: failures.append(OSError("no room"))), progress=False
        )
    assert all(torch.equal(value, before[name]) for name, value in helper.network.state_dict().items())
    assert not list(store.path.glob(".fit*"))


@pytest.mark.slow
def test_an_interruption_keeps_what_was_trained(driver, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOOK_EVERY", 0.0)
    started = threading.Event()

    def run(job, failures):
        started.set()
        alone(job)

    looks = []

    def look(path):
        started.wait(60)
        looks.append(read_progress(path))
        if len(looks) == 1:
            raise KeyboardInterrupt
        return looks[-1]

    monkeypatch.setattr(fitting, "read_progress", look)
    helper = make_helper()
    store = make_store(helper, tmp_path / "store", 2000)
    with pytest.raises(KeyboardInterrupt):
        helper.fit_featurized(store, epochs=500, engine=driver(run), progress=False)
    assert 0 < helper.unfrozen_network.epochs_seen < 500
    assert not helper.network.training
    assert not list(store.path.glob(".fit*"))
