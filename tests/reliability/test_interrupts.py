"""The Stop button of a notebook while a cell featurizes."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import samples

pytestmark = pytest.mark.slow  # other processes are interrupted

LONGEST = 120  # seconds on a busy machine
STOPS_AFTER = (1, 3)  # shards

PREPARE = """
import sys, time
sys.path[:0] = {folders!r}
import samples
from tlkit.images import pictures
from tlkit.features import spec as spec_module
spec_module.MOST_ROWS = samples.ROWS_PER_SHARD
decode = pictures.decode
pictures.decode = lambda *arguments: time.sleep(0.05) or decode(*arguments)
helper = samples.make_helper()
pictures = samples.read_photos({photos!r}, helper, threads=2)
"""
FEATURIZE = """
store = helper.featurize(pictures, to={store!r}, batch_size=2)
print(store.rows_computed, store.reasons)
"""
AFTERWARDS = """
import threading
print([thread.name for thread in threading.enumerate() if thread.name.startswith("decode")])
print(len(helper.output_from_featurized(store.load().tensors["block4_pool"])))
"""


@pytest.fixture
def kernel():
    jupyter_client = pytest.importorskip("jupyter_client")
    pytest.importorskip("ipykernel")
    manager, client = jupyter_client.manager.start_new_kernel(startup_timeout=LONGEST)
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def run(client, code):
    """Run a cell; return the name of its error, or None, and what it printed to its output."""
    printed = []

    def note(message):
        if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
            printed.append(message["content"]["text"])

    reply = client.execute_interactive(code, timeout=LONGEST, output_hook=note)
    return reply["content"].get("ename"), "".join(printed)


def stop_after(manager, client, shards, code, store):
    """Run a cell and press Stop once some shards are finished; return the name of the error that ends it."""
    # with stop_on_error, a kernel that is still tidying up after the last Stop drops this cell without running it
    message = client.execute(code, stop_on_error=False)
    deadline = time.monotonic() + LONGEST
    while not list((store / "shards").glob(f"{shards - 1:05d}-*.json")):
        assert time.monotonic() < deadline
        assert not client.shell_channel.msg_ready(), client.get_shell_msg()["content"]
        time.sleep(0.002)
    manager.interrupt_kernel()
    while (reply := client.get_shell_msg(timeout=LONGEST))["parent_header"]["msg_id"] != message:
        pass
    return reply["content"].get("ename")


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
def test_a_cell_that_was_stopped_twice_finishes_when_it_is_run_again(tmp_path, photos, kernel, small_shards):
    manager, client = kernel
    folders = [str(Path(__file__).parent), str(Path(samples.__file__).parent.parent)]
    cell = FEATURIZE.format(store=str(tmp_path / "stopped"))
    assert run(client, PREPARE.format(folders=folders, photos=str(photos))) == (None, "")
    for shards in STOPS_AFTER:
        assert stop_after(manager, client, shards, cell, tmp_path / "stopped") == "KeyboardInterrupt"
    finished = len(list((tmp_path / "stopped" / "shards").glob("*.json")))
    assert 3 <= finished < 6
    first = "shard 5 was" if finished == 5 else f"shards {finished} to 5 were"
    assert run(client, cell) == (None, f"{24 - 4 * finished} ('{first} not finished yet',)\n")
    assert run(client, AFTERWARDS) == (None, "[]\n24\n")
    assert not list(tmp_path.rglob("*.tmp"))
    helper = samples.make_helper()
    helper.featurize(samples.read_photos(photos, helper), to=tmp_path / "undisturbed", batch_size=2, progress=False)
    assert samples.shard_bytes(tmp_path / "stopped") == samples.shard_bytes(tmp_path / "undisturbed")
