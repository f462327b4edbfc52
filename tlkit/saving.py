"""Saving and loading networks: one safetensors file with a recipe in JSON, nothing that can run code."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from tlkit.builder import TransferLearning
from tlkit.files.publishing import published
from tlkit.files.weights import copied_out, mapped, pieces, write_weights
from tlkit.graph.network import Network
from tlkit.images.preprocessing import Preprocessing
from tlkit.training.optimizers import STATE, Optimizers, join_state, part_state

__all__ = ["load", "save"]

FORMAT = 1


def save(net: Network, path: str | os.PathLike[str], *, updater_state: bool = False) -> Path:
    """Write a network to one file; an older file at `path` is replaced as a whole or not at all.

    The file holds the weights by vertex name, where the structure came from and how it was edited, the frozen marks,
    class names, preprocessing, seed and epochs seen. docs/save-format.md describes it.

    Parameters
    ----------
    net : Network
    path : path
    updater_state : bool
        Whether to store what the updaters remember too (Adam: two numbers for each trained weight), so that training
        goes on after `load` as if it had not been interrupted.

    Raises
    ------
    ValueError
        When a vertex was added as a module object, whose structure plain data cannot describe.
    OSError
        When the file cannot be written; an older one is still there.
    """
    path = Path(path).expanduser()
    recipe = net.recipe or {"source": {"module": "a network built by hand"}, "edits": []}
    for edit in (edit for edits in recipe["edits"] for edit in edits):
        if "unsaved" in edit:
            msg = (
                f"'{edit['name']}' was added as an object of {edit['unsaved']}, whose structure cannot be stored as "
                "data. Add it as a description (tl.Dense, tl.Conv2d, ...), or save net.state_dict() yourself."
            )
            raise ValueError(msg)
    values = net.state_dict(keep_vars=True)
    weights = {name: values[name].detach().cpu().contiguous() for name in dict.fromkeys(_owners(values).values())}
    header = {
        "format": FORMAT,
        "recipe": recipe,
        "frozen": {name: name in net.passing for name in sorted(net.frozen)},
        "classes": list(net.classes),
        "preprocessing": net.preprocessing.to_dict() if net.preprocessing else None,
        "seed": net.seed,
        "epochs_seen": net.epochs_seen,
    }
    if updater_state and net.optimizers is not None:
        header["updater_state"], tensors = part_state(net.optimizers.state())
        weights |= tensors
    header["crc32"] = _crc32(header, weights)
    _publish(weights, {"tlkit": json.dumps(header)}, path)
    return path


def load(path: str | os.PathLike[str], source: Network | None = None, *, frozen: bool = True) -> Network:
    """Read a network that `save` wrote.

    Parameters
    ----------
    path : path
        The file.
    source : Network, optional
        The network that the saved one was built from; needed only when that was the reader's own module. It is left
        alone, and only its structure matters.
    frozen : bool
        Whether to bring back the frozen marks; False gives a wholly trainable network, as DL4J documents it.

    Raises
    ------
    FileNotFoundError, ValueError
        When there is no such file, or it is damaged or of another kind.
    """
    path = Path(path).expanduser()
    header, tensors = _read(path)
    weights = {name: value for name, value in tensors.items() if not name.startswith(STATE)}
    # on shapes alone where that can be done, so that the weights are in memory once
    net = _rebuild(header, source, path, "meta" if source is None else "cpu")
    if any(value.is_meta and name not in weights for name, value in net.named_buffers()):
        net = _rebuild(header, source, path, "cpu")  # buffers that no file holds need their computed values
    _fill(net, weights, path)
    net.classes = tuple(header["classes"])
    net.preprocessing = Preprocessing.from_dict(header["preprocessing"]) if header["preprocessing"] else None
    net.seed, net.epochs_seen = header["seed"], header["epochs_seen"]
    net.recipe = header["recipe"]
    net.freeze_exactly(header["frozen"] if frozen else {})
    if "updater_state" in header:
        Optimizers.of(net).restore(join_state(header["updater_state"], tensors))
    return net.eval()


def _rebuild(header: dict[str, Any], source: Network | None, path: Path, device: str) -> Network:
    from tlkit import zoo

    recipe = header["recipe"]
    with torch.device(device):
        if source is not None:
            source = TransferLearning(source).build()
        elif "zoo" in recipe["source"]:
            source = zoo.load(recipe["source"]["zoo"], weights=None, granularity=recipe["source"]["granularity"])
        else:
            msg = (
                f"{path} was built from {recipe['source']['module']}, which the file cannot rebuild. Give the network "
                "it started from: tl.load(path, source=tl.Network.from_module(module))."
            )
            raise ValueError(msg)
        for edits in recipe["edits"]:
            source = TransferLearning.replay(source, edits)
    return source


def _fill(net: Network, weights: dict[str, Tensor], path: Path) -> None:
    """Put weights in place of the network's own, each once even if several vertices share it."""
    values = net.state_dict(keep_vars=True)
    owners = _owners(values)
    missing, unexpected = set(owners.values()) - set(weights), set(weights) - set(owners.values())
    if missing or unexpected:
        msg = (
            f"{path} does not fit the network it describes: missing {sorted(missing)}, unexpected {sorted(unexpected)}."
        )
        raise ValueError(msg)
    ready = {
        name: nn.Parameter(value, requires_grad=False) if isinstance(values[name], nn.Parameter) else value
        for name, value in weights.items()
    }
    try:
        net.load_state_dict({name: ready[owner] for name, owner in owners.items()}, assign=True)
    except RuntimeError as error:
        msg = f"{path} does not fit the network it describes: {error}"
        raise ValueError(msg) from error


def _owners(values: dict[str, Tensor]) -> dict[str, str]:
    """Return for each name the first one of the same weight."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(value), name) for name, value in values.items()}


def _crc32(header: dict[str, Any], weights: dict[str, Tensor]) -> int:
    checksum = zlib.crc32(json.dumps(header).encode())
    for name, value in sorted(weights.items()):
        checksum = zlib.crc32(f"{name} {value.dtype} {tuple(value.shape)}".encode(), checksum)
        for piece in pieces(value):
            checksum = zlib.crc32(piece, checksum)
    return checksum


def _publish(weights: dict[str, Tensor], metadata: dict[str, str], path: Path) -> None:
    """Write a file so that a reader sees the old one or the whole new one, even after a power cut."""
    with published(path, "network.tlk") as temporary:
        try:
            write_weights(weights, temporary, metadata)
        except OSError as error:
            msg = f"{path} cannot be written: {error}. An older file of this name is still there."
            raise OSError(msg) from error


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        msg = f"There is no file {path}. tl.save(net, path) writes one."
        raise FileNotFoundError(msg)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        msg = f"{path} is damaged or no file of tl.save: {error}."
        raise ValueError(msg) from error
    if "tlkit" not in metadata:
        msg = f"{path} is a safetensors file, but not one of tl.save. Plain weights: tl.zoo.load(name, weights=path)."
        raise ValueError(msg)
    try:
        header = json.loads(metadata["tlkit"])
        newer = header["format"] > FORMAT
    except (ValueError, KeyError, TypeError):
        header, newer = {}, False
    if newer:
        msg = f"{path} has format {header['format']}; this version of tlkit reads up to {FORMAT}. Update tlkit."
        raise ValueError(msg)
    weights = copied_out(lambda: mapped(path))  # so that the file can be replaced while the network lives
    if header.pop("crc32", None) != _crc32(header, weights):
        msg = f"{path} is damaged: it does not hold what was saved. Copy or save it again."
        raise ValueError(msg)
    return header, weights
