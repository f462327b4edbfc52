"""docs/store-format.md says what is in a feature store, and its code runs."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from nets import classifier, seeded
from PIL import Image
from safetensors import safe_open

import tlkit as tl
from tlkit.features import filling, writing
from tlkit.features import spec as spec_module

PAGE = (Path(__file__).parents[2] / "docs/store-format.md").read_text(encoding="utf-8")
ROWS = 300


def section(title: str) -> str:
    return re.search(rf"^##+ {re.escape(title)}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL).group(1)


def first_column(title: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)`", section(title), re.MULTILINE)


def run(title: str) -> dict:
    found: dict = {}
    exec(re.search(r"```python\n(.*?)```", section(title), re.DOTALL).group(1), found)
    return found


@pytest.fixture(scope="module")
def digest():
    return run("The digest")["digest"]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The page's features/train, in the present folder: rows of tensors, two shards."""
    monkeypatch.chdir(tmp_path)
    helper = tl.TransferLearningHelper(classifier(4, 6, 3), "0")
    with seeded(0):
        x = torch.randn(ROWS, 4)
    return helper.featurize((x, torch.arange(ROWS) % 3), to="features/train", progress=False).path


@pytest.fixture
def of_pictures(tmp_path) -> Path:
    """A store of pictures from files."""
    for name, color in (("daisy", "white"), ("roses", "red")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        Image.new("RGB", (40, 30), color).save(tmp_path / "pictures" / name / "1.png")
    with seeded(0):
        module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2), torch.nn.Flatten(), torch.nn.Linear(4 * 15 * 15, 2))
    net = tl.Network.from_module(module, [torch.empty(1, 3, 32, 32)])
    net.preprocessing = tl.Preprocessing(size=32, resize=40)
    images = tl.images.load(tmp_path / "pictures", split=None, size=net.preprocessing)
    return tl.TransferLearningHelper(net, "0").featurize(images, to=tmp_path / "store", progress=False).path


def read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def shard_file(folder: Path, number: int, suffix: str = "json") -> Path:
    [file] = (folder / "shards").glob(f"{number:05d}-*.{suffix}")
    return file


def test_the_folder_holds_the_files_that_the_page_names_and_no_other(folder):
    names = {f"{number:05d}-{shard['inputs'][:12]}" for number, shard in enumerate(read(folder / "spec.json")["plan"])}
    assert {file.stem for file in (folder / "shards").iterdir()} == names
    found = {
        re.sub(r"\d{5}-\w{12}", "00000-1a2b3c4d5e6f", p.relative_to(folder).as_posix()) for p in folder.rglob("*.*")
    }
    assert found == set(first_column("The folder"))
    assert len([*folder.rglob("*.*")]) == 1 + 2 * len(names) == 5


def test_every_field_is_described_and_no_other(folder):
    spec, record = read(folder / "spec.json"), read(shard_file(folder, 0))
    assert first_column("spec.json") == list(spec)
    assert first_column("The key") == list(spec["key"])
    assert first_column("A shard's record") == list(record)
    words = set(re.findall(r"`(\w+)`", PAGE))
    nested = (*spec["boundaries"], *spec["plan"], *spec["key"]["graph"].values(), record["images"])
    assert all(entry.keys() <= words for entry in nested)


def test_pictures_are_described(of_pictures):
    spec, record = read(of_pictures / "spec.json"), read(shard_file(of_pictures, 0))
    words = set(re.findall(r"`(\w+)`", PAGE))
    assert record["images"].keys() == {"path", "size", "sha256"} <= words
    assert record["images"]["path"][0] == "daisy/1.png"
    assert spec["key"]["pixels"].keys() <= words
    assert spec["key"]["preprocessing"].keys() == tl.Preprocessing().to_dict().keys()


def test_the_format_is_todays(folder):
    spec = read(folder / "spec.json")
    assert f'`"{spec["format"]}"`' in PAGE
    assert f"The format's number, `{spec_module.VERSION}`" in PAGE
    assert spec["version"] == spec_module.VERSION
    assert all(f"`{dtype}`" in PAGE for dtype in spec_module.DTYPES)
    assert (
        f"up to {spec_module.MOST_ROWS} rows, fewer where a file would pass {spec_module.LARGEST_SHARD // 10**6} MB"
        in PAGE
    )
    assert all(f'`"{word}"`' in PAGE for word in ("exact", "within 1e-4"))


def test_the_digests_are_computed_as_written(folder, digest):
    spec = read(folder / "spec.json")
    body = {name: value for name, value in spec.items() if name not in ("format", "version", "checksum")}
    assert digest(body) == spec["checksum"]
    shapes = {boundary["name"]: boundary["shape"] for boundary in spec["boundaries"]}
    dtype = spec["boundaries"][0]["dtype"]
    assert digest([spec["version"], spec["key"], shapes, dtype]) == spec["key_digest"]
    for number, planned in enumerate(spec["plan"]):
        record = read(shard_file(folder, number))
        inputs = digest([spec["key_digest"], *record["rows"], record["labels"], record["images"]])
        assert inputs == record["inputs"] == planned["inputs"]


def test_a_record_vouches_for_itself_as_written(folder):
    content = shard_file(folder, 0).read_bytes()
    before = content[: content.index(b',\n "record_crc32"')]
    assert f"{zlib.crc32(before):08x}" == json.loads(content)["record_crc32"]


def test_a_shard_holds_the_tensors_that_the_page_names(folder):
    spec = read(folder / "spec.json")
    with safe_open(shard_file(folder, 1, "safetensors"), "np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict
        assert file.metadata() == {"inputs": spec["plan"][1]["inputs"]}
    boundary = spec["boundaries"][0]
    assert tensors.keys() == {boundary["name"], "label", "row"}
    assert tensors["row"].tolist() == list(range(*spec["plan"][1]["rows"]))
    assert tensors["label"].dtype == tensors["row"].dtype == np.int64
    assert tensors[boundary["name"]].shape == (ROWS - spec_module.MOST_ROWS, *boundary["shape"])
    assert set(first_column("The shards")) >= {"label", "row"}


def test_the_features_are_read_without_tlkit(folder):
    found = run("Reading the features without tlkit")["shards"]
    store = tl.FeatureStore(folder)
    (name,) = store.shapes
    assert np.array_equal(np.concatenate([shard[name] for shard in found]), store.load().tensors[name].numpy())
    assert len(found) == len(read(folder / "spec.json")["plan"])


def test_the_features_are_read_right_beside_shards_of_another_plan(folder, monkeypatch):
    monkeypatch.setattr(filling, "remove_surplus", lambda *_: None)  # as if the program were killed before
    helper = tl.TransferLearningHelper(classifier(4, 6, 3), "0")
    with seeded(0):
        x = torch.randn(ROWS, 4)
    helper.featurize((x[:100], torch.arange(100) % 3), to="features/train", progress=False)
    assert len(list((folder / "shards").glob("*.safetensors"))) == 3
    assert sum(len(shard["label"]) for shard in run("Reading the features without tlkit")["shards"]) == 100


def test_what_a_killed_program_leaves_is_swept_after_a_day():
    assert "ends in `.tmp`, and is removed after a day" in " ".join(PAGE.split())
    assert writing.DAY == 24 * 60 * 60
    assert "longer than ten seconds" in PAGE
    assert filling.PART_SECONDS == 10
