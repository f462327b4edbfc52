"""Who may tell a cluster what to do, and that nothing which is read from disk can run code."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import samples

import tlkit as tl
from tlkit.features.store import FeatureStore, StoreError
from tlkit.scale.cluster import connect

PACKAGE = Path(tl.__file__).parent
UNPICKLERS = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
KNOCK = """
import sys
import tlkit as tl
from tlkit.scale import cluster

cluster.connect(tl.scale.Ray(sys.argv[1]))
print("let in")
"""


@pytest.fixture
def address(two_workers) -> str:
    """Where the cluster that was started for this process is reached."""
    return connect(two_workers).get_runtime_context().gcs_address


@pytest.mark.ray
def test_a_cluster_of_ones_own_listens_on_this_machine_only(two_workers, address):
    psutil = pytest.importorskip("psutil")
    ray = connect(two_workers)

    @ray.remote
    def worker() -> int:
        return 1

    assert sum(ray.get([worker.remote() for _ in range(2)])) == 2
    processes = {process.pid for process in psutil.Process().children(recursive=True)}
    listening = {
        (names(process), connection.laddr.ip)
        for process in psutil.process_iter()
        if process.pid in processes
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert len(listening) >= 3, "Ray's processes listen for each other"
    assert {ip for _, ip in listening} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, listening
    assert address.startswith("127.0.0.1:")


def names(process) -> str:
    return " ".join(process.cmdline())[:80]


def said_to_knock(address: str, **token: str) -> str:
    """What a process says that asks to be let in; whoever is not keeps trying, and is ended."""
    # without the first, Ray looks for what is at 127.0.0.1 under the machine's address in the network, in vain
    here = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token", "RAY_BACKEND_LOG_LEVEL": "warning"}
    command = [sys.executable, "-c", KNOCK, address]
    knocking = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | here | token
    )
    try:
        return knocking.communicate(timeout=30)[0]
    except subprocess.TimeoutExpired:
        knocking.kill()
        return knocking.communicate()[0]


@pytest.mark.ray
def test_only_who_has_the_token_is_let_in(address):
    assert "let in" in said_to_knock(address)  # with the one in the home folder of whoever started it
    answer = said_to_knock(address, RAY_AUTH_TOKEN="x" * 64)
    assert "let in" not in answer
    assert "Authentication token is missing or incorrect" in answer


@pytest.mark.ray
def test_there_is_no_dashboard(two_workers):
    context = connect(two_workers).init(ignore_reinit_error=True, logging_level="ERROR")
    assert not context.dashboard_url


def imported(tree: ast.AST) -> set[str]:
    """Top-level names of the modules that some code imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("scale/*.py")), ids=lambda path: path.stem)
def test_nothing_here_reads_pickles(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not imported(tree) & UNPICKLERS
    attributes = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not attributes & {"torch.load", "np.load", "numpy.load"}


def test_a_pickle_in_place_of_features_is_not_read(tmp_path):
    class Run:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    import pickle

    store, _ = samples.fill(tmp_path / "store", samples.make_spec(8))
    samples.shard_file(store.path, 1).write_bytes(pickle.dumps(Run()))
    with pytest.raises(StoreError, match="damaged"):
        FeatureStore(tmp_path / "store").load()
    assert not (tmp_path / "ran").exists()
    del store
