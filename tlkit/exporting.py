"""Networks as ONNX files, for programs that know neither tlkit nor PyTorch."""

from __future__ import annotations

import contextlib
import io
import json
import keyword
import logging
import os
import re
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from tlkit.files.copying import copy_module
from tlkit.files.publishing import published
from tlkit.graph.network import Network, Vertex

__all__ = ["convert_to_onnx", "export_onnx", "run_onnx"]

TOLERANCE = 1e-4  # of an output's largest value; other programs add in another order
TRACED_ROWS = 2
CHECKED_ROWS = (1, 3)  # not the number that was traced: the file must take any
LARGEST = 2_000_000_000  # bytes of weights; a single ONNX file ends at 2 GiB
ATTRIBUTES = set(dir(fx.GraphModule(nn.Module(), fx.Graph())))  # a traced vertex cannot have these names


def export_onnx(net: Network, path: str | os.PathLike[str]) -> Path:
    """Write a network as an ONNX file that answers what the network answers, and check that it does.

    The file takes what ``net(...)`` takes as floats, so images must be normalized before. Its inputs and outputs have
    the network's names, and the number of examples is free. It computes in float32, in evaluation mode. Two metadata
    properties hold what a user of the file must know, as JSON: `classes` (a list of names) and, where the network has
    one, `preprocessing` (size, resize, interpolation, mean and std, see `tl.Preprocessing`).

    Before the file takes its place, onnxruntime runs it on random inputs, and its answers are compared with the
    network's. An older file at `path` is replaced as a whole or not at all. The network stays as it is, on its device
    and in its mode.

    One ONNX file holds no more than 2 GB. The weights of a larger network are written beside it, to
    ``<name>.<eight digits>.data``, and the two files belong together: copy both.

    Parameters
    ----------
    net : Network
        Any network; frozen marks make no difference.
    path : path
        The file, for example "flowers.onnx".

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ImportError
        When onnx, onnxscript or onnxruntime is missing.
    ValueError
        When a vertex computes what ONNX cannot say, when the answer depends on the number of examples, or when the
        file would answer something else than the network. Nothing is written then.
    OSError
        When the file cannot be written.

    Examples
    --------
    >>> import torch, tlkit as tl
    >>> net = tl.Network.from_module(torch.nn.Linear(4, 2), [torch.zeros(1, 4)])
    >>> tl.export_onnx(net, "linear.onnx")
    PosixPath('linear.onnx')
    """
    _check_packages()
    if not isinstance(net, Network):
        msg = (
            f"export_onnx takes a tl.Network, got {type(net).__name__}. "
            "tl.Network.from_module(module, example_inputs) makes one of a module."
        )
        raise TypeError(msg)
    path = Path(path).expanduser()
    _check_outputs(net)
    plain = _plain(net)
    with published(path, "network.onnx") as temporary, _data_file(path, plain) as data:
        model = _convert(plain, net)
        model.metadata_props.update(_metadata(net))
        _write(model, temporary, data)
        _check_answers(temporary, plain, net)
    _sweep(path, data)
    return path


def convert_to_onnx(net: Network, rows: int) -> bytes:
    """Return a network as the bytes of an ONNX file, for batches of exactly `rows` float inputs; nothing is checked.

    A network for one number of rows is several times quicker to convert than one for any number.

    Raises
    ------
    ImportError, ValueError
        As `export_onnx`.
    """
    import onnx_ir

    _check_packages()
    return onnx_ir.to_proto(_convert(_plain(net), net, rows)).SerializeToString()


