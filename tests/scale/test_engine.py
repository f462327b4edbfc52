"""tl.scale.Ray before any cluster starts: what it refuses, and that nothing of Ray is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest
import samples
import torch

import tlkit as tl
from tlkit.scale import cluster, engine


@pytest.fixture
def installed(monkeypatch):
    """Behave as if Ray were there; a start of it would be an error."""
    monkeypatch.setattr(engine, "require_ray", lambda: None)


def test_nothing_of_ray_is_imported_before_it_is_started():
    code = "import sys, tlkit; tlkit.scale.plan; tlkit.scale.Ray; print({'ray', 'pyarrow'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_without_ray_an_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'tlkit\[ray\]'"):
        tl.scale.Ray()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"cpus_per_worker": 0}, "cpus_per_worker must be at least 1"),
        ({"gpus_per_worker": -1}, "gpus_per_worker must be at least 0"),
        ({"engine": "onnxruntim"}, "Did you mean 'onnxruntime'"),
        ({"address": "ray://head:10001"}, "address='auto'"),
    ],
)
def test_what_cannot_be_is_refused_at_once(installed, options, text):
    with pytest.raises(ValueError, match=text):
        tl.scale.Ray(**options)


def test_data_that_workers_cannot_read_are_refused_before_a_start(installed, photos, tmp_path):
    helper = samples.make_helper()
    pictures = samples.read_photos(photos, helper)
    two = tl.scale.Ray(workers=2)
    with pytest.raises(ValueError, match="need a folder that all machines reach"):
        helper.featurize(pictures, engine=two)
    with pytest.raises(ValueError, match="pictures in files"):
        helper.featurize((torch.rand(4, 3, 32, 32), torch.zeros(4, dtype=torch.long)), to=tmp_path, engine=two)
    with pytest.raises(ValueError, match="in this process only"):
        helper.featurize(pictures.augmented(lambda x: x), to=tmp_path, views=2, engine=two)


def test_a_start_that_fails_is_tried_again_and_told_of_at_last(monkeypatch):
    ray = pytest.importorskip("ray")
    tries = []
    monkeypatch.setattr(cluster, "PAUSE", 0.0)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)

    def fail(*arguments, **options):
        tries.append(options)
        raise Exception(f"node timed out {len(tries)}")

    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(ConnectionError, match=r"could not be started in 3 attempts.*node timed out 3.*work without"):
        cluster.connected(tl.scale.Ray())
    assert len(tries) == 3
    monkeypatch.setattr(ray, "init", lambda *arguments, **options: tries.append(options))
    cluster.connected(tl.scale.Ray())  # and one that works is the last
    assert len(tries) == 4


def test_an_own_cluster_has_no_dashboard(monkeypatch):
    ray = pytest.importorskip("ray")
    given = {}
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda address, **options: given.update(options))
    cluster.connected(tl.scale.Ray(workers=2))
    assert (given["include_dashboard"], given["dashboard_host"]) == (False, "127.0.0.1")
    assert given["num_cpus"] >= 3
