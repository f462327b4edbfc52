"""Saving and loading networks: one safetensors file with a recipe in JSON, nothing that can run code."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from tlkit.builder import TransferLearning
from tlkit.graph import Network
from tlkit.preprocessing import Preprocessing

__all__ = ["load", "save"]

FORMAT = 1


def save(net: Network, path: str | os.PathLike[str]) -> Path:
    """Write a network to one file; an older file at `path` is replaced as a whole or not at all.

    The file holds the weights by vertex name, where the structure came from and how it was edited, the frozen marks,
    class names, preprocessing and seed.

    Raises
    ------
    ValueError
        When a vertex was added as a module object, whose structure plain data cannot describe.
    """
    path = Path(path)
    recipe = net.recipe or {"source": {"module": "a network built by hand"}, "edits": []}
    for edit in (edit for edits in recipe["edits"] for edit in edits):
        if "unsaved" in edit:
            msg = (
                f"'{edit['name']}' was added as an object of {edit['unsaved']}, whose structure cannot be stored as "
                "data. Add it as a description (tl.Dense, tl.Conv2d, ...), or save net.state_dict() yourself."
            )
            raise ValueError(msg)
    header = {
        "format": FORMAT,
        "recipe": recipe,
        "frozen": {name: name in net.passing for name in sorted(net.frozen)},
        "classes": list(net.classes),
        "preprocessing": net.preprocessing.to_dict() if net.preprocessing else None,
        "seed": net.seed,
    }
    _publish(to_bytes(_unshared(net.state_dict()), {"tlkit": json.dumps(header)}), path)
    return path


def load(path: str | os.PathLike[str], source: Network | None = None, *, frozen: bool = True) -> Network:
    """Read a network that `save` wrote.

    Parameters
    ----------
    path : path
        The file.
    source : Network, optional
        The network that the saved one was built from; needed only when that was the reader's own module.
    frozen : bool
        Whether to bring back the frozen marks; False gives a wholly trainable network, as DL4J documents it.

    Raises
    ------
    FileNotFoundError, ValueError
        When there is no such file, or it is damaged or of another kind.
    """
    path = Path(path)
    header, state = _read(path)
    # first on shapes alone, so that the weights are in memory once
    with torch.device("meta"):
        net = _rebuild(header, source, path)
    if any(name not in state for name, value in net.named_buffers() if value.is_meta):
        net = _rebuild(header, source, path)
    missing, unexpected = net.load_state_dict(state, strict=False, assign=True)
    aliases = set(net.state_dict()) - set(_unshared(net.state_dict()))
    if unexpected or set(missing) - aliases - {name for name in missing if not _is_meta(net, name)}:
        msg = (
            f"{path} does not fit the network it describes: missing {sorted(missing)}, unexpected {sorted(unexpected)}."
        )
        raise ValueError(msg)
    net.classes = tuple(header["classes"])
    net.preprocessing = Preprocessing.from_dict(header["preprocessing"]) if header["preprocessing"] else None
    net.seed = header["seed"]
    net._set_frozen(header["frozen"] if frozen else {})
    return net.eval()


def _rebuild(header: dict[str, Any], source: Network | None, path: Path) -> Network:
    from tlkit import zoo

    recipe = header["recipe"]
    if source is None:
        if "zoo" not in recipe["source"]:
            msg = (
                f"{path} was built from {recipe['source']['module']}, which the file cannot rebuild. Give the network "
                "it started from: tl.load(path, source=tl.Network.from_module(module))."
            )
            raise ValueError(msg)
        source = zoo.load(recipe["source"]["zoo"], weights=None, granularity=recipe["source"]["granularity"])
    for edits in recipe["edits"]:
        source = TransferLearning.replay(source, edits)
    return source


def _is_meta(net: Network, name: str) -> bool:
    return net.state_dict()[name].is_meta


def _unshared(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous tensors, each weight once even if several vertices share it."""
    owners: dict[tuple[Any, ...], str] = {}
    for name, value in state.items():
        key = (id(value),) if value.is_meta else (value.data_ptr(), value.shape, value.stride())
        owners.setdefault(key if value.numel() else (name,), name)
    return {name: state[name].contiguous() for name in owners.values()}


def _publish(data: bytes, path: Path) -> None:
    """Put bytes in place of a file at once: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        msg = f"There is no file {path}. tl.save(net, path) writes one."
        raise FileNotFoundError(msg)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        msg = f"{path} is damaged or no file of tl.save: {error}."
        raise ValueError(msg) from error
    if "tlkit" not in metadata:
        msg = f"{path} is a safetensors file, but not one of tl.save. Plain weights: tl.zoo.load(name, weights=path)."
        raise ValueError(msg)
    header = json.loads(metadata["tlkit"])
    if header["format"] > FORMAT:
        msg = f"{path} has format {header['format']}; this version of tlkit reads up to {FORMAT}. Update tlkit."
        raise ValueError(msg)
    return header, state
