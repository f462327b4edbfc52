from __future__ import annotations

import json
import socket
import struct

import pytest
import torch
from huggingface_hub import hf_hub_url
from nets import seeded
from safetensors.torch import save_file

import tlkit as tl
from tlkit import zoo
from tlkit.files import timm_weights
from tlkit.files.downloads import DownloadError

NAME = "test_resnet"
REPOSITORY = "timm/test_resnet.r160_in1k"
BY_HAND = "timm-test_resnet.r160_in1k.safetensors"
OWN_PLACE = "gcvit_xxtiny_224_nvidia-d1d86009.pth"  # of timm/gcvit_xxtiny, which is not on the hub


@pytest.fixture(autouse=True)
def _surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TLKIT_OFFLINE", raising=False)


@pytest.fixture
def no_network(monkeypatch):
    """Fails the test when anything asks for a connection."""
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, lambda *arguments: pytest.fail("it asked the network"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: pytest.fail("it asked the network"))


@pytest.fixture
def module():
    import timm

    with seeded(2):
        return timm.create_model(NAME).eval()


def cached(tmp_path, state) -> None:
    """Put weights where the hub's client keeps what it has downloaded."""
    folder = tmp_path / "cache" / f"models--{REPOSITORY.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    save_file(state, folder / "snapshots" / "abc" / "model.safetensors")


def by_hand(tmp_path, state) -> None:
    (tmp_path / "home" / "weights").mkdir(parents=True)
    save_file(state, tmp_path / "home" / "weights" / BY_HAND)


@pytest.mark.slow  # processes of their own
@pytest.mark.parametrize("put", [cached, by_hand])
@pytest.mark.parametrize("offline", ["1", ""])
@pytest.mark.usefixtures("no_network")
def test_weights_that_are_here_are_taken_without_asking_the_network(put, offline, module, tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_OFFLINE", offline)
    put(tmp_path, module.state_dict())
    for name in (f"timm/{NAME}", f"timm/{NAME}.r160_in1k"):
        net = zoo.load(name)
        x = torch.randn(1, *net.input_shapes["x"])
        with torch.no_grad():
            assert torch.equal(net(x), module(x))


def test_a_file_brought_by_hand_comes_before_a_cached_one(module, tmp_path):
    by_hand(tmp_path, module.state_dict())
    cached(tmp_path, {name: torch.zeros_like(value) for name, value in module.state_dict().items()})
    assert timm_weights.load_pretrained(NAME).state_dict()["fc.weight"].equal(module.state_dict()["fc.weight"])


@pytest.mark.usefixtures("no_network")
def test_offline_it_says_at_once_what_is_missing_and_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_OFFLINE", "1")
    with pytest.raises(DownloadError) as caught:
        zoo.load(f"timm/{NAME}")
    text = str(caught.value)
    url = hf_hub_url(REPOSITORY, "model.safetensors")
    assert text.splitlines() == [
        "The weights of timm/test_resnet (about 1.9 MB) could not be fetched:",
        f"  {url}: not tried, since TLKIT_OFFLINE=1",
        f"To bring it by hand, download {url} and save it as {tmp_path / 'home' / 'weights' / BY_HAND}.",
    ]


@pytest.mark.usefixtures("no_network")
def test_offline_a_network_with_an_address_of_its_own_is_told_of_too(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_OFFLINE", "1")
    with pytest.raises(
        DownloadError, match=rf"could not be fetched:\n  https://github\.com/\S+/{OWN_PLACE}: not tried"
    ):
        timm_weights.load_pretrained("gcvit_xxtiny")


@pytest.mark.usefixtures("no_network")
def test_a_file_of_such_a_network_is_found_where_the_sentence_says(tmp_path, monkeypatch):
    import timm

    monkeypatch.setenv("TLKIT_OFFLINE", "1")
    with pytest.raises(DownloadError) as caught:
        timm_weights.load_pretrained("gcvit_xxtiny")
    file = tmp_path / "torch" / "hub" / "checkpoints" / OWN_PLACE
    assert str(caught.value).endswith(f"save it as {file}.")
    file.parent.mkdir(parents=True)
    with seeded(1):
        state = timm.create_model("gcvit_xxtiny").state_dict()
    torch.save(state, file)
    assert timm_weights.load_pretrained("gcvit_xxtiny").state_dict()["head.fc.weight"].equal(state["head.fc.weight"])


def test_a_download_that_fails_is_the_same_sentence(monkeypatch):
    import timm

    def fail(*arguments, **options):
        if options.get("pretrained"):
            raise OSError("cannot reach\nthe hub")
        return create(*arguments, **options)

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(
        DownloadError, match=r"\(about 1\.9 MB\) could not be fetched:\n  http.*: cannot reach the hub\nTo b"
    ):
        zoo.load(f"timm/{NAME}")


@pytest.mark.parametrize("content", ["other", "cut", "text"])
def test_a_file_that_holds_something_else_is_named(content, module, tmp_path):
    by_hand(tmp_path, {"x": torch.zeros(3)} if content == "other" else module.state_dict())
    file = tmp_path / "home" / "weights" / BY_HAND
    if content != "other":
        file.write_bytes(file.read_bytes()[:-9] if content == "cut" else b"<html>Please log in</html>")
    with pytest.raises(ValueError, match=rf"{BY_HAND} is damaged, or holds other weights .* Remove it and try again\."):
        zoo.load(f"timm/{NAME}")


def test_a_file_whose_header_is_absurd_is_named(tmp_path):
    by_hand(tmp_path, {"x": torch.zeros(3)})
    header = json.dumps({"x": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode()
    (tmp_path / "home" / "weights" / BY_HAND).write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ValueError, match="is damaged, or holds other weights"):
        zoo.load(f"timm/{NAME}")


def test_a_network_without_weights_is_said_to_have_none():
    with pytest.raises(ValueError, match=r"timm has no weights for 'seresnet18'.*or weights=None for random ones"):
        zoo.load("timm/seresnet18")


@pytest.mark.usefixtures("no_network")
def test_random_weights_and_own_files_need_no_network(module, tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_OFFLINE", "1")
    tl.zoo.load(f"timm/{NAME}", weights=None)
    save_file(module.state_dict(), tmp_path / "own.safetensors")
    tl.zoo.load(f"timm/{NAME}", weights=tmp_path / "own.safetensors")


@pytest.mark.network
def test_a_real_download_is_used_again_offline(monkeypatch):
    before = zoo.load(f"timm/{NAME}").state_dict()
    monkeypatch.setenv("TLKIT_OFFLINE", "1")
    after = zoo.load(f"timm/{NAME}").state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
