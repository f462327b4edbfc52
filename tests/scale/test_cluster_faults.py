"""Faults on a cluster of two nodes on this machine: whatever dies, no row is lost, doubled or stale.

Drivers are programs of their own. What they say at the end, and what the workers note of each shard that they compute,
tells how much was done twice.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import samples

from tlkit.features.store import FeatureStore

pytestmark = pytest.mark.ray

PICTURES, SHARDS = 160, 40
WORKERS = 2
AHEAD = 2  # shards that a worker may hold: one at work, one that ended and was not told of
LONGEST = 150  # seconds that a step may take on a busy machine


class Nodes:
    """A head node and a second node that may be lost, of two processors each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False}, shutdown_at_exit=True
        )
        self.second = None

    def complete(self) -> Nodes:
        """Add the second node where a test before removed it."""
        self.second = self.second or self.cluster.add_node(num_cpus=2)
        return self

    def remove_second(self) -> None:
        """Kill the second node and all that runs on it."""
        node, self.second = self.second, None
        self.cluster.remove_node(node, allow_graceful=False)

    def second_pids(self) -> set[int]:
        return {info.process.pid for infos in self.second.all_processes.values() for info in infos}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    pytest.importorskip("ray.cluster_utils")
    nodes = Nodes()
    yield nodes
    nodes.cluster.shutdown()


@pytest.fixture
def nodes(cluster: Nodes) -> Nodes:
    return cluster.complete()


@dataclass
class Site:
    """Photos, the store that the local loop made of them, and the one that is to become like it."""

    nodes: Nodes
    photos: Path
    local: Path
    store: Path
    log: Path
    gate: Path
    drivers: list[subprocess.Popen]

    def start(self, cpus_per_worker: int = 1) -> subprocess.Popen:
        """Start a driver."""
        program, address = Path(__file__).with_name("driver.py"), self.nodes.cluster.address
        command = [sys.executable, program, address, self.photos, self.store, self.log, self.gate, cpus_per_worker]
        driver = subprocess.Popen(
            [str(word) for word in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        self.drivers.append(driver)
        return driver

    def ended(self, driver: subprocess.Popen) -> int:
        """Wait for a driver's end, and return how many shards it says it made, counted by their rows."""
        said, errors = driver.communicate(timeout=LONGEST)
        assert driver.returncode == 0, errors[-3000:]
        return int(said.split()[-1]) // samples.ROWS_PER_SHARD

    def finished(self) -> dict[str, int]:
        """When each shard's record was written, by its name."""
        return {file.name: file.stat().st_mtime_ns for file in (self.store / "shards").glob("*.json")}

    def wait_for(self, condition: Callable[[], object], *drivers: subprocess.Popen) -> None:
        """Wait until something holds, while drivers are alive."""
        deadline = time.monotonic() + LONGEST
        while not condition():
            for driver in drivers:
                assert driver.poll() is None, f"it ended early: {driver.communicate()}"
            assert time.monotonic() < deadline, "it took too long"
            time.sleep(0.02)

    def computed(self) -> int:
        """How many shards were computed in all, by whatever driver's workers."""
        return len(self.log.read_text().splitlines())

    def assert_whole(self) -> None:
        """Nothing is lost, doubled or stale, and nothing else is left in the store."""
        assert FeatureStore(self.store).verify() == []
        assert samples.shard_bytes(self.store) == samples.shard_bytes(self.local)
        assert len(self.finished()) == SHARDS
        assert (self.store / "spec.json").read_bytes() == (self.local / "spec.json").read_bytes()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Path]:
    """Photos, and the store that the local loop makes of them."""
    folder = tmp_path_factory.mktemp("made")
    photos, helper = samples.make_photos(folder / "photos", PICTURES), samples.make_helper()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tlkit.features.spec.MOST_ROWS", samples.ROWS_PER_SHARD)
        local = helper.featurize(samples.read_photos(photos, helper), to=folder / "local", progress=False)
    assert local.rows_computed == PICTURES
    return photos, local.path


@pytest.fixture
def site(nodes, made, tmp_path) -> Iterator[Site]:
    site = Site(nodes, *made, tmp_path / "store", tmp_path / "log", tmp_path / "gate", [])
    site.gate.touch()
    yield site
    for driver in site.drivers:
        driver.kill()
        driver.communicate()


def actors() -> dict[int, set[int]]:
    """The processes below this one that make shards, each with the processes above it."""
    psutil = pytest.importorskip("psutil")
    found = {}
    for process in psutil.Process().children(recursive=True):
        try:
            if "SlowFeaturizer" in " ".join(process.cmdline()):
                found[process.pid] = {above.pid for above in process.parents()}
        except psutil.Error:
            continue
    return found


def test_a_worker_that_is_killed_costs_nothing_but_the_shard_it_was_at(site):
    driver = site.start()
    site.wait_for(lambda: len(site.finished()) >= 8 and len(actors()) == WORKERS, driver)
    os.kill(next(iter(actors())), signal.SIGKILL)
    assert SHARDS - AHEAD <= site.ended(driver) <= SHARDS
    assert SHARDS <= site.computed() + 1 <= SHARDS + AHEAD
    site.assert_whole()


def test_a_node_that_is_lost_costs_nothing_but_the_shards_its_workers_were_at(site):
    driver = site.start(cpus_per_worker=2)  # as many as a node has, so that each node has a worker
    lost = site.nodes.second_pids()
    site.wait_for(lambda: len(site.finished()) >= 8 and any(above & lost for above in actors().values()), driver)
    site.nodes.remove_second()
    assert SHARDS - AHEAD <= site.ended(driver) <= SHARDS
    assert SHARDS <= site.computed() + 1 <= SHARDS + AHEAD
    site.assert_whole()


def test_a_driver_that_is_killed_goes_on_where_it_was(site):
    first = site.start()
    site.wait_for(lambda: len(site.finished()) >= 8, first)
    first.kill()
    first.communicate()
    kept = site.finished()
    assert 8 <= len(kept) < SHARDS, "the driver was done before it could be killed"
    made = site.ended(site.start())
    assert SHARDS - len(kept) - AHEAD * WORKERS <= made <= SHARDS - len(kept)
    assert {name: when for name, when in site.finished().items() if name in kept} == kept, "what is there stays"
    assert site.computed() <= SHARDS + AHEAD * WORKERS
    site.assert_whole()


def test_two_drivers_on_one_store_at_once_end_with_the_same_bytes(site):
    site.gate.unlink()
    both = [site.start() for _ in range(2)]
    site.wait_for(lambda: len(list(site.gate.parent.glob("gate.*"))) == 2 * WORKERS, *both)
    site.gate.touch()
    made = [site.ended(driver) for driver in both]
    assert all(made), "both had something to do"
    assert SHARDS <= sum(made) == site.computed() <= 2 * SHARDS
    site.assert_whole()
    assert {path.name for path in site.store.iterdir()} == {"spec.json", "shards"}
