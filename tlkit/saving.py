"""Saving and loading networks: one safetensors file with a recipe in JSON, nothing that can run code."""

from __future__ import annotations

import contextlib
import json
import os
import re
import zlib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from tlkit.builder import TransferLearning
from tlkit.errors import near_misses, quoted, sentence
from tlkit.files.publishing import publish
from tlkit.files.weights import copy_out, list_misfits, map_tensors, split_bytes, write_weights
from tlkit.graph.network import Network, has_learned_statistics
from tlkit.graph.shapes import copy_on_meta
from tlkit.images.preprocessing import Preprocessing
from tlkit.training.optimizers import STATE, Optimizers, join_state, part_state

__all__ = ["load", "save"]

FORMAT = 1
BUILDS, EDITS = 200, 2000  # most that a file may ask for: each takes time


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
        When a vertex was added as a module object, whose structure plain data cannot describe, or the network is the
        result of more than 200 builds or 2,000 edits.
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
    _check_recipe(recipe, f"The network cannot be saved in {path}")
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
        "versions": _versions(),
    }
    if updater_state and net.optimizers is not None:
        header["fresh"] = sorted(net.fresh)
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
    with _explained(path):
        _check_header(header)
        weights = {name: value for name, value in tensors.items() if not name.startswith(STATE)}
        net = _rebuild_around(weights, header, source, path)
        net.classes = tuple(header["classes"])
        net.preprocessing = Preprocessing.from_dict(header["preprocessing"]) if header["preprocessing"] else None
        net.seed, net.epochs_seen = header["seed"], header["epochs_seen"]
        net.recipe = header["recipe"]
        net.freeze_exactly({net.resolve(name): passes for name, passes in header["frozen"].items()} if frozen else {})
        _mark_learned(net, header)
        if "updater_state" in header:
            _restore_updaters(net, join_state(header["updater_state"], tensors))
    return net.eval()


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn whatever a file from a stranger makes go wrong into a sentence that names the file."""
    try:
        yield
    except (OSError, ImportError, MemoryError):
        raise
    except Exception as error:
        why = sentence(error)
        if not why.endswith("."):  # Python's own words
            why = f"{type(error).__name__}, {why}."
        msg = why if why.startswith(str(path)) else f"{path} cannot be made a network again: {why}"
        raise ValueError(msg) from error


# field -> what it holds
_FIELDS: dict[str, tuple[type, ...]] = {
    "recipe": (dict,),
    "frozen": (dict,),
    "classes": (list,),
    "preprocessing": (dict, NoneType),
    "seed": (int, NoneType),
    "epochs_seen": (int,),
}


def _check_header(header: dict[str, Any]) -> None:
    for name, kinds in _FIELDS.items():
        if name not in header or not isinstance(header[name], kinds):
            found = f"holds {type(header[name]).__name__}" if name in header else "is missing"
            msg = f"The field '{name}' {found}; it is {quoted((kind.__name__ for kind in kinds), 'or')}."
            raise ValueError(msg)
    if not all(isinstance(name, str) for name in header["classes"]):
        msg = "The field 'classes' holds something else than texts."
        raise ValueError(msg)
    _check_recipe(header["recipe"], "The recipe cannot be followed")


def _check_recipe(recipe: dict[str, Any], who: str) -> None:
    builds = recipe.get("edits")
    if not isinstance(recipe.get("source"), dict) or not isinstance(builds, list):
        msg = f"{who}: it has a 'source', an object, and 'edits', a list."
        raise ValueError(msg)
    if not all(isinstance(edits, list) and all(isinstance(edit, dict) for edit in edits) for edits in builds):
        msg = f"{who}: its edits are a list for each build, of objects."
        raise ValueError(msg)
    if len(builds) > BUILDS or sum(map(len, builds)) > EDITS:
        msg = f"{who}: it takes {len(builds)} builds and {sum(map(len, builds))} edits, at most {BUILDS} and {EDITS}."
        raise ValueError(msg)


def _rebuild_around(weights: dict[str, Tensor], header: dict[str, Any], source: Network | None, path: Path) -> Network:
    """Make the network on shapes alone, compare it with the weights, and only then let memory be taken."""
    net = None
    try:
        net = _rebuild(header, source, path, "meta")
    except Exception:
        # a module of one's own may need values; then it is the source's sizes, and modest ones of the edits, that count
        if source is None or not _are_modest(header["recipe"]["edits"], weights):
            raise
    if net is not None:
        _check_fit(net, weights, header, path)
    if net is None or any(value.is_meta and name not in weights for name, value in net.named_buffers()):
        net = _rebuild(header, source, path, "cpu")  # buffers that no file holds need their computed values
        _check_fit(net, weights, header, path)
    values = net.state_dict(keep_vars=True)
    ready = {
        name: nn.Parameter(value, requires_grad=False) if isinstance(values[name], nn.Parameter) else value
        for name, value in weights.items()
    }
    net.load_state_dict({name: ready[owner] for name, owner in _owners(values).items()}, assign=True)
    return net


def _are_modest(edits: list[list[dict[str, Any]]], weights: dict[str, Tensor]) -> bool:
    largest = max((size for value in weights.values() for size in value.shape), default=0)
    numbers = [int(number) for number in re.findall(r"\d+", json.dumps(edits))]
    return max(numbers, default=0) <= max(largest, 1 << 16)


def _rebuild(header: dict[str, Any], source: Network | None, path: Path, device: str) -> Network:
    from tlkit import zoo

    origin = header["recipe"]["source"]
    with torch.device(device):
        if source is not None:
            source = TransferLearning(source).build()
            source = copy_on_meta(source) if device == "meta" else source
        elif "zoo" in origin:
            granularity = origin.get("granularity", "block")
            source = zoo.load(str(origin["zoo"]), weights=None, granularity=granularity)
        else:
            msg = (
                f"{path} was built from {origin.get('module')}, which the file cannot rebuild. Give the network it "
                "started from: tl.load(path, source=tl.Network.from_module(module))."
            )
            raise ValueError(msg)
        for edits in header["recipe"]["edits"]:
            source = TransferLearning.replay(source, edits)
    return source


def _check_fit(net: Network, weights: dict[str, Tensor], header: dict[str, Any], path: Path) -> None:
    values = net.state_dict(keep_vars=True)
    expected = {owner: values[owner] for owner in _owners(values).values()}
    if problems := list_misfits(expected, weights):
        wrote, reads = header.get("versions"), _versions()
        differ = [name for name in reads if isinstance(wrote, dict) and wrote.get(name) != reads[name]]
        versions = (
            f" It was written with {_spell(wrote, differ)}, and read with {_spell(reads, differ)}." if differ else ""
        )
        msg = f"{path} does not fit the network it describes: {'; '.join(problems)}.{versions}"
        raise ValueError(msg)


def _versions() -> dict[str, str]:
    """Versions of what decides how a network of the zoo is built and named."""
    found = {}
    for name in ("tlkit", "torch", "torchvision", "timm"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _spell(versions: dict[str, Any], names: list[str]) -> str:
    return " and ".join(f"{name} {versions.get(name, '(none)')}" for name in names)


def _mark_learned(net: Network, header: dict[str, Any]) -> None:
    """A saved training is over, unless its updaters go on; what never trained is still fresh."""
    going_on = header.get("fresh", [name.partition(".")[0] for name in header.get("updater_state", {})])
    for name, vertex in net.vertices.items():
        if name not in going_on if "updater_state" in header else has_learned_statistics(vertex.module) is not False:
            net.mark_learned(name)


def _restore_updaters(net: Network, state: dict[str, dict[str, Any]]) -> None:
    known = dict(net.named_parameters())
    for name in state:
        if name not in known:
            msg = f"The updaters' state is that of '{name}', which is no weight.{near_misses(name, known)}"
            raise ValueError(msg)
    Optimizers.of(net).restore(state)


def _owners(values: dict[str, Tensor]) -> dict[str, str]:
    """Return for each name the first one of the same weight."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(value), name) for name, value in values.items()}