def run_onnx(
    content: bytes, rows: int, outputs: tuple[str, ...]
) -> Callable[[Mapping[str, Tensor]], tuple[Tensor, ...]]:
    """Return a function that runs an ONNX file for batches of `rows` in ONNX Runtime, on any number of rows by name.

    A smaller batch is filled up and a larger one cut.
    """
    run = _session(content)

    def answers(inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        parts = zip(*(value.split(rows) for value in inputs.values()), strict=True)
        found = [run(dict(zip(inputs, map(fill_up, part), strict=True)), outputs) for part in parts]
        count = len(next(iter(inputs.values())))
        return tuple(torch.cat(values)[:count] for values in zip(*found, strict=True))

    def fill_up(value: Tensor) -> Tensor:
        missing = rows - len(value)
        return torch.cat([value, value[-1:].expand(missing, *value.shape[1:])]) if missing else value.contiguous()

    return answers


def _check_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        msg = f'Writing ONNX files needs {error.name}, which is not installed: pip install "tlkit[onnx]".'
        raise ImportError(msg, name=error.name) from error


def _check_outputs(net: Network) -> None:
    for name in net.outputs:
        if name in net.inputs:
            msg = (
                f"The network answers with its own input '{name}', and in an ONNX file no two values have one name. "
                "Leave it out of the outputs: set_outputs(...)."
            )
            raise ValueError(msg)
        if net.outputs.count(name) > 1:
            msg = f"The network answers '{name}' twice; ONNX names each output once. Say it once in set_outputs(...)."
            raise ValueError(msg)


# -- the network to trace -------------------------------------------------------------------------------------------


def _plain(net: Network) -> Network:
    """Return the network in evaluation mode on the CPU in float32, nothing frozen, its vertices under safe names."""
    memo: dict[int, Any] = {}
    for value in [*net.parameters(), *net.buffers()]:
        moved = value.detach().to("cpu", torch.float32 if value.is_floating_point() else value.dtype)
        if (moved.device, moved.dtype) != (value.device, value.dtype):
            memo[id(value)] = nn.Parameter(moved, requires_grad=False) if isinstance(value, nn.Parameter) else moved
    safe = _safe_names(net)
    vertices = {
        safe[name]: Vertex(copy_module(vertex.module, memo), [safe[other] for other in vertex.inputs])
        for name, vertex in net.vertices.items()
    }
    shapes = {safe[name]: shape for name, shape in net.input_shapes.items()}
    return Network(vertices, shapes, [safe[name] for name in net.outputs])


def _safe_names(net: Network) -> dict[str, str]:
    """Return for each input and vertex a name that can stand in traced Python code; most keep theirs."""
    names = [*net.inputs, *net.vertices]
    safe: dict[str, str] = {}
    for number, name in enumerate(names):
        if _is_safe(name) or (name.isdigit() and name not in net.inputs):
            safe[name] = name
            continue
        new = f"vertex_{number}"
        while new in names or new in safe.values():
            new += "_"
        safe[name] = new
    return safe


def _is_safe(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name) and name not in ATTRIBUTES


# -- conversion -----------------------------------------------------------------------------------------------------


def _convert(plain: Network, net: Network, rows: int | None = None) -> Any:
    try:
        return _export(plain, net.inputs, net.outputs, rows)
    except Exception as error:
        msg = (
            f"{_culprit(plain, net) or 'The network'} cannot be written as ONNX: {_reason(error)}. "
            "Nothing was written. Give it another module, or end the network before it: set_outputs(...)."
        )
        raise ValueError(msg) from error


def _export(plain: Network, inputs: tuple[str, ...], outputs: tuple[str, ...], rows: int | None = None) -> Any:
    """Return an `onnx_ir.Model` for some number of examples, or with a free one."""
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass, NameFixPass

    batch = torch.export.Dim("batch")
    with _quiet():
        program = torch.onnx.export(
            plain.to_module(),
            tuple(_random(plain, rows or TRACED_ROWS)),
            dynamo=True,
            dynamic_shapes=None if rows else tuple({0: batch} for _ in inputs),
            input_names=inputs,
            output_names=outputs,
            verbose=False,
        )
    for value in program.model.graph.inputs:
        if rows is None and isinstance(value.shape[0], int):
            raise _FixedBatchError
    NameFixPass()(program.model)  # a value inside may have the name that an output was just given
    ClearMetadataAndDocStringPass()(program.model)  # it tells where on this machine the code lies
    return program.model


class _FixedBatchError(Exception):
    """The number of examples was taken as part of the computation."""

    def __str__(self) -> str:
        return "what it computes depends on the number of examples, and a file must take any number"


def _culprit(plain: Network, net: Network) -> str | None:
    """Return which vertex cannot be converted, by trying each alone."""
    names = dict(zip(plain.vertices, net.vertices, strict=True))
    shapes = plain.output_shapes()
    for safe, vertex in plain.vertices.items():
        reads = dict.fromkeys(vertex.inputs)
        alone = Network({safe: vertex}, {other: shapes[other] for other in reads}, [safe])
        try:
            _export(alone, alone.inputs, alone.outputs)
        except Exception:
            return f"Vertex '{names[safe]}' ({type(vertex.module).__name__})"
    return None


def _reason(error: BaseException) -> str:
    """Return the first line of the error that started it all."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, GuardOnDataDependentSymNode):
        return "its steps depend on values, as in `if x.sum() > 0`"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress, warnings and log lines from the reader; what goes wrong is raised all the same."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        said = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


# -- the file -------------------------------------------------------------------------------------------------------


def _metadata(net: Network) -> dict[str, str]:
    properties: dict[str, Any] = {"classes": list(net.classes)}
    if net.preprocessing is not None:
        properties["preprocessing"] = net.preprocessing.to_dict()
    return {name: json.dumps(value) for name, value in properties.items()}


@contextlib.contextmanager
def _data_file(path: Path, plain: Network) -> Iterator[Path | None]:
    """Give a new file for weights that don't fit into the other, or None; it goes again when something fails."""
    size = sum(value.numel() * value.element_size() for value in plain.parameters())
    data = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.data") if size > LARGEST else None
    try:
        yield data
    except BaseException:
        if data is not None:
            data.unlink(missing_ok=True)
        raise


def _write(model: Any, path: Path, data: Path | None) -> None:
    import onnx_ir

    if data is None:
        onnx_ir.save(model, path)
        return
    onnx_ir.save(model, path, external_data=data.name)
    with data.open("rb+") as file:
        os.fsync(file.fileno())


def _sweep(path: Path, data: Path | None) -> None:
    """Remove the weights of the files that were here before."""
    for other in path.parent.glob("*.data"):
        if other != data and re.fullmatch(rf"{re.escape(path.name)}\.[0-9a-f]{{8}}\.data", other.name):
            other.unlink(missing_ok=True)


# -- the check ------------------------------------------------------------------------------------------------------


def _check_answers(path: Path, plain: Network, net: Network) -> None:
    run = _session(path)
    for rows in CHECKED_ROWS:
        inputs = _random(plain, rows)
        with torch.no_grad():
            expected = plain(*inputs)
        found = run(dict(zip(net.inputs, inputs, strict=True)), net.outputs)
        expected = (expected,) if isinstance(expected, Tensor) else expected
        for name, one, other in zip(net.outputs, expected, found, strict=True):
            _check_answer(name, one, other, rows)


def _session(file: Path | bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # it would print what it also raises
    options.intra_op_num_threads = torch.get_num_threads()
    # threads that wait sleep: spinning, they would take the processors from those that decode pictures
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        msg = f"onnxruntime cannot read the file that was to be written: {_reason(error)}. Nothing was written."
        raise ValueError(msg) from error

    def run(inputs: Mapping[str, Tensor], outputs: tuple[str, ...]) -> list[Tensor]:
        try:
            answers = session.run(list(outputs), {name: value.numpy() for name, value in inputs.items()})
        except Exception as error:
            msg = f"onnxruntime cannot run the file that was to be written: {_reason(error)}. Nothing was written."
            raise ValueError(msg) from error
        return [torch.from_numpy(answer) for answer in answers]

    return run


def _check_answer(name: str, expected: Tensor, found: Tensor, rows: int) -> None:
    if found.shape != expected.shape:
        msg = (
            f"The file would answer '{name}' with shape {tuple(found.shape)} where the network answers "
            f"{tuple(expected.shape)}, for a batch of {rows}. Nothing was written."
        )
        raise ValueError(msg)
    if expected.isnan().any():
        msg = (
            f"The network answers NaN at '{name}' to random inputs, so nothing can be compared. Its weights are "
            "broken: go back to those before training, and take a smaller learning rate."
        )
        raise ValueError(msg)
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    difference = float((found - expected).abs().max()) if expected.numel() else 0.0
    if not difference <= TOLERANCE * scale:
        msg = (
            f"The file would answer something else than the network: '{name}' differs by {difference:.2g}, with values "
            f"up to {scale:.2g}, for a batch of {rows}. At most {TOLERANCE:g} of that is rounding. A vertex that "
            "draws random numbers in evaluation mode does this. Nothing was written."
        )
        raise ValueError(msg)


def _random(net: Network, rows: int) -> list[Tensor]:
    """Return random inputs that are the same each time, without touching the caller's random numbers."""
    generator = torch.Generator().manual_seed(rows)
    return [torch.randn(rows, *shape, generator=generator) for shape in net.input_shapes.values()]
