"""Files of weights: read without running code from them, and put into a module without a second copy."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tlkit.errors import near_misses, printable, quoted

__all__ = [
    "copy_out",
    "fill_module",
    "list_misfits",
    "make_module",
    "map_tensors",
    "split_bytes",
    "read_weights",
    "write_weights",
]

# number types by safetensors' names for them
KINDS = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
}
AT_ONCE = 1 << 26  # bytes of a file that lie in memory beside their copies

# torchvision's files for DenseNet are older than the rule that names in a module hold no dots
_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a .safetensors file, or one of torch.save, into memory that copies of a network share.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When it is damaged, or holds anything but tensors by name.
    """
    if not path.is_file():
        msg = (
            f"There is no weights file {path}. weights is 'imagenet', None or the path of a .safetensors or .pth file."
        )
        raise FileNotFoundError(msg)
    try:
        state = copy_out(lambda: map_tensors(path)) if path.suffix == ".safetensors" else _read_torch(path)
    except (SafetensorError, OSError) as error:
        msg = f"{path} is damaged or no safetensors file: {printable(error)}."
        raise ValueError(msg) from error
    if isinstance(state, Mapping) and state and all(isinstance(value, Tensor) for value in state.values()):
        return {_DENSENET.sub(r"\1\2", name): value for name, value in state.items()}
    held = f"a dictionary of {quoted(map(str, [*state][:5]))}" if isinstance(state, Mapping) else type(state).__name__
    msg = f"{path} holds {held}, not weights by name. Save model.state_dict() alone."
    raise ValueError(msg)


