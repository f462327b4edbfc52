from __future__ import annotations

import os
import random
import weakref

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision import models

from tlkit.files import weights
from tlkit.files.copying import copy_module
from tlkit.files.weights import KINDS, fill_module, make_module, read_weights, write_weights

WRITERS = {
    "safetensors": save_file,
    "pth": torch.save,
    "old.pth": lambda tensors, path: torch.save(tensors, path, _use_new_zipfile_serialization=False),
}


def state() -> dict[str, torch.Tensor]:
    return nn.Linear(3, 2).state_dict()


@pytest.mark.parametrize("kind", WRITERS)
def test_weights_of_a_file_are_shared_with_a_copy_until_one_of_the_two_is_changed(tmp_path, kind):
    path = tmp_path / f"weights.{kind}"
    WRITERS[kind]({"weight": torch.randn(20, 30), "bias": torch.randn(20)}, path)
    module = fill_module(lambda: nn.Linear(30, 20), read_weights(path), "a file")
    twin = copy_module(module, {})
    for one, other in zip(module.parameters(), twin.parameters(), strict=True):
        assert torch._C._data_address(one) == torch._C._data_address(other)
        with torch.no_grad():
            other.zero_()
        assert one.abs().min() > 0


@pytest.mark.parametrize("kind", WRITERS)
def test_a_large_file_is_read_in_parts_that_are_let_go(tmp_path, kind, monkeypatch):
    path = tmp_path / f"weights.{kind}"
    expected = {
        "rows": torch.randn(50, 7),
        "one row": torch.randn(1, 90),
        "turned": torch.randn(40, 9).mT if kind != "safetensors" else torch.randn(9, 40),
        "number": torch.tensor(3.0),
        "empty": torch.zeros(0, 4),
        "whole numbers": torch.arange(200),
    }
    WRITERS[kind](expected, path)
    monkeypatch.setattr(weights, "AT_ONCE", 100)
    found = read_weights(path)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert all(value.is_contiguous() and value.dtype == expected[name].dtype for name, value in found.items())


def test_a_file_is_mapped_anew_once_enough_of_it_was_read(monkeypatch):
    monkeypatch.setattr(weights, "AT_ONCE", 100)
    alive = []

    def mapped():
        assert all(reference() is None for reference in alive), "the mapping before is let go"
        tensor = torch.arange(60.0).view(15, 4)
        alive.append(weakref.ref(tensor))
        return {"a": tensor}

    found = weights.copy_out(mapped)
    assert torch.equal(found["a"], torch.arange(60.0).view(15, 4))
    assert len(alive) == 2  # 240 bytes, 96 at a time: a third part would be a second mapping's


def test_a_file_is_closed_once_it_is_read(tmp_path):
    for kind, write in WRITERS.items():
        path = tmp_path / f"weights.{kind}"
        write({"a": torch.zeros(5)}, path)
        found = read_weights(path)["a"]
        write({"a": torch.ones(5)}, path)
        assert (found == 0).all()


def test_weights_saved_as_parameters_come_without_their_history(tmp_path):
    torch.save(dict(nn.Linear(3, 2).named_parameters()), tmp_path / "weights.pth")
    assert all(value.is_leaf for value in read_weights(tmp_path / "weights.pth").values())
    module = fill_module(lambda: nn.Linear(3, 2), read_weights(tmp_path / "weights.pth"), "a file")
    module(torch.ones(1, 3)).sum().backward()
    assert module.weight.grad is not None


