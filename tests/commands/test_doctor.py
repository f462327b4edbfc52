import json
import os
import shutil
import sys
from collections import namedtuple
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from command_line import run

import tlkit as tl
from tlkit import memory
from tlkit.commands import doctor, machine
from tlkit.commands.doctor import Finding
from tlkit.course.lessons import costs


@pytest.fixture
def healthy(tmp_path, monkeypatch):
    """A machine on which all is well, and a network that is not really run."""
    monkeypatch.setenv("TLKIT_HOME", str(tmp_path / "home"))
    for name in ("TLKIT_OFFLINE", "TLKIT_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(memory, "available_memory", lambda: 4 * 10**9)
    monkeypatch.setattr(machine, "missing", lambda *extras: {})
    monkeypatch.setattr(doctor, "_milliseconds", lambda: 27.0)


def sentences(found, *, works):
    return [finding["sentence"] for finding in found["findings"] if finding["works"] == works]


@pytest.mark.slow
def test_doctor_tells_the_truth_in_json(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TLKIT_HOME", str(tmp_path))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "one.png").write_bytes(bytes(1234))
    code, said, _ = run(capsys, "doctor", "--json")
    found = json.loads(said)
    assert set(found) == {
        "memory", "versions", "disk", "caches", "settings", "device", "milliseconds_a_picture", "findings", "ok",
    }  # fmt: skip
    assert code == (0 if found["ok"] else 1)
    assert found["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["versions"]["tlkit"] == tl.__version__
    for name in ("torch", "torchvision", "timm", "numpy"):
        assert found["versions"][name] == version(name)
    assert found["device"]["torch_threads"] == torch.get_num_threads()
    assert len(found["device"]["gpus"]) == torch.cuda.device_count()
    assert 0 < found["device"]["usable_cores"] <= found["device"]["cores"] == os.cpu_count()
    assert found["disk"]["home"]["path"] == str(tmp_path)
    assert found["disk"]["here"]["path"] == str(Path.cwd())
    assert found["disk"]["home"]["writable"] is True
    assert found["caches"] == {str(tmp_path / "images"): 1234}
    assert found["settings"]["TLKIT_HOME"] == str(tmp_path)
    assert found["milliseconds_a_picture"] > 0, "the default network really ran"
    assert found["memory"]["available"] > 10**7
    assert {"works", "sentence", "needed"} == set(found["findings"][0])


def test_doctor_says_in_words_that_the_notebooks_can_run(healthy, capsys):
    code, said, complaint = run(capsys, "doctor")
    assert (code, complaint) == (0, "")
    assert said.endswith("The default notebooks can run.\n")
    assert f"torch {version('torch')}" in said
    assert "4.0 GB available" in said
    assert "takes 27 ms a picture with torch, measured just now: for the 3,670 flower photos 99 s." in said
    assert "\nNO" not in said


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda patch: patch.setattr(machine, "missing", lambda *e: {"ipywidgets>=8.1": None, "ipykernel>=7.1": "6.0"}),
         "The notebooks need ipywidgets>=8.1, and here is none; ipykernel>=7.1, and here is 6.0. "
         "Install what is lacking: pip install --upgrade 'ipywidgets>=8.1' 'ipykernel>=7.1'"),
        (lambda patch: patch.setattr(memory, "available_memory", lambda: 900_000_000),
         "takes up to 1.5 GB of memory, and 900 MB are available: close other programs"),
        (lambda patch: patch.setenv("TLKIT_HOME", __file__ + "/home"),
         "/home' cannot be written to, and the drawn flowers go there. Name another folder: TLKIT_HOME=..."),
        (lambda patch: patch.setattr(shutil, "disk_usage", lambda folder: namedtuple("disk", "free")(10**6)),
         "need 200 MB for pictures and features, and 1.0 MB are free"),
        (lambda patch: patch.setattr(doctor, "_milliseconds", lambda: (_ for _ in ()).throw(OSError("no weights"))),
         "The default network efficientnet_lite0 cannot run: no weights"),
    ],
)  # fmt: skip
def test_doctor_says_what_the_notebooks_lack_and_what_to_do(break_it, sentence, healthy, capsys, monkeypatch):
    break_it(monkeypatch)
    code, said, _ = run(capsys, "doctor")
    assert code == 1
    [line] = [line for line in said.splitlines() if line.startswith("NO")]
    assert sentence in line
    assert said.endswith("The default notebooks cannot run yet: see NO above.\n")


@pytest.mark.parametrize(("available", "works"), [(1_400_000_000, False), (1_600_000_000, True)])
def test_doctor_compares_what_vgg16_takes_with_what_there_is(available, works, healthy, monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: available)
    [sentence] = [text for text in sentences(doctor.examine(), works=works) if text.startswith("VGG16 up to 'fc2'")]
    assert "about 1.5 GB of memory" in sentence
    assert f"{available / 1e9:.1f} GB are available" in sentence
    assert ("another backbone" in sentence) is not works


def test_doctor_knows_what_can_be_downloaded(healthy, monkeypatch, tmp_path):
    def said(what, *, works):
        return [text for text in sentences(doctor.examine(), works=works) if what in text]

    assert len(said("the first use fetches them, which needs a network", works=True)) == 2
    monkeypatch.setenv("TLKIT_OFFLINE", "1")
    refused = said("TLKIT_OFFLINE forbids", works=False)
    assert len(refused) == 2
    assert str(tmp_path / "home" / "weights" / "vgg16-397923af.pth") in refused[0]
    monkeypatch.setenv("TLKIT_MIRROR", str(tmp_path))
    assert len(said("the first use fetches them, from TLKIT_MIRROR", works=True)) == 2


def test_doctor_sees_the_limits_of_a_container(healthy, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "CONTROL_GROUPS", tmp_path)
    (tmp_path / "memory.max").write_text("2147483648\n")
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    found = doctor.examine()
    assert found["memory"]["container_limit"] == 2**31
    assert found["device"]["usable_cores"] == 0.5
    assert any("torch uses 16 threads on 0.5 cores" in text for text in sentences(found, works=False))
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.memory_facts()["container_limit"] is None
    assert machine.cores()["usable"] >= 1


def test_the_memory_of_a_notebook_is_the_limit_that_notebooks_are_held_to():
    assert doctor.NOTEBOOK_MEMORY == costs.MEMORY_LIMIT


def test_a_gpu_is_named(healthy, capsys, monkeypatch):
    monkeypatch.setattr(machine, "gpus", lambda: [{"name": "Fast One", "memory": 24 * 10**9}])
    said = run(capsys, "doctor")[1]
    assert "GPU Fast One, 24.0 GB" in said
    assert "The GPU Fast One (24.0 GB) is used where DEVICE is 'auto'." in said
    assert Finding(True, "x") == Finding(True, "x", needed=False)


def test_packages_for_a_faster_engine_are_named(healthy, monkeypatch):
    monkeypatch.setattr(machine, "_version", lambda package: "1.0")
    assert any("can use ONNX Runtime 1.0" in text for text in sentences(doctor.examine(), works=True))
    monkeypatch.setattr(machine, "_version", lambda package: None if package.startswith("onnx") else "1.0")
    found = doctor.examine()
    assert found["ok"], "the notebooks do without it"
    assert any(text.endswith("pip install onnx onnxruntime onnxscript") for text in sentences(found, works=False))