@torch.no_grad()
def copy_out(open_file: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Copy tensors out of a mapped file, into memory of torch's own and in torch's own layout.

    What was read of a mapping counts as memory of this process, so the file is mapped anew every now and then: the
    peak is one copy of the weights. Tensors in a file's memory, or in what `torch.load` reserves, could not share
    theirs with a copy (see `tlkit.files.copying`), and sums in another layout differ in the last bit.

    Parameters
    ----------
    open_file : callable
        Maps the file, and returns its tensors by name.
    """
    source = open_file()
    copies = {name: torch.empty(value.shape, dtype=value.dtype) for name, value in source.items()}
    read = 0
    for name, copied in copies.items():
        for part in _parts(copied):
            if read > AT_ONCE:
                source = {}  # ends the mapping
                source, read = open_file(), 0
            copied[part].copy_(source[name][part])
            read += copied[part].nbytes
    return copies


def _parts(value: Tensor) -> Iterator[Any]:
    """Return indices of a large tensor's parts, none much larger than what may lie in memory at once."""
    if value.nbytes <= AT_ONCE:
        return iter([...])
    rows = max(1, AT_ONCE * len(value) // value.nbytes)
    return (slice(start, start + rows) for start in range(0, len(value), rows))


def map_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, which lie in the file until they are read."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def split_bytes(value: Tensor) -> Iterator[memoryview]:
    """Return a tensor's bytes piece by piece.

    A piece is copied: NumPy, or a writer that asks for the tensor's place, would end its sharing of memory with copies.
    """
    for part in value.detach().reshape(-1).split(AT_ONCE // 64):
        yield memoryview(part.clone().view(torch.uint8).numpy())


def write_weights(weights: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file tensor by tensor, wide numbers first, so that all are aligned.

    Raises
    ------
    ValueError
        When a tensor holds numbers of a type that such a file has no name for.
    """
    for name, value in weights.items():
        if value.dtype not in KINDS:
            msg = f"'{name}' holds numbers of {value.dtype}, which cannot be saved. Convert it: net.to(torch.float32)."
            raise ValueError(msg)
    ordered = dict(sorted(weights.items(), key=lambda item: (-item[1].element_size(), item[0])))
    ends = [0, *accumulate(value.nbytes for value in ordered.values())]
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    for (name, value), place in zip(ordered.items(), pairwise(ends), strict=True):
        header[name] = {"dtype": KINDS[value.dtype], "shape": list(value.shape), "data_offsets": list(place)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for value in ordered.values():
            for piece in split_bytes(value):
                file.write(piece)


def _read_torch(path: Path) -> Any:
    """Read a file of torch.save; what is no state dict comes back as it is."""
    mappable = zipfile.is_zipfile(path)  # older files are not, and are read into memory of torch's own
    state = _load(path, mmap=mappable)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        return state
    if mappable:
        del state
        return copy_out(lambda: _load(path, mmap=True))
    return {name: _in_order(value) for name, value in state.items()}


def _in_order(value: Tensor) -> Tensor:
    if value.is_contiguous() and value.data_ptr() % 64 == 0:
        return value
    return value.clone(memory_format=torch.contiguous_format)


def _load(path: Path, *, mmap: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:
        # torch's own words recommend to load without this guard
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found:
            msg = (
                f"{path} holds more than tensors ({printable(found[1])}), and reading that could run code. "
                "It was not read. Ask for the weights alone: torch.save(model.state_dict(), path), or .safetensors."
            )
        else:
            msg = f"{path} is damaged or no file of torch.save ({type(error).__name__})."
        raise ValueError(msg) from None


def make_module(make: Callable[[], nn.Module]) -> nn.Module:
    """Make a module, also under ``torch.device("meta")`` when its constructor computes with values."""
    try:
        return make()
    except NotImplementedError:
        with torch.device("cpu"), _Undrawn():
            module = make()
        return module.to("meta")


class _Undrawn(TorchFunctionMode):
    """Leaves new weights as they are, so that they take neither time nor memory."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        value = args[0] if args else options.get("tensor")  # torch.nn.init hands it over by name
        name = getattr(func, "__name__", "")
        if isinstance(value, nn.Parameter) and name.endswith("_") and not name.endswith("__"):
            return value
        return func(*args, **options)


def fill_module(make: Callable[[], nn.Module], state: Mapping[str, Tensor], source: str) -> nn.Module:
    """Make a module around given tensors.

    Raises
    ------
    ValueError
        When the tensors are those of another architecture.
    """
    with torch.device("meta"):
        module = make_module(make)
    if any(name not in state for name, _ in module.named_buffers()):
        module = make_module(make)  # buffers that no file holds need their computed values
    # files from before 2018 hold no count of batches; torch starts it at 0
    expected = {
        name: value
        for name, value in module.state_dict().items()
        if name in state or not name.endswith("num_batches_tracked")
    }
    problems = list_misfits(expected, state)
    if problems:
        msg = f"The weights in {source} do not fit {type(module).__name__}: {'; '.join(problems)}."
        raise ValueError(msg)
    module.load_state_dict(state, assign=True)
    return module


def list_misfits(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """Say in which ways given tensors are not the expected ones: the number of names, and the first few."""
    missing = [name for name in expected if name not in given]
    surplus = [name for name in given if name not in expected]
    both = [(name, expected[name], given[name]) for name in expected if name in given]
    problems = []
    if missing:
        problems.append(f"{_count(missing)} missing, such as {quoted(missing[:3])}")
    if surplus:
        problems.append(f"{_count(surplus)} unexpected, such as {quoted(surplus[:3])}")
    if missing and (hint := near_misses(missing[0], surplus)):
        problems.append(f"'{printable(missing[0])}' may have got another name:{hint}")
    if shapes := [(name, wanted.shape, found.shape) for name, wanted, found in both if wanted.shape != found.shape]:
        name, wanted, found = shapes[0]
        which = f"{len(shapes)} {'has' if len(shapes) == 1 else 'have'} another shape"
        problems.append(f"{which}, such as '{printable(name)}': {tuple(found)}, expected {tuple(wanted)}")
    if kinds := [name for name, a, b in both if a.is_floating_point() != b.is_floating_point()]:
        problems.append(
            f"'{printable(kinds[0])}' holds numbers of {given[kinds[0]].dtype}, expected {expected[kinds[0]].dtype}"
        )
    return problems


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} tensor{' is' if len(names) == 1 else 's are'}"
