"""The widgets where notebooks run them: papermill ends with the final state, clicks and interrupts stop a training."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("papermill")

from tlkit.course.lessons import runner

pytestmark = pytest.mark.slow  # starts kernels

ROOT = Path(__file__).parent.parent.parent
SETUP = """
import sys
sys.path.insert(0, "TESTS")
import tlkit as tl
from nets import blobs, classifier
net = classifier(4, 8, 3)
"""
PICTURES = """
import torch
from PIL import Image
from pathlib import Path
for name, color in (("blue", (0, 0, 250)), ("red", (250, 0, 0))):
    Path("colors", name).mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (20 + number, 20), color).save(f"colors/{name}/{number}.png")
layers = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2), torch.nn.Softmax(1)]
colors = tl.Network.from_module(torch.nn.Sequential(*layers), [torch.rand(1, 3, 16, 16)])
colors.preprocessing, colors.classes = tl.Preprocessing(size=16, resize=18), ("blue", "red")
images = tl.images.load("colors", split=None, size=colors.preprocessing)
"""
TRAIN = "monitor = tl.TrainingMonitor(tl.fit, net, blobs(), epochs=4, batch_size=8, test=blobs(9))\nawait monitor.run()"
PREDICT = "predictor = tl.Predictor(colors, images, before=colors)\npredictor"
BROWSE = "browser = tl.MistakeBrowser(colors, images)\nbrowser"
UPLOAD = """
photo = torch.randint(256, (60, 80, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(7))
Image.fromarray(photo.numpy()).save("photo.jpg")
predictor._upload._handle_custom_msg("photo", [Path("photo.jpg").read_bytes()])
Path("shown.jpg").write_bytes(predictor._photo._picture)
predictor
"""
SLOW = """
import time
class Slow(tl.Listener):
    def iteration_done(self, training):
        time.sleep(0.02)
monitor = tl.TrainingMonitor(tl.fit, net, blobs(), epochs=100_000, batch_size=8, listeners=[Slow()])
"""


@pytest.fixture(autouse=True)
def this_checkout(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def notebook(*sources):
    cells = [nbformat.v4.new_code_cell(source.replace("TESTS", str(ROOT / "tests")).strip()) for source in sources]
    return nbformat.v4.new_notebook(cells=cells)


def run(tmp_path, *sources):
    nbformat.write(notebook(*sources), tmp_path / "in.ipynb")
    outcome = runner.execute(tmp_path / "in.ipynb", tmp_path / "out.ipynb")
    return outcome, nbformat.read(tmp_path / "out.ipynb", as_version=4)


def states(executed, name):
    """The saved states of all widgets of a kind."""
    models = executed.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"].values()
    return [model["state"] for model in models if model["model_name"] == name]


def test_papermill_ends_with_the_final_state(tmp_path):
    outcome, executed = run(tmp_path, SETUP, PICTURES, TRAIN, PREDICT, BROWSE, "print(monitor.running)")
    assert outcome.error == ""
    assert executed.cells[-1].outputs[0].text == "False\n"
    html = [state.get("value", "") for state in states(executed, "HTMLModel")]
    assert any("Finished: 12 iterations." in value for value in html)
    assert not any("Not started." in value or "Training:" in value for value in html)
    (bar,) = states(executed, "IntProgressModel")
    assert (bar["value"], bar["max"]) == (12, 12)
    disabled = {state["description"]: state.get("disabled", False) for state in states(executed, "ButtonModel")}
    assert (disabled["Start"], disabled["Stop"]) == (False, True)
    shown, result = executed.cells[2].outputs
    assert "Finished: 12 iterations." in shown.data["text/html"]  # the static face is that of the end
    assert shown.data["text/plain"] == "TrainingMonitor(tl.fit: 12 iterations of 8, finished)"
    assert result.data["text/plain"] == "History(12 iterations, 96 examples)"
    assert "Test picture 1 of 8" in executed.cells[3].outputs[0].data["text/html"]
    assert "of 8 pictures are answered wrongly" in executed.cells[4].outputs[0].data["text/html"]


def test_an_uploaded_photo_is_nowhere_in_the_executed_notebook(tmp_path):
    outcome, executed = run(tmp_path, SETUP, PICTURES, PREDICT, UPLOAD)
    assert outcome.error == ""
    assert "Your photo, cut to the square that the network sees." in executed.cells[-1].outputs[0].data["text/html"]
    assert "widgets" in executed.metadata
    saved = (tmp_path / "out.ipynb").read_text(encoding="utf-8")
    for name in ("photo.jpg", "shown.jpg"):
        content = (tmp_path / name).read_bytes()
        for start in range(3):  # base64 takes three bytes at a time, from wherever they start
            assert base64.b64encode(content[300 + start : 360 + start]).decode() not in saved


def test_a_notebook_fails_where_training_fails(tmp_path):
    frozen = "net.freeze('1')\nmonitor = tl.TrainingMonitor(tl.fit, net, blobs())\nawait monitor.run()"
    outcome, executed = run(tmp_path, SETUP, frozen, "print('never')")
    assert "cell [2] failed with ValueError: Everything is frozen, so there is nothing to train." in outcome.error
    assert "<b>Error:</b> Everything is frozen" in executed.cells[-2].outputs[0].data["text/html"]


@pytest.fixture
def kernel():
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3")
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def ask(client, code):
    """Run code and return what it printed."""
    printed = []
    reply = client.execute_interactive(
        code, timeout=60, output_hook=lambda message: printed.append(message["content"].get("text", ""))
    )
    assert reply["content"]["status"] == "ok", reply["content"]
    return "".join(printed)


def wait_for(client, words):
    """Wait until a widget shows some words."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        message = client.get_iopub_msg(timeout=60)
        data = message["content"].get("data", {})
        if isinstance(data, dict) and words in str(data.get("state", "")):
            return
    raise AssertionError(words)


def reply_to(client, request):
    """The kernel's answer to one of several requests."""
    while (reply := client.get_shell_msg(timeout=60))["parent_header"].get("msg_id") != request:
        pass
    return reply["content"]


def subshell(client):
    """Open a second way into the kernel, as JupyterLab does for the messages of widgets."""
    client.control_channel.send(client.session.msg("create_subshell_request"))
    return client.control_channel.get_msg(timeout=60)["content"]["subshell_id"]


def test_a_click_on_stop_reaches_a_training_that_a_cell_waits_for(kernel):
    _, client = kernel
    button = ask(client, notebook(SETUP + SLOW + "print(monitor._stop.model_id)").cells[0].source).strip()
    waiting = client.execute("history = await monitor.run()", stop_on_error=False)
    wait_for(client, "Training: iteration")
    click = client.session.msg(
        "comm_msg", {"comm_id": button, "data": {"method": "custom", "content": {"event": "click"}}}
    )
    click["header"]["subshell_id"] = subshell(client)
    client.shell_channel.send(click)
    assert reply_to(client, waiting)["status"] == "ok"
    text = ask(client, "print(history, net.training, monitor._start.disabled)")
    assert "examples, stopped: by hand) False False" in text


def test_an_interrupt_stops_training_and_the_cell(kernel):
    manager, client = kernel
    ask(client, notebook(SETUP + SLOW).cells[0].source)
    waiting = client.execute("history = await monitor.run()", stop_on_error=False)
    wait_for(client, "Training: iteration")
    manager.interrupt_kernel()
    reply = reply_to(client, waiting)
    assert reply["status"] == "error"
    assert reply["ename"] in ("CancelledError", "KeyboardInterrupt")
    text = ask(client, "print(monitor.history, monitor.running, net.training)")
    assert "stopped: interrupted) False False" in text
