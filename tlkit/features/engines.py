"""Engines: forms of a frozen network that run faster and say the same."""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tlkit.errors import near_misses, quoted
from tlkit.features.fingerprints import described, digest_of_tensor
from tlkit.features.folding import fold
from tlkit.features.moving import find_device, move
from tlkit.features.onnx_writer import UnknownLayerError, write_onnx
from tlkit.features.shards import digest
from tlkit.files.downloads import home
from tlkit.files.publishing import publish
from tlkit.graph.network import Network
from tlkit.memory import counted

__all__ = ["ENGINES", "Engine", "RowFeaturizer", "choose_batch_size", "is_exact"]

ENGINES = ("auto", "torch", "onnxruntime")
FEW_ROWS = 32  # below, the network itself has answered before a faster form is made
MANY_ROWS = 256  # from here on, torch.onnx gains more time than it takes
LARGEST_EXPORT = 300_000_000  # bytes of weights; ONNX Runtime holds them a second time, and a third while it starts
TOLERANCE = 1e-4  # of the largest value: fast forms add in another order
HALF_TOLERANCE = 2e-2  # where the features are stored as 16-bit numbers anyway
CHECKED_ROWS = 4
BATCH_BYTES = 128_000_000  # of what one vertex reads and answers, for all images of a batch
LARGEST_BATCH = {"cpu": 16, "cuda": 256}  # larger ones take memory and are not faster
MOST_KEPT = 6  # converted networks, in the folder of downloads
HALVES = (torch.float16, torch.bfloat16)

Run = Callable[[Any], tuple[Tensor, ...]]
Make = Callable[["Engine", Any], Run]  # from an engine and its first rows


def is_exact(engine: str) -> bool:
    """Say whether an engine promises the network's own answers, to the last digit.

    Raises
    ------
    ValueError
        For an unknown engine.
    """
    if engine not in ENGINES:
        msg = f"engine is one of {quoted(ENGINES, 'or')}, got {engine!r}.{near_misses(engine, ENGINES)}"
        raise ValueError(msg)
    return engine == "torch"


def choose_batch_size(network: Network) -> int:
    """Return how many images can run through a network together in little memory.

    That is 16 on a CPU for most networks, and 4 for VGG16, whose first layers answer 13 MB for each image.
    """
    numbers = {name: prod(shape) for name, shape in network.output_shapes().items()}
    vertices = network.vertices.items()
    largest = max((numbers[name] + sum(map(numbers.get, vertex.inputs)) for name, vertex in vertices), default=1)
    fitting = max(1, BATCH_BYTES // (4 * largest))
    return min(LARGEST_BATCH.get(find_device(network).type, 32), 2 ** (fitting.bit_length() - 1))


class Engine:
    """Runs a frozen network in the fastest form that says the same.

    The first batch runs through the plain network too. A form that cannot be made, or whose answers differ by more
    than rounding, is left with a warning that says so, and the next one is tried; the last is the network itself.

    Parameters
    ----------
    engine : {"auto", "torch", "onnxruntime"}
        "torch" is the network itself. "onnxruntime" is ONNX Runtime on a CPU. "auto" is the network itself for fewer
        than 32 rows, which have run before another form is made; for more it is ONNX Runtime where it is installed and
        the network runs on a CPU, else the network with batch normalization folded and channels last. What only
        torch.onnx can convert, in seconds, waits for 256 rows.
    network : Network
        A wholly frozen network; it is left alone.
    rows : int
        How many rows will run through it in all.
    batch_size : int
        How many will run together.
    dtype : torch.dtype
        How the answers will be kept; on a GPU, 16-bit answers are computed in 16 bits.

    Attributes
    ----------
    name : str
        The form that runs, with the version of its library; known after the first batch.
    """

    def __init__(
        self, engine: str, network: Network, rows: int, batch_size: int = 16, dtype: torch.dtype = torch.float32
    ) -> None:
        self.network = network
        self.batch_size = batch_size
        self.dtype = dtype
        self.name = f"torch {torch.__version__}"
        self.rows = rows
        self._run: Run | None = self._plain if is_exact(engine) or (engine == "auto" and rows < FEW_ROWS) else None
        self.asked = engine

    @torch.no_grad()
    def __call__(self, x: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the network's answers for a batch, by name."""
        x = move(x, find_device(self.network))
        if self._run is None:
            self._run = self._first_that_agrees(x)
        return dict(zip(self.network.outputs, self._run(x), strict=True))

    def _plain(self, x: Any) -> tuple[Tensor, ...]:
        return _contiguous(self.network(x))

    def _first_that_agrees(self, x: Any) -> Run:
        few = {name: value[:CHECKED_ROWS] for name, value in x.items()} if isinstance(x, dict) else x[:CHECKED_ROWS]
        expected = self._plain(few)
        for name, make in _forms(self.asked, self.network).items():
            try:
                run = make(self, few)
                found = run(few)
            except _NotWorthItError:
                continue
            except (ImportError, OSError, ValueError, RuntimeError) as error:
                warnings.warn(f"{name} cannot run this network, so it runs slower: {error}", stacklevel=5)
                continue
            difference = max(map(_difference, expected, found))
            if difference <= self._tolerance():
                self.name = name
                return run
            msg = f"{name} differs by {difference:.1e} of the largest value, more than rounding, and is not used."
            warnings.warn(msg, stacklevel=5)
        return self._plain

    def _tolerance(self) -> float:
        half = self.dtype in HALVES and find_device(self.network).type == "cuda"
        return HALF_TOLERANCE if half else TOLERANCE


class RowFeaturizer:
    """Computes the boundary tensors of some rows of a data set, by name: what a store is filled with.

    Parameters
    ----------
    run : Engine
        What runs the frozen part.
    data : data set
        With `batches`.
    batch_size : int
        Rows that run together.
    dtype : torch.dtype
        How the answers are kept.
    first : int
        The number of the first row of `data`, where these are a part of the rows only.
    """

    def __init__(self, run: Engine, data: Any, batch_size: int, dtype: torch.dtype, *, first: int = 0) -> None:
        self.run, self.data, self.batch_size, self.dtype, self.first = run, data, batch_size, dtype, first

    @property
    def engine(self) -> str:
        """What computed them, for the record; other numbers of threads may differ in the last digits."""
        return f"{self.run.name}, {counted(torch.get_num_threads(), 'thread')}"

    def __call__(self, rows: Sequence[int]) -> Iterator[dict[str, Tensor]]:
        """Yield the boundary tensors of some rows, batch by batch."""
        for x, _ in self.data.batches(self.batch_size, torch.tensor(rows) - self.first):
            yield {name: value.to(self.dtype).cpu() for name, value in self.run(x).items()}


def _forms(engine: str, network: Network) -> dict[str, Make]:
    """Return the faster forms by name, the fastest first."""
    forms: dict[str, Make] = {}
    device = find_device(network).type
    size = sum(value.numel() * value.element_size() for value in network.parameters())
    installed = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))
    if engine == "onnxruntime" or (engine == "auto" and device == "cpu" and installed and size <= LARGEST_EXPORT):
        forms[f"onnxruntime {_version('onnxruntime')}"] = _make_onnxruntime
    if engine == "auto":
        forms[f"torch {torch.__version__}, folded"] = _make_folded
    return forms


