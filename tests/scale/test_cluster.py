"""Starting and reaching a cluster, with a module in place of Ray."""

from __future__ import annotations

import os
import sys
import types

import pytest

import tlkit as tl
from tlkit.scale import cluster


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
        cluster.connect(tl.scale.Ray())
    assert str(caught.value) == (
        "Ray could not be started in 3 attempts. The last one ended with: Exception: node timed out 3. Try again when "
        "the machine is less busy. Or work without engine=: one process does the same."
    )
    assert len(ray.starts) == ray.shut_down == 3
    assert cluster.connect(tl.scale.Ray()) is ray  # the fourth error, and a start that works
    assert len(ray.starts) == 5


def test_attempts_wait_longer_and_longer(ray, monkeypatch):
    waited = []
    monkeypatch.setattr(cluster, "PAUSE", 2.0)
    monkeypatch.setattr(cluster.time, "sleep", waited.append)
    ray.fails = [OSError("no port")] * 3
    with pytest.raises(ConnectionError):
        cluster.connect(tl.scale.Ray())
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
        cluster.connect(tl.scale.Ray("head:6379"))
    assert len(ray.starts) == 1


def test_a_cluster_that_is_there_is_reached_as_it_is(ray, monkeypatch):
    cluster.connect(tl.scale.Ray("auto"))
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    cluster.connect(tl.scale.Ray())
    assert [address for address, _ in ray.starts] == ["auto", "head:6379"]
    assert not {"num_cpus", "include_dashboard"} & {name for _, options in ray.starts for name in options}
    ray.fails = [ConnectionError("nobody there")] * 3
    with pytest.raises(ConnectionError, match=r"cluster at 'head:6379' could not be reached in 3 attempts.*ray status"):
        cluster.connect(tl.scale.Ray())


def test_an_own_cluster_is_a_new_one_without_dashboard(ray):
    cluster.connect(tl.scale.Ray(workers=2))
    ((address, options),) = ray.starts
    assert address == "local"
    assert (options["include_dashboard"], options["dashboard_host"]) == (False, "127.0.0.1")
    assert options["num_cpus"] >= 3


def test_an_own_cluster_listens_on_this_machine_only_and_later_ones_as_they_like(ray, monkeypatch):
    constants = types.SimpleNamespace(ENABLE_RAY_CLUSTER=True)
    monkeypatch.setitem(sys.modules, "ray._private.ray_constants", constants)
    seen = []
    monkeypatch.setattr(ray, "init", lambda *arguments, **options: seen.append(constants.ENABLE_RAY_CLUSTER))
    cluster.connect(tl.scale.Ray())
    cluster.connect(tl.scale.Ray("auto"))
    assert seen == [False, True]


@pytest.mark.skipif(os.name != "posix", reason="others cannot be kept out this way")
def test_nobody_else_reads_the_token(ray, monkeypatch, tmp_path):
    token = tmp_path / ".ray/auth_token"
    monkeypatch.setattr(ray, "init", lambda *arguments, **options: token.write_text("secret"))
    cluster.connect(tl.scale.Ray())
    assert (token.stat().st_mode & 0o077, token.parent.stat().st_mode & 0o077) == (0, 0)
