import os
import shutil
import signal
from collections import namedtuple

import pytest
import torch
from command_line import CLASSES, NETWORK, ROWS, THREADS, contents, flip, remove, run, shard_file

import tlkit as tl
from tlkit.commands import featurize
from tlkit.features import spec as spec_module


@pytest.mark.slow
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


@pytest.mark.slow
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
    assert f"by torch {torch.__version__}, {THREADS}." in said
    assert "7/7" in complaint, "the progress of what is to be done, on stderr"
    assert shard_file(store, 1).stat().st_mtime_ns == kept
    assert contents(store) == contents(undivided)


@pytest.mark.slow
def test_a_changed_setting_is_named(pictures, store, capsys):
    code, said, _ = run(capsys, "featurize", pictures, "--out", store, *NETWORK, "--dtype", "bfloat16")
    assert code == 0
    assert "because dtype float32 -> bfloat16" in said
    assert tl.FeatureStore(store).dtype == torch.bfloat16


def test_another_boundary_and_batch_size_are_taken(pictures, tmp_path, capsys):
    options = ["--out", tmp_path / "store", *NETWORK, "--boundary", "layer3_0", "--batch-size", "3"]
    assert run(capsys, "featurize", pictures, *options)[0] == 0
    assert list(tl.FeatureStore(tmp_path / "store").shapes) == ["layer3_0"]


@pytest.mark.slow
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


@pytest.mark.slow
def test_each_shard_belongs_to_one_part(pictures, undivided, capsys, monkeypatch):
    taken = []
    everything = tuple(range(3))
    monkeypatch.setattr(featurize, "prepare", lambda _, spec: featurize.Work(tuple(map(spec.shard, everything)), ()))
    monkeypatch.setattr(featurize, "fill_shard", lambda store, spec, compute: taken.append(spec.shard.number) or 0)
    for part in range(1, 6):
        code, *_ = run(capsys, "featurize", pictures, "--out", undivided, *NETWORK, "--shards", f"{part}/5")
        assert code == 0
    assert sorted(taken) == [0, 1, 2]


@pytest.mark.slow
def test_shards_that_another_process_made_in_the_meantime_are_not_counted(pictures, store, capsys, monkeypatch):
    remove(store, 0, 1)
    fill = featurize.fill_shard
    monkeypatch.setattr(featurize, "fill_shard", lambda *arguments: fill(*arguments) and fill(*arguments))
    code, said, _ = run(capsys, "featurize", pictures, "--out", store, *NETWORK)
    assert code == 0
    assert "2 of 3 shards" in said
    assert "Computed" not in said
    assert "is complete" in said


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize(("number", "words"), [(signal.SIGINT, "Stopped."), (signal.SIGTERM, "Stopped by SIGTERM.")])
def test_a_signal_ends_quietly_and_the_next_run_goes_on(
    number, words, pictures, undivided, tmp_path, capsys, monkeypatch
):
    fill, out = featurize.fill_shard, tmp_path / "store"

    def interrupted(folder, spec, compute):
        if spec.shard.number == 1:
            signal.raise_signal(number)
        return fill(folder, spec, compute)

    with monkeypatch.context() as patch:
        patch.setattr(featurize, "fill_shard", interrupted)
        code, said, complaint = run(capsys, "featurize", pictures, "--out", out, *NETWORK)
    assert code == 128 + number
    assert complaint.endswith(f"\n{words} Run the same command again to go on.\n")
    assert "Traceback" not in complaint

    code, said, _ = run(capsys, "featurize", pictures, "--out", out, *NETWORK)
    assert code == 0
    assert "2 of 3 shards" in said
    assert "because shards 1 to 2 were not finished yet" in said
    assert contents(out) == contents(undivided)


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="such names cannot be made there")
def test_names_of_classes_and_files_cannot_steer_the_terminal(pictures, tmp_path, capsys):
    folder = shutil.copytree(pictures, tmp_path / "pictures")
    (folder / "rose").rename(folder / "ro\x1b[31m\nse\u202e")
    (folder / "daisy" / "to\x1b]0;rn\n.jpg").write_bytes(b"no picture")
    out = tmp_path / "store"
    code, said, complaint = run(capsys, "featurize", folder, "--out", out, *NETWORK, "--on-bad", "skip")
    assert code == 0
    assert r"daisy 5, ro\x1b[31m\nse\u202e 4, tulip 2" in said
    assert r"to\x1b]0;rn\n.jpg: no picture" in complaint
    (folder / "daisy" / "to\x1b]0;rn\n.jpg").unlink()
    assert r"ro\x1b[31m\nse\u202e 4" in run(capsys, "info", out)[1]
    assert not {"\x1b", "\u202e"} & set(said + complaint)
