"""docs/save-format.md says what is in a file of tl.save, and its code runs."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path

import pytest
import torch
from nets import blobs, chain, classifier, seeded
from PIL import Image
from safetensors.torch import load_file

import tlkit as tl
from tlkit import saving
from tlkit.training.optimizers import STATE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/save-format.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL).group(1)


def code(title: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", section(title), re.DOTALL)


def first_column(text: str) -> set[str]:
    return set(re.findall(r"^\| `([^`]+)`", text, re.MULTILINE))


@pytest.fixture(scope="module")
def net():
    net = classifier(4, 6, 3, updater=tl.Adam(0.1)).freeze("0")
    net.preprocessing = tl.Preprocessing()
    tl.fit(net, blobs(), epochs=2, progress=False)
    return net


@pytest.fixture
def file(net, tmp_path, monkeypatch):
    """The page's flowers.tlk, in the present folder."""
    monkeypatch.chdir(tmp_path)
    return tl.save(net, "flowers.tlk", updater_state=True)


def run(text: str) -> dict:
    found: dict = {}
    exec(text, found)
    return found


def header_of(file) -> dict:
    return run(code("Reading the weights without tlkit")[1])["header"]


def test_every_field_of_the_header_is_described_and_no_other(file):
    header = header_of(file)
    tables = first_column(section("The metadata"))
    assert tables == header.keys() | header["recipe"].keys()
    words = set(re.findall(r"`(\w+)`", section("The metadata")))
    assert header["preprocessing"].keys() <= words
    calls = [call for edits in header["recipe"]["edits"] for call in edits]
    assert {"edit", "marks"} | {calls[0]["edit"]} <= words
    assert [call["edit"] for call in calls].count("frozen_before") == len(header["recipe"]["edits"])


def test_the_formats_number_is_todays(file):
    assert header_of(file)["format"] == saving.FORMAT
    assert f"The format's number, `{saving.FORMAT}`" in PAGE
    assert f"tests/fixtures/network_format_{saving.FORMAT}.tlk" in PAGE
    assert (ROOT / f"tests/fixtures/network_format_{saving.FORMAT}.tlk").exists()


def test_a_source_is_described(file):
    described = section("The metadata")
    assert header_of(file)["recipe"]["source"].keys() == {"module"}
    zoo = tl.zoo.load("squeezenet1_1", weights=None).recipe["source"]
    for key in {"module", *zoo}:
        assert f'"{key}":' in described


def test_the_bytes_lie_where_the_page_says(file):
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert header.pop("__metadata__").keys() == {"tlkit"}
    for entry in header.values():
        assert entry.keys() == {"dtype", "shape", "data_offsets"}
    assert max(entry["data_offsets"][1] for entry in header.values()) == len(data) - 8 - length


def test_the_weights_are_read_without_tlkit(net, file):
    (three_lines, _) = code("Reading the weights without tlkit")
    assert len([line for line in three_lines.splitlines() if line]) <= 3
    weights = run(three_lines)["weights"]
    assert weights.keys() == net.state_dict().keys()
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in weights.items())


def test_names_of_tensors_are_described(file):
    names = load_file(file).keys()
    prefix = STATE
    assert any(name.startswith(prefix) for name in names)
    assert f"`{prefix}vertex.parameter/name`" in section("The tensors")
    assert all(re.fullmatch(r"(\.updater/)?\w+\.\w+(/\w+)?", name) for name in names)


def test_the_checksum_is_computed_as_written(file):
    header, tensors = header_of(file), load_file(file)
    expected = header.pop("crc32")
    found = {"header": header, "tensors": tensors, "zlib": zlib, "json": json, "torch": torch}
    exec(code("The checksum")[0], found)
    assert found["checksum"] == expected


def test_what_is_said_to_be_absent_is_absent_by_default(net, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tl.save(net, "flowers.tlk")
    assert "updater_state" not in header_of(file)
    assert not [name for name in load_file(file) if name.startswith(STATE)]


def test_the_recipe_chooses_from_tables(net, file):
    """A word that tlkit does not have is an error, in every place where the recipe has a choice."""
    header = header_of(file)
    header["recipe"]["source"] = {"zoo": "os.system", "granularity": "block"}
    check_refused(header, file, "The zoo has no network 'os.system'")
    for wrong in ({"layer": "os.system"}, {"edit": "os.system"}):
        header = header_of(file)
        call = next(call for call in header["recipe"]["edits"][0] if call["edit"] == "add_layer")
        call["layer" if "layer" in wrong else "edit"] = wrong.get("edit", wrong)
        check_refused(header, file, "There is no (layer|edit) '?os.system'?")


def check_refused(header: dict, file: Path, match: str) -> None:
    """Load a file with another header and a right checksum."""
    weights = {name: value for name, value in load_file(file).items() if not name.startswith(STATE)}
    header = {name: value for name, value in header.items() if name not in ("crc32", "updater_state")}
    header["crc32"] = saving._crc32(header, weights)
    other = file.with_name("other.tlk")
    saving._publish(weights, {"tlkit": json.dumps(header)}, other)
    with pytest.raises((ValueError, KeyError), match=match):
        tl.load(other, None if "zoo" in header["recipe"]["source"] else chain(4, 6, 3))


@pytest.mark.slow
def test_an_onnx_file_is_used_without_tlkit_as_written(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    with seeded(1):
        layers = torch.nn.Conv2d(3, 8, 5, 4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
        module = torch.nn.Sequential(*layers, torch.nn.Linear(8, 5))
        pixels = torch.randint(0, 256, (8, 11, 3), dtype=torch.uint8)
    net = tl.Network.from_module(module, [torch.empty(1, 3, 32, 32)])
    net.preprocessing = tl.Preprocessing(size=32, resize=40, interpolation="bilinear", mean=(0.4, 0.5, 0.6))
    net.classes = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    Image.fromarray(pixels.numpy()).resize((110, 80)).save("rose.jpg")
    for name in ("roses", "tulips"):
        (Path("pictures") / name).mkdir(parents=True)
    Image.open("rose.jpg").save("pictures/roses/1.png")
    Image.new("RGB", (40, 40)).save("pictures/tulips/1.png")
    tl.export_onnx(net, "flowers.onnx")
    found = run(code("For programs that know neither tlkit nor PyTorch")[0])
    images = tl.images.load("pictures", split=None, size=net.preprocessing)
    with torch.no_grad():
        expected = net(images.pixels([0]))
    assert torch.allclose(torch.from_numpy(found["answer"]), expected, atol=2e-3)
    assert capsys.readouterr().out.strip() == net.classes[int(expected.argmax())]