def _version(package: str) -> str:
    with suppress(PackageNotFoundError):
        return version(package)
    return "(not installed)"


def _make_folded(engine: Engine, few: Any) -> Run:
    fast = fold(engine.network)
    half = engine.dtype in HALVES and find_device(fast).type == "cuda"

    def run(x: Any) -> tuple[Tensor, ...]:
        with torch.autocast("cuda", engine.dtype if half else torch.float16, enabled=half):
            return _contiguous(fast(x))

    return run


class _NotWorthItError(Exception):
    """Making this form would take longer than it gains."""


def _make_onnxruntime(engine: Engine, few: Any) -> Run:
    from tlkit.exporting import run_onnx

    network, size = engine.network, engine.batch_size
    shapes = {name: tuple(value.shape[1:]) for name, value in network.named_inputs(few).items()}
    # folding leaves less to write; the pictures may have another size than the network's usual one
    fast = Network(fold(network).vertices, shapes, network.outputs)
    try:
        content = write_onnx(fast, size)
    except UnknownLayerError:
        content = _convert_once(engine, fast, home() / "engines", _fingerprint(network, shapes, size))
    answers = run_onnx(content, size, network.outputs)
    return lambda x: answers(network.named_inputs(x))


def _convert_once(engine: Engine, fast: Network, folder: Path, name: str) -> bytes:
    """Return what torch.onnx makes of a network, from the folder of what it made before if it is there unharmed."""
    from tlkit.exporting import convert_to_onnx

    for path in folder.glob(f"{name}-*.onnx"):
        content = path.read_bytes()
        if path.stem == f"{name}-{_checksum(content)}":
            _keep_newest(folder, path)
            return content
        path.unlink(missing_ok=True)  # a bit of it has changed
    if engine.asked == "auto" and engine.rows < MANY_ROWS:
        raise _NotWorthItError
    content = convert_to_onnx(fast, engine.batch_size)
    path = folder / f"{name}-{_checksum(content)}.onnx"
    with publish(path, "network.onnx") as temporary:
        temporary.write_bytes(content)
    _keep_newest(folder, path)
    return content


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _fingerprint(network: Network, shapes: Mapping[str, tuple[int, ...]], batch_size: int) -> str:
    """Tell converted networks apart by all that they depend on."""
    from tlkit import __version__

    made_by = [__version__, torch.__version__, *map(_version, ("onnxscript", "onnxruntime"))]
    graph = [[name, vertex.inputs, described(vertex.module, name)] for name, vertex in network.vertices.items()]
    values = {**dict(network.named_buffers()), **network.state_dict()}
    weights = [[name, str(value.dtype), digest_of_tensor(value)] for name, value in values.items()]
    return digest([made_by, graph, weights, shapes, network.outputs, batch_size])[:32]


def _keep_newest(folder: Path, used: Path) -> None:
    """Remove converted networks that were not used for longest."""
    with suppress(OSError):
        used.touch()
        for old in sorted(folder.glob("*.onnx"), key=lambda path: -path.stat().st_mtime)[MOST_KEPT:]:
            old.unlink(missing_ok=True)


def _difference(expected: Tensor, found: Tensor) -> float:
    """Return the largest difference, as a share of the largest value."""
    if expected.shape != found.shape:
        return float("inf")
    difference = (found.float() - expected.float()).abs().max()
    return float(difference.nan_to_num(float("inf"))) / max(1.0, float(expected.abs().max()))


def _contiguous(answers: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    answers = answers if isinstance(answers, tuple) else (answers,)
    return tuple(value.contiguous() for value in answers)
