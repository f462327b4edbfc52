import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter, namedtuple
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tlkit as tl
from tlkit import memory
from tlkit.commands import doctor, featurize, info, machine, main, output, parser
from tlkit.commands.doctor import Finding
from tlkit.course.lessons import costs
from tlkit.features import engines
from tlkit.features import spec as spec_module

CLASSES = {"daisy": 5, "rose": 4, "tulip": 2}
ROWS, SHARD = sum(CLASSES.values()), 4
NETWORK = ("--backbone", "timm/test_resnet", "--weights", "none")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(spec_module, "MOST_ROWS", SHARD)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for name, count in CLASSES.items():
        (folder / name).mkdir()
        for number in range(count):
            pixels = random.integers(256, size=(6, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((80, 60)).save(folder / name / f"{number}.jpg")
    return folder


@pytest.fixture(scope="module")
def undivided(pictures, tmp_path_factory):
    """A store that one run of the command made; tests leave it alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spec_module, "MOST_ROWS", SHARD)
        store = tmp_path_factory.mktemp("stores") / "undivided"
        assert main(["featurize", str(pictures), "--out", str(store), *NETWORK]) == 0
    return store


@pytest.fixture
def store(undivided, tmp_path):
    return Path(shutil.copytree(undivided, tmp_path / "store"))


def run(capsys, *words):
    """Carry out a command in this process; return its exit code, and what it wrote to stdout and stderr."""
    capsys.readouterr()
    try:
        code = main([str(word) for word in words])
    except SystemExit as error:
        code = error.code
    return code, *capsys.readouterr()


def contents(folder):
    """All that must not depend on how a store came to be: without the seconds that it took."""
    found = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        record = json.loads(file.read_bytes()) if file.parent.name == "shards" and file.suffix == ".json" else None
        name = file.relative_to(folder).as_posix()
        found[name] = file.read_bytes() if record is None else record | {"seconds": None, "record_crc32": None}
    return found


def shard_file(folder, number, suffix="safetensors"):
    [file] = (folder / "shards").glob(f"{number:05d}-*.{suffix}")
    return file


def remove(folder, *numbers):
    for number in numbers:
        shard_file(folder, number, "json").unlink()


def flip(folder, number):
    file = shard_file(folder, number)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


# -- featurize ------------------------------------------------------------------------------------------------------


def test_the_command_makes_the_store_that_the_helper_makes(pictures, undivided, tmp_path):
    torch.manual_seed(0)
    net = tl.zoo.load("timm/test_resnet", None)
    images = tl.images.load(pictures, split=None, size=net.preprocessing)
    helper = tl.TransferLearningHelper(net, net.landmarks.penultimate)
    made = helper.featurize(images, to=tmp_path / "store", progress=False)
    assert contents(made.path) == contents(undivided)
    assert len(made) == ROWS


def test_it_says_before_it_starts_what_will_come(pictures, tmp_path, capsys, monkeypatch):
    def stop(*arguments):
        raise RuntimeError("no further")

    monkeypatch.setattr(featurize, "prepare", stop)
    disk = namedtuple("disk", "total used free")(10**12, 0, 7_500_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: disk)
    out = tmp_path / "store"
    code, said, complaint = run(capsys, "featurize", pictures, "--out", out, *NETWORK, "--dtype", "float16")
    assert (code, complaint) == (1, "python -m tlkit featurize: no further\n")
    assert "11 in 3 classes: daisy 5, rose 4, tulip 2" in said
    assert "timm/test_resnet up to 'flatten', weights: none, on cpu" in said
    assert "flatten (96), float16: 208 bytes a picture" in said  # 96 numbers, a label and a row number
    assert "2.3 kB in 3 shards; the disk has 7.5 GB free" in said


def test_a_disk_that_is_too_small_is_refused_before_any_work(pictures, tmp_path, capsys, monkeypatch):
    disk = namedtuple("disk", "total used free")(10**12, 0, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: disk)
    monkeypatch.setattr(featurize, "fill_shard", lambda *arguments: pytest.fail("it started"))
    out = tmp_path / "store"
    code, said, complaint = run(capsys, "featurize", pictures, "--out", out, *NETWORK)
    assert code == 1
    assert "the disk has 1.0 kB free" in said
    assert complaint.startswith(f"python -m tlkit featurize: The features need 4.8 kB in '{out}'")
    assert "choose another folder or a later boundary" in complaint
    assert not out.exists()


def test_running_it_again_computes_nothing_and_writes_nothing(pictures, store, capsys, monkeypatch):
    monkeypatch.setattr(featurize, "fill_shard", lambda *arguments: pytest.fail("it computed"))
    times = {file: file.stat().st_mtime_ns for file in store.rglob("*")}
    code, said, complaint = run(capsys, "featurize", pictures, "--out", store, *NETWORK)
    assert (code, complaint) == (0, "")
    assert "nothing: every shard is there, and right" in said
    assert f"The store in '{store}' is complete: 11 rows." in said
    assert {file: file.stat().st_mtime_ns for file in store.rglob("*")} == times


def test_only_what_is_missing_or_damaged_is_computed_again_and_it_says_why(pictures, undivided, store, capsys):
    remove(store, 0)
    flip(store, 2)
    kept = shard_file(store, 1).stat().st_mtime_ns
    code, said, complaint = run(capsys, "featurize", pictures, "--out", store, *NETWORK)
    assert code == 0
    assert "2 of 3 shards" in said
    assert "because shard 0 was not finished yet" in said
    assert f"because shard 2 was damaged: the bytes of {shard_file(store, 2).name} have changed" in said
    assert "Computed 7 pictures in" in said
    assert f"by torch {torch.__version__}." in said
    assert "7/7" in complaint, "the progress of what is to be done, on stderr"
    assert shard_file(store, 1).stat().st_mtime_ns == kept
    assert contents(store) == contents(undivided)


def test_a_changed_setting_is_named(pictures, store, capsys):
    code, said, _ = run(capsys, "featurize", pictures, "--out", store, *NETWORK, "--dtype", "bfloat16")
    assert code == 0
    assert "because dtype float32 -> bfloat16" in said
    assert tl.FeatureStore(store).dtype == torch.bfloat16


def test_another_boundary_and_batch_size_are_taken(pictures, tmp_path, capsys):
    options = ["--out", tmp_path / "store", *NETWORK, "--boundary", "layer3_0", "--batch-size", "3"]
    assert run(capsys, "featurize", pictures, *options)[0] == 0
    assert list(tl.FeatureStore(tmp_path / "store").shapes) == ["layer3_0"]


@pytest.mark.parametrize("parts", [("1/2", "2/2"), ("2/2", "1/2")])
def test_the_parts_of_a_job_array_make_the_store_of_one_run_in_any_order(parts, pictures, undivided, tmp_path, capsys):
    out = tmp_path / "store"
    mine = {"1/2": ("shards 0, 2", [0, 2]), "2/2": ("shard 1", [1])}
    first, second = parts
    code, said, _ = run(capsys, "featurize", pictures, "--out", out, *NETWORK, "--shards", first)
    words, numbers = mine[first]
    left, missing = mine[second]
    assert code == 0
    assert f"this is part {first}: {words}\n" in said
    assert f"Left: {len(missing)} of 3 shards ({left}). Run the other parts" in said
    assert sorted(int(file.stem[:5]) for file in (out / "shards").glob("*.json")) == numbers

    code, said, _ = run(capsys, "featurize", pictures, "--out", out, *NETWORK, "--shards", second)
    assert code == 0
    assert f"because {left} w" in said, "was or were not finished yet"
    assert f"The store in '{out}' is complete: 11 rows." in said
    assert contents(out) == contents(undivided)


def test_a_part_without_shards_is_fine(pictures, store, capsys):
    remove(store, 1)
    code, said, _ = run(capsys, "featurize", pictures, "--out", store, *NETWORK, "--shards", "9/9")
    assert code == 0
    assert "this is part 9/9: nothing of them" in said
    assert "Left: 1 of 3 shards (shard 1)." in said


def test_each_shard_belongs_to_one_part(pictures, undivided, capsys, monkeypatch):
    taken = []
    everything = tuple(range(3))
    monkeypatch.setattr(featurize, "prepare", lambda _, spec: featurize.Work(tuple(map(spec.shard, everything)), ()))
    monkeypatch.setattr(featurize, "fill_shard", lambda store, spec, compute: taken.append(spec.shard.number) or 0)
    for part in range(1, 6):
        code, *_ = run(capsys, "featurize", pictures, "--out", undivided, *NETWORK, "--shards", f"{part}/5")
        assert code == 0
    assert sorted(taken) == [0, 1, 2]


def test_shards_that_another_process_made_in_the_meantime_are_not_counted(pictures, store, capsys, monkeypatch):
    remove(store, 0, 1)
    fill = featurize.fill_shard
    monkeypatch.setattr(featurize, "fill_shard", lambda *arguments: fill(*arguments) and fill(*arguments))
    code, said, _ = run(capsys, "featurize", pictures, "--out", store, *NETWORK)
    assert code == 0
    assert "2 of 3 shards" in said
    assert "Computed" not in said
    assert "is complete" in said


def test_two_different_jobs_in_one_folder_are_told_apart(pictures, store, capsys, monkeypatch):
    remove(store, 0)
    foreign = spec_module.StoreSpec({"graph": "other"}, {"x": (1,)}, "float32", ["a"], torch.zeros(2, dtype=torch.long))

    def interfere(folder, spec, compute):
        (folder / "spec.json").write_bytes(foreign.layout.to_bytes())
        return True

    monkeypatch.setattr(featurize, "fill_shard", interfere)
    code, _, complaint = run(capsys, "featurize", pictures, "--out", store, *NETWORK)
    assert code == 1
    assert f"Another process writes other features into '{store}'." in complaint


def test_ctrl_c_ends_quietly_and_the_next_run_goes_on(pictures, undivided, tmp_path, capsys, monkeypatch):
    fill, out = featurize.fill_shard, tmp_path / "store"

    def interrupted(folder, spec, compute):
        if spec.shard.number == 1:
            signal.raise_signal(signal.SIGINT)
        return fill(folder, spec, compute)

    with monkeypatch.context() as patch:
        patch.setattr(featurize, "fill_shard", interrupted)
        code, said, complaint = run(capsys, "featurize", pictures, "--out", out, *NETWORK)
    assert code == 130
    assert complaint.endswith("\nStopped. Run the same command again to go on.\n")
    assert "Traceback" not in complaint

    code, said, _ = run(capsys, "featurize", pictures, "--out", out, *NETWORK)
    assert code == 0
    assert "2 of 3 shards" in said
    assert "because shards 1 to 2 were not finished yet" in said
    assert contents(out) == contents(undivided)


def test_a_broken_picture_stops_it_or_is_left_out(pictures, tmp_path, capsys):
    folder, out = shutil.copytree(pictures, tmp_path / "pictures"), tmp_path / "store"
    (folder / "rose" / "torn.jpg").write_bytes(b"no picture")
    code, _, complaint = run(capsys, "featurize", folder, "--out", out, *NETWORK)
    assert code == 1
    assert "1 of 12 pictures" in complaint
    assert "rose/torn.jpg: no picture in a format that Pillow knows" in complaint.replace(os.sep, "/")

    code, said, complaint = run(capsys, "featurize", folder, "--out", out, *NETWORK, "--on-bad", "skip")
    assert code == 0
    assert f"Left out: {folder / 'rose' / 'torn.jpg'}: no picture" in complaint
    assert "11 in 3 classes" in said
    assert len(tl.FeatureStore(out)) == ROWS


def test_random_weights_are_the_same_each_time_and_leave_other_random_numbers_alone(pictures, store, capsys):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    _, said, _ = run(capsys, "featurize", pictures, "--out", store, *NETWORK)
    assert "nothing: every shard is there" in said
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("inside", [".", "features", "daisy/features"])
def test_a_store_among_the_pictures_is_refused(inside, pictures, capsys):
    code, _, complaint = run(capsys, "featurize", pictures, "--out", pictures / inside, *NETWORK)
    assert code == 1
    assert "would lie among the pictures" in complaint
    assert sorted(path.name for path in pictures.iterdir()) == sorted(CLASSES)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--backbone", "vgg61"], "The zoo has no network 'vgg61'. Did you mean 'vgg19', 'vgg16' or 'vgg13'?"),
        (["--backbone", "timm/test_resnets"], "Did you mean 'timm/test_resnet'"),
        ([*NETWORK, "--boundary", "flaten"], "This network has no vertex 'flaten'. Did you mean 'flatten'?"),
        ([*NETWORK[:2], "--weights", "absent.pth"], "There is no weights file absent.pth."),
        ([*NETWORK, "--device", "tpu"], "'tpu' is no device. Use 'auto', 'cpu', 'cuda'"),
        ([*NETWORK, "--device", "cuda:77"], "this machine has no such device"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_1(options, sentence, pictures, tmp_path, capsys):
    code, _, complaint = run(capsys, "featurize", pictures, "--out", tmp_path / "store", *options)
    assert code == 1
    assert complaint.startswith("python -m tlkit featurize: ")
    assert sentence in complaint
    assert complaint.count("\n") == 1
    assert not (tmp_path / "store").exists()


def test_a_mistaken_folder_is_found_before_weights_are_fetched(tmp_path, pictures, capsys, monkeypatch):
    monkeypatch.setattr(tl.zoo, "load", lambda *arguments: pytest.fail("it fetched weights"))
    code, _, complaint = run(capsys, "featurize", tmp_path / "absent", "--out", tmp_path / "store")
    assert code == 1
    assert "There is no source of images" in complaint
    folder = shutil.copytree(pictures, tmp_path / "pictures")
    (folder / "empty").mkdir()
    code, _, complaint = run(capsys, "featurize", folder, "--out", tmp_path / "store")
    assert code == 1
    assert "Class 'empty' has no pictures" in complaint


# -- how it is called -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["featurise"], "there is no command 'featurise', only 'featurize', 'verify', 'info', 'fetch', 'serve' and"),
        (["featurize", "pictures"], "the following arguments are required: --out"),
        (["featurize", "pictures", "--out", "x", "--engine", "onyx"], "invalid choice: 'onyx'"),
        (["featurize", "pictures", "--out", "x", "--dtype", "int8"], "invalid choice: 'int8'"),
        (["featurize", "pictures", "--out", "x", "--shards", "0/3"], "'0/3' is no part of a whole"),
        (["featurize", "pictures", "--out", "x", "--shards", "4/3"], "'4/3' is no part of a whole"),
        (["featurize", "pictures", "--out", "x", "--shards", "1-3"], "the second of eight is 2/8"),
        (["featurize", "pictures", "--out", "x", "--batch-size", "0"], "'0' is no number of pictures: 1 at least."),
        (["verify"], "the following arguments are required: STORE"),
        (["doctor", "--jsn"], "unrecognized arguments: --jsn"),
    ],
)
def test_wrong_usage_is_exit_code_2(words, sentence, capsys):
    code, said, complaint = run(capsys, *words)
    assert (code, said) == (2, "")
    assert complaint.startswith("usage: python -m tlkit")
    assert sentence in complaint


def test_alone_it_prints_its_help_and_with_version_its_version(capsys):
    code, said, complaint = run(capsys)
    assert (code, complaint) == (0, "")
    assert said.startswith("usage: python -m tlkit")
    assert all(f"    {name}" in said for name in parser.COMMANDS)
    assert run(capsys, "--version") == (0, f"tlkit {tl.__version__}\n", "")


def test_its_choices_are_those_of_the_library():
    assert parser.ENGINES == engines.ENGINES
    assert parser.DTYPES == spec_module.DTYPES


def test_a_mistake_of_ours_keeps_its_traceback(undivided, monkeypatch):
    monkeypatch.setattr(info, "facts", lambda folder: {}["absent"])
    with pytest.raises(KeyError):
        main(["info", str(undivided)])


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(28, "No space left on device", "/x"), "No space left on device: '/x'"),
        (OSError(13, "Permission denied"), "Permission denied"),
        (MemoryError(), "There is not enough memory. A smaller --batch-size takes less."),
        (torch.OutOfMemoryError("CUDA out of memory ..."), "There is not enough memory. A smaller --batch-size"),
        (ValueError(), "ValueError"),
    ],
)
def test_errors_are_told_without_numbers_and_tracebacks(error, sentence, undivided, capsys, monkeypatch):
    def fail(folder):
        raise error

    monkeypatch.setattr(info, "facts", fail)
    code, said, complaint = run(capsys, "info", undivided)
    assert (code, said) == (1, "")
    assert complaint.startswith(f"python -m tlkit info: {sentence}")


def test_warnings_are_lines_without_code(undivided, capsys, monkeypatch):
    def warn(folder):
        import warnings

        warnings.warn("slower than it could be", stacklevel=1)
        return facts(folder)

    facts = info.facts
    monkeypatch.setattr(info, "facts", warn)
    assert run(capsys, "info", undivided)[2] == "Warning: slower than it could be\n"


def test_names_that_no_encoding_has_can_be_said(capsys):
    output.say("caf\udce9")
    assert capsys.readouterr().out == "caf\\udce9\n"


def test_a_reader_that_has_gone_is_no_error(undivided):
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run([sys.executable, "-m", "tlkit", "info", undivided], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_help_and_mistakes_are_answered_without_loading_torch():
    code = "import sys; from tlkit.commands import main; main([]); assert not {'torch', 'numpy'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


# -- verify ---------------------------------------------------------------------------------------------------------


def test_verify_finds_a_store_right(undivided, capsys):
    code, said, _ = run(capsys, "verify", undivided)
    assert code == 0
    assert said == f"The store in '{undivided}' is right: 11 rows in 3 shards, every byte as it was written.\n"


def test_verify_names_every_wrong_shard_in_a_line(store, capsys):
    flip(store, 0)
    remove(store, 2)
    code, said, complaint = run(capsys, "verify", store)
    assert code == 1
    first, second = said.splitlines()
    assert first.startswith(f"Shard 0 is damaged: the bytes of {shard_file(store, 0).name} have changed")
    assert second == "Shard 2 is missing."
    assert "2 of 3 shards not right. Featurize again with the same settings" in complaint


def test_verify_says_what_the_open_store_says(store, capsys):
    opened = tl.FeatureStore(store)
    record = shard_file(store, 1, "json")
    record.write_text(record.read_text().replace('"daisy/', '"weed/', 1))
    code, said, _ = run(capsys, "verify", store)
    assert code == 1
    assert said.splitlines() == opened.verify()
    assert said


def test_where_there_is_no_store_there_is_one_sentence(tmp_path, capsys):
    for command in ("verify", "info"):
        code, said, complaint = run(capsys, command, tmp_path)
        assert (code, said) == (1, "")
        assert complaint.startswith(f"python -m tlkit {command}: There is no feature store in '{tmp_path}'.")


# -- info -----------------------------------------------------------------------------------------------------------


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
    assert found["engines"] == {f"torch {torch.__version__}": 3}
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
    assert f"by torch {torch.__version__} (3 shards)" in lines["computed"]
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


# -- doctor ---------------------------------------------------------------------------------------------------------


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


def test_doctor_sees_the_limits_of_an_older_container(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "CONTROL_GROUPS", tmp_path)
    for folder in ("cpu", "memory"):
        (tmp_path / folder).mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("25000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")  # none
    assert machine.cores()["usable"] == 0.25
    assert machine.memory_facts()["container_limit"] is None
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    assert machine.cores()["usable"] >= 1


def test_doctor_does_not_tell_passwords(monkeypatch):
    monkeypatch.setenv("TLKIT_MIRROR", "https://me:secret@school.example/files")
    assert machine.settings()["TLKIT_MIRROR"] == "https://...@school.example/files"


def test_packages_that_are_absent_or_too_old_are_missing(monkeypatch):
    lines = ["numpy>=1", "pillow>=99", "nowhere>=2; extra == 'notebooks'", "other; extra == 'test'", "tlkit[notebooks]"]
    monkeypatch.setattr(machine, "requires", lambda name: lines)
    old = {"pillow>=99": version("pillow")}
    assert machine.missing() == old
    assert machine.missing("notebooks") == old | {"nowhere>=2": None}


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