def test_what_is_written_is_what_safetensors_reads(tmp_path):
    expected = {
        "z": torch.randn(3, 5),
        "half": torch.randn(3).half(),
        "count": torch.tensor(7),
        "none": torch.zeros(0, 2),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "ü": torch.randn(2).bfloat16(),
    }
    write_weights(expected, tmp_path / "weights.safetensors", {"format": "pt"})
    found = load_file(tmp_path / "weights.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in expected.items())


@pytest.mark.parametrize("dtype", KINDS, ids=str)
def test_every_number_type_comes_back_from_what_safetensors_itself_reads(tmp_path, dtype):
    expected = torch.tensor([[0, 1], [1, 0], [1, 1]]).to(dtype)
    write_weights({"weight": expected}, tmp_path / "weights.safetensors", {})
    found = load_file(tmp_path / "weights.safetensors")["weight"]
    assert found.dtype == dtype
    assert torch.equal(found, expected)


def test_a_number_type_without_a_name_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"'weight' holds numbers of torch.complex128, which cannot be saved"):
        write_weights({"weight": torch.zeros(2, dtype=torch.complex128)}, tmp_path / "weights.safetensors", {})
    assert not list(tmp_path.iterdir())


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("kind", [*WRITERS, "pt"])
def test_weights_come_back_as_they_were_written(tmp_path, kind):
    path, expected = tmp_path / f"weights.{kind}", state()
    WRITERS.get(kind, torch.save)(expected, path)
    found = read_weights(path)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_lie_in_memory_as_torch_would_put_them(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    expected = {"a": torch.randn(3), "b": torch.randn(5, 7), "c": torch.randn(4, 4)}
    if suffix == ".pth":
        expected = {name: value.mT if value.ndim > 1 else value for name, value in expected.items()}
    (save_file if suffix == ".safetensors" else torch.save)(expected, path)
    for name, value in read_weights(path).items():
        assert torch.equal(value, expected[name])
        assert value.is_contiguous()
        assert value.data_ptr() % 64 == 0


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_code_in_a_file_is_not_run(tmp_path, nested, zipped):
    path, trace = tmp_path / "bomb.pth", tmp_path / "exploded"
    bomb = Bomb(trace)
    torch.save({**state(), "bias": bomb} if nested else bomb, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"bomb\.pth holds more than tensors \(\w+\.system\).*was not read") as caught:
        read_weights(path)
    assert not trace.exists()
    assert "weights_only" not in str(caught.value)  # torch's own words recommend to load without this guard
    torch.load(path, weights_only=False)
    assert trace.exists()  # the bomb is a real one


def test_a_whole_pickled_module_is_refused_with_a_way_out(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "model.pth")
    with pytest.raises(
        ValueError, match=r"more than tensors \(torch\.nn.*Linear\).*torch\.save\(model\.state_dict\(\)"
    ):
        read_weights(tmp_path / "model.pth")


@pytest.mark.parametrize("name", ["junk.pth", "junk.safetensors", "empty.pth", "empty.safetensors"])
def test_damaged_files_are_named(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"" if "empty" in name else random.Random(1).randbytes(1000))
    with pytest.raises(ValueError, match=f"{name} is damaged or no"):
        read_weights(path)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_a_truncated_file_is_damaged(tmp_path, name):
    path = tmp_path / name
    (torch.save if name.endswith("pth") else save_file)({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"is damaged or no"):
        read_weights(path)


def test_a_missing_file_says_what_weights_can_be(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no weights file .*'imagenet', None or the path"):
        read_weights(tmp_path / "imagenet1k")


@pytest.mark.parametrize(
    ("value", "held"),
    [
        ({"epoch": 3, "state_dict": state()}, "a dictionary of 'epoch' and 'state_dict'"),
        ([torch.zeros(1)], "list"),
        (torch.zeros(1), "Tensor"),
        ({}, "a dictionary of "),
    ],
)
def test_a_file_of_something_else_says_what_it_holds(tmp_path, value, held):
    torch.save(value, tmp_path / "checkpoint.pth")
    with pytest.raises(ValueError, match=rf"holds {held}, not weights by name\. Save model\.state_dict\(\) alone"):
        read_weights(tmp_path / "checkpoint.pth")


def test_a_module_is_filled_without_a_second_copy():
    given = state()
    module = fill_module(lambda: nn.Linear(3, 2), given, "a file")
    assert module.weight.data_ptr() == given["weight"].data_ptr()
    assert module.weight.requires_grad


def test_buffers_that_no_file_holds_are_computed():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)
            self.register_buffer("position", torch.arange(5), persistent=False)

    module = fill_module(Positions, {f"layer.{name}": value for name, value in state().items()}, "a file")
    assert torch.equal(module.position, torch.arange(5))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s.pop("bias"), r"a file do not fit Linear: 1 tensor is missing, such as 'bias'\.$"),
        (lambda s: s.update(extra=torch.zeros(1)), r"1 tensor is unexpected, such as 'extra'\.$"),
        (lambda s: s.update(weight=torch.zeros(2, 4)),
         r"1 has another shape, such as 'weight': \(2, 4\), expected \(2, 3\)\.$"),
    ],
)  # fmt: skip
def test_weights_of_another_architecture_are_named_in_one_sentence(change, sentence):
    given = state()
    change(given)
    with pytest.raises(ValueError, match=sentence):
        fill_module(lambda: nn.Linear(3, 2), given, "a file")


def test_files_from_before_batches_were_counted_fit():
    given = {name: value for name, value in nn.BatchNorm1d(3).state_dict().items() if "tracked" not in name}
    module = fill_module(lambda: nn.BatchNorm1d(3), given, "a file")
    assert int(module.num_batches_tracked) == 0
    assert not module.num_batches_tracked.is_meta


@pytest.mark.slow
def test_densenets_old_names_are_understood(tmp_path):
    with torch.device("meta"):
        names = models.densenet121().state_dict()
    old = {}
    for name, value in names.items():
        for part in ("norm1", "conv1", "norm2", "conv2"):
            if "denselayer" in name:
                name = name.replace(f".{part}.", f".{part[:-1]}.{part[-1]}.")
        old[name] = torch.zeros(1).expand(value.shape[:1] or (1,)).clone()
    assert old.keys() != names.keys()
    torch.save(old, tmp_path / "densenet.pth")
    assert read_weights(tmp_path / "densenet.pth").keys() == names.keys()


def test_a_constructor_that_computes_is_made_without_values_too():
    before = torch.random.get_rng_state()
    with torch.device("meta"):
        module = make_module(models.regnet_y_400mf)
    assert all(value.is_meta for value in module.parameters())
    assert torch.equal(torch.random.get_rng_state(), before)  # nothing was drawn for weights without values
    assert not any(value.is_meta for value in make_module(lambda: nn.Linear(2, 2)).parameters())


def test_a_header_nested_without_end_is_a_sentence(tmp_path):
    text = b'{"a":' * 200_000
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(ValueError, match="is damaged or no safetensors file"):
        read_weights(tmp_path / "x.safetensors")


def test_names_in_a_file_cannot_steer_the_terminal(tmp_path):
    with pytest.raises(ValueError, match="do not fit") as caught:
        fill_module(lambda: nn.Linear(1, 1, bias=False), {"\x1b[31m\n": torch.zeros(1)}, "x.pth")
    assert r"such as '\x1b[31m\n'" in str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_looping_link_is_a_sentence(tmp_path):
    (tmp_path / "x.pth").symlink_to("x.pth")
    with pytest.raises(FileNotFoundError, match=r"There is no weights file .*x\.pth"):
        read_weights(tmp_path / "x.pth")
