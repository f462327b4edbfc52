"""tl.scale.Ray before any cluster starts: what it refuses, and that nothing of Ray is imported."""

from __future__ import annotations

import os
import subprocess
import sys
import types

import pytest
import samples
import torch

import tlkit as tl
from tlkit.scale import cluster, engine


@pytest.fixture
def installed(monkeypatch):
    """Behave as if Ray were there; a start of it would be an error."""
    monkeypatch.setattr(engine, "require_ray", lambda: None)


@pytest.mark.slow
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


# starting and reaching, with a module in place of Ray


class AuthenticationError(Exception):
    """Called as Ray's."""


@pytest.fixture
def ray(installed, monkeypatch, tmp_path):
    """A module that notes each start; `ray.fails` are the errors with which the first ones end."""
    module = types.ModuleType("ray")
    module.fails, module.starts, module.shut_down = [], [], 0

    def init(address=None, **options):
        module.starts.append((address, options))
        if module.fails:
            raise module.fails.pop(0)

    def shutdown():
        module.shut_down += 1

    module.init, module.shutdown, module.is_initialized = init, shutdown, lambda: False
    monkeypatch.setitem(sys.modules, "ray", module)
    monkeypatch.delitem(sys.modules, "ray._private.ray_constants", raising=False)
    monkeypatch.setattr(cluster, "PAUSE", 0.0)
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    for name in ("RAY_ADDRESS", *cluster.SETTINGS):
        monkeypatch.setenv(name, "")  # so that what is set here is taken back
        monkeypatch.delenv(name)
    return module


def test_a_start_that_fails_is_tried_again_and_told_of_at_last(ray):
    ray.fails = [Exception(f"node timed out {number}.") for number in range(1, 5)]
    with pytest.raises(ConnectionError) as caught:
        cluster.connected(tl.scale.Ray())
    assert str(caught.value) == (
        "Ray could not be started in 3 attempts. The last one ended with: Exception: node timed out 3. Try again when "
        "the machine is less busy. Or work without engine=: one process does the same."
    )
    assert len(ray.starts) == ray.shut_down == 3
    assert cluster.connected(tl.scale.Ray()) is ray  # the fourth error, and a start that works
    assert len(ray.starts) == 5


def test_attempts_wait_longer_and_longer(ray, monkeypatch):
    waited = []
    monkeypatch.setattr(cluster, "PAUSE", 2.0)
    monkeypatch.setattr(cluster.time, "sleep", waited.append)
    ray.fails = [OSError("no port")] * 3
    with pytest.raises(ConnectionError):
        cluster.connected(tl.scale.Ray())
    assert waited == [2.0, 4.0]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (AuthenticationError("no token"), r"in 1 attempt\. It ended with.*the cluster's token: in the variable"),
        (ValueError("Malformed address"), r"'head:6379' could not be reached in 1 attempt\..*Malformed address"),
    ],
)
def test_what_another_attempt_cannot_mend_is_told_of_at_once(ray, error, text):
    ray.fails = [error]
    with pytest.raises(ConnectionError, match=text):
        cluster.connected(tl.scale.Ray("head:6379"))
    assert len(ray.starts) == 1


def test_a_cluster_that_is_there_is_reached_as_it_is(ray, monkeypatch):
    cluster.connected(tl.scale.Ray("auto"))
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    cluster.connected(tl.scale.Ray())
    assert [address for address, _ in ray.starts] == ["auto", "head:6379"]
    assert not {"num_cpus", "include_dashboard"} & {name for _, options in ray.starts for name in options}
    ray.fails = [ConnectionError("nobody there")] * 3
    with pytest.raises(ConnectionError, match=r"cluster at 'head:6379' could not be reached in 3 attempts.*ray status"):
        cluster.connected(tl.scale.Ray())


def test_an_own_cluster_is_a_new_one_without_dashboard(ray):
    cluster.connected(tl.scale.Ray(workers=2))
    ((address, options),) = ray.starts
    assert address == "local"
    assert (options["include_dashboard"], options["dashboard_host"]) == (False, "127.0.0.1")
    assert options["num_cpus"] >= 3


def test_an_own_cluster_listens_on_this_machine_only_and_later_ones_as_they_like(ray, monkeypatch):
    constants = types.SimpleNamespace(ENABLE_RAY_CLUSTER=True)
    monkeypatch.setitem(sys.modules, "ray._private.ray_constants", constants)
    seen = []
    monkeypatch.setattr(ray, "init", lambda *arguments, **options: seen.append(constants.ENABLE_RAY_CLUSTER))
    cluster.connected(tl.scale.Ray())
    cluster.connected(tl.scale.Ray("auto"))
    assert seen == [False, True]


@pytest.mark.skipif(os.name != "posix", reason="others cannot be kept out this way")
def test_nobody_else_reads_the_token(ray, monkeypatch, tmp_path):
    token = tmp_path / ".ray/auth_token"
    monkeypatch.setattr(ray, "init", lambda *arguments, **options: token.write_text("secret"))
    cluster.connected(tl.scale.Ray())
    assert (token.stat().st_mode & 0o077, token.parent.stat().st_mode & 0o077) == (0, 0)
