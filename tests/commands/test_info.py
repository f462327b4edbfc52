import json
from collections import Counter

import pytest
import torch
from command_line import CLASSES, ROWS, THREADS, remove, run, shard_file

import tlkit as tl
from tlkit.features.spec import StoreSpec


def test_info_in_json_is_what_the_store_is(undivided, capsys):
    code, said, complaint = run(capsys, "info", undivided, "--json")
    found, opened = json.loads(said), tl.FeatureStore(undivided)
    assert (code, complaint) == (0, "")
    assert found["complete"] is True
    assert found["rows"] == {"done": ROWS, "total": ROWS}
    assert found["shards"] == {"done": 3, "total": 3}
    assert found["classes"] == CLASSES
    assert found["boundary"] == {"flatten": {"shape": [96], "dtype": "float32"}}
    assert found["bytes"] == sum(file.stat().st_size for file in undivided.rglob("*") if file.is_file())
    assert found["key"]["preprocessing"] == opened.key["preprocessing"]
    assert found["key"]["weights"].startswith("sha256 ")
    assert found["key"]["graph"].startswith("sha256 ")
    assert found["engines"] == {f"torch {torch.__version__}, {THREADS}": 3}
    records = [json.loads(file.read_bytes()) for file in (undivided / "shards").glob("*.json")]
    assert found["seconds"] == pytest.approx(sum(record["seconds"] for record in records), abs=1e-3)
    assert len(found["written"]) == 2


def test_info_in_words_says_the_same(undivided, capsys):
    code, said, _ = run(capsys, "info", undivided)
    lines = dict(line.split(maxsplit=1) for line in said.splitlines() if not line.startswith(" "))
    assert code == 0
    assert lines["state"] == "complete"
    assert lines["rows"] == "11"
    assert lines["shards"] == "3"
    assert lines["classes"] == "3 classes: daisy 5, rose 4, tulip 2"
    assert lines["boundary"] == "flatten (96), float32"
    assert f"by torch {torch.__version__}, {THREADS} (3 shards)" in lines["computed"]
    assert lines["key"].startswith("sha256 ")
    assert "preprocessing: {" in said


def test_info_says_how_far_an_unfinished_store_is(store, capsys):
    remove(store, 0)
    shard_file(store, 2).write_bytes(b"cut")
    found = json.loads(run(capsys, "info", store, "--json")[1])
    assert found["complete"] is False
    assert found["shards"] == {"done": 1, "total": 3}
    assert found["rows"] == {"done": 4, "total": ROWS}
    labels = json.loads(shard_file(store, 1, "json").read_bytes())["labels"]
    counts = Counter(labels)
    assert found["classes"] == {name: counts[label] for label, name in enumerate(CLASSES)}

    said = run(capsys, "info", store)[1]
    assert "unfinished: featurize again with the same settings to go on" in said
    assert "4 of 11" in said
    assert "1 of 3" in said
    assert "in the rows that are done" in said


def test_info_describes_a_store_of_which_nothing_is_done(store, capsys):
    remove(store, 0, 1, 2)
    code, said, _ = run(capsys, "info", store)
    assert code == 0
    assert "0 of 3" in said
    assert "written" not in said


def test_a_store_from_elsewhere_cannot_steer_the_terminal(tmp_path, capsys):
    key = {"ke\x1by\n": "val\x1bue", "list": ["\x1b[0m\u2028"]}
    labels = torch.zeros(2, dtype=torch.long)
    spec = StoreSpec(key, {"fla\n\u202etten": (1,)}, "float32", ["ro\x1b[31m\nse"], labels)
    (tmp_path / "spec.json").write_bytes(spec.layout.to_bytes())
    code, said, _ = run(capsys, "info", tmp_path)
    assert code == 0
    for shown in (r"ro\x1b[31m\nse 0", r"fla\n\u202etten (1)", r"ke\x1by\n: val\x1bue", r"\u001b[0m\u2028"):
        assert shown in said
    assert not {"\x1b", "\u202e", "\u2028"} & set(said)