def _crc32(header: dict[str, Any], weights: dict[str, Tensor]) -> int:
    checksum = zlib.crc32(json.dumps(header).encode())
    for name, value in sorted(weights.items()):
        checksum = zlib.crc32(f"{name} {value.dtype} {tuple(value.shape)}".encode(), checksum)
        for piece in split_bytes(value):
            checksum = zlib.crc32(piece, checksum)
    return checksum


def _publish(weights: dict[str, Tensor], metadata: dict[str, str], path: Path) -> None:
    """Write a file so that a reader sees the old one or the whole new one, even after a power cut."""
    with publish(path, "network.tlk") as temporary:
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
            fields = file.metadata() or {}
    except SafetensorError as error:
        msg = f"{path} is damaged or no file of tl.save: {error}."
        raise ValueError(msg) from error
    if "tlkit" not in fields:
        msg = f"{path} is a safetensors file, but not one of tl.save. Plain weights: tl.zoo.load(name, weights=path)."
        raise ValueError(msg)
    try:
        header = json.loads(fields["tlkit"])
        newer = header["format"] > FORMAT
        crc32 = header.pop("crc32", None)
        right = isinstance(header["format"], int) and header["format"] > 0
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # what is nested too deep is no header
        header, newer, right, crc32 = {}, False, False, None
    if newer:
        msg = f"{path} has format {header['format']}; this version of tlkit reads up to {FORMAT}. Update tlkit."
        raise ValueError(msg)
    weights = copy_out(lambda: map_tensors(path))  # so that the file can be replaced while the network lives
    if not right or crc32 != _crc32(header, weights):
        msg = f"{path} is damaged: it does not hold what was saved. Copy or save it again."
        raise ValueError(msg)
    return header, weights
