"""What a module computes, written down so that another text means other features."""

from __future__ import annotations

import copyreg
import enum
import functools
import hashlib
import importlib
import inspect
import types
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.modules.dropout import _DropoutNd

from tlkit.features.sources import Names, names_read, syntax_of, written
from tlkit.features.values import (
    attribute,
    cells_of,
    dtype_of,
    form_of,
    has_more_than_attributes,
    importable_name,
    is_cached_property,
    is_generated,
    is_installed,
    is_of_package,
    is_pickled,
    name_of,
    package_of,
    plain_text,
    qualified_name,
    state_of,
    what_is_untold,
)
from tlkit.layers.modules import Layer

__all__ = ["described", "digest_of_tensor"]

DIGESTED = 1 << 18  # numbers at a time
LONGEST = 400  # characters of a value that are written in full
# what acts while training only, and passes everything on in a frozen vertex
IDLE = {
    "torch.nn.modules.linear.Identity",
    "timm.layers.drop.DropBlock2d",
    "timm.layers.drop.DropPath",
    "torchvision.ops.drop_block.DropBlock2d",
    "torchvision.ops.drop_block.DropBlock3d",
    "torchvision.ops.stochastic_depth.StochasticDepth",
}
HOOKS = ("_forward_pre_hooks", "_forward_hooks")
# filled by the forward of a module of timm, from what else the module holds
CACHES = {"attention_bias_cache", "_pinv_cache_map"}
UNWRITTEN = {*vars(nn.Module()), "_compiled_call_impl"}
# what a subclass of a library's module may define without changing what it computes
BESIDE_FORWARD = {
    "__init__", "__new__", "__repr__", "__str__", "__dir__", "__reduce__", "__reduce_ex__", "__getstate__",
    "__setstate__", "__deepcopy__", "__copy__", "__init_subclass__", "__del__", "_get_name", "extra_repr", "train",
    "eval", "state_dict", "load_state_dict", "_load_from_state_dict", "_save_to_state_dict", "_apply", "to",
    "reset_parameters", "init_weights", "_init_weights", "parameters", "named_parameters", "requires_grad_",
}  # fmt: skip
OF_EACH_CLASS = {
    "__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__annotations__", "__annotate__",
    "__annotate_func__", "__annotations_cache__", "__firstlineno__", "__static_attributes__", "__type_params__",
    "__parameters__", "__orig_bases__", "__abstractmethods__", "_abc_impl", "__slots__", "__match_args__",
    "__dataclass_fields__", "__dataclass_params__", "__classcell__",
}  # fmt: skip


def described(module: nn.Module, name: str = "module") -> str:
    """Write down what a module computes with its weights, which the key has apart.

    One line for each of its parts, with the value of every attribute; behind them, for what is neither torch's nor
    another installed package's, a digest of the source of each function that it runs, and the values that these
    functions take from outside. Things of installed packages are known by their names. Dropout is written as an
    identity, it never acts in a frozen vertex. Where the text holds a digest, the value was too long for a line.

    Attributes in another order, another process, machine or version of Python give the same text.

    Parameters
    ----------
    module : nn.Module
        The module of a vertex.
    name : str
        What an error calls it: the name of the vertex.

    Raises
    ------
    ValueError
        When the module holds something whose value cannot be told from outside, such as an open file.

    Examples
    --------
    >>> from tlkit.features.fingerprints import described
    >>> from torch import nn
    >>> print(described(nn.Sequential(nn.Flatten(), nn.Dropout())))
    : torch.nn.modules.container.Sequential()
    0: torch.nn.modules.flatten.Flatten(end_dim=-1, start_dim=1)
    1: torch.nn.modules.linear.Identity()
    """
    return "\n".join(_Description(module, name).lines())


def digest_of_tensor(value: Tensor) -> str:
    """Return the sha256 of a tensor's numbers."""
    found = hashlib.sha256()
    for part in value.detach().resolve_conj().resolve_neg().cpu().contiguous().view(-1).split(DIGESTED):
        # a piece is copied: handing the tensor itself to NumPy would end its sharing of memory with another network
        found.update(part.clone().view(torch.uint8).numpy())
    return found.hexdigest()


class _Description:
    """The description of one vertex: its parts, and the functions and classes of one's own that they lead to."""

    def __init__(self, module: nn.Module, name: str, unread: Set[str] = frozenset()) -> None:
        self.module, self.name = module, name
        self.unread = unread  # attributes that own functions set and nobody asks for: kept for someone to look at
        self.parts = dict(module.named_modules(remove_duplicate=False))
        self.held = {id(part): f"the part '{place}'" for place, part in reversed(self.parts.items())}
        for values in (module.named_parameters, module.named_buffers):
            self.held |= {id(value): f"the weight '{place}'" for place, value in values(remove_duplicate=False)}
        self.kinds: dict[type, None] = {}  # own classes of modules: only what `forward` leads to counts
        self.used: set[str | None] = set()  # attributes that own functions ask for; None is any
        self.assigned: set[str] = set()  # attributes that they set
        self.labels: dict[int, str] = {}  # of own functions and classes, so that each is written once
        self.definitions: list[str] = []
        self.open: list[int] = []  # objects around the one that is being written
        self.nodes: dict[fx.Node, str] = {}
        self.kept: list[Any] = []  # what has a label must live on, or another thing would get its id

    def lines(self) -> list[str]:
        """Return the lines."""
        parts = [line for place, part in self.parts.items() for line in self._part(place, part)]
        methods = list(self._methods())
        unread = set() if None in self.used else self.assigned - self.used
        if any(unread & {*vars(part)} for part in self.parts.values()) and not self.unread:
            return _Description(self.module, self.name, unread).lines()
        return [*parts, *methods, *self.definitions]

    # -- modules ------------------------------------------------------------------------------------------------------

    def _part(self, place: str, part: nn.Module) -> Iterator[str]:
        where = f"{self.name}.{place}" if place else self.name
        if _is_idle(part):
            if not _only_trains(self.parts, place):
                yield f"{place}: torch.nn.modules.linear.Identity()"
            return
        values = self._attributes(part, where)
        for kind in ("_parameters", "_buffers"):
            values |= {name: form_of(value) for name, value in getattr(part, kind).items() if value is not None}
        fields = ", ".join(f"{name}={value}" for name, value in sorted(values.items()))
        yield f"{place}: {self._kind(part, where)}({fields})"
        if isinstance(part, fx.GraphModule):
            yield from (f"{place}: {line}" for line in self._graph(part, where))

    def _attributes(self, part: nn.Module, where: str) -> dict[str, str]:
        names = {} if isinstance(part, fx.GraphModule) else state_of(part)
        if isinstance(part, torch.jit.ScriptModule):
            raise self._refused(where, part, "a compiled module, which does not say what it holds")
        left_out = UNWRITTEN | (CACHES if is_installed(type(part).__module__) else set())
        if not any(is_installed(kind.__module__) for kind in type(part).__mro__[: -len(nn.Module.__mro__)]):
            left_out |= self.unread  # a package's class may ask for what is set here
        if isinstance(part, Layer):
            left_out |= {"dropout", "weight_noise"}  # they act in training only
        found = {
            name: self.value(value, f"{where}.{name}") for name, value in sorted(names.items()) if name not in left_out
        }
        for name in HOOKS:
            if hooks := getattr(part, name):
                found[name] = self._hooks(part, name, hooks, where)
        return found

    def _hooks(self, part: nn.Module, name: str, hooks: dict[int, Any], where: str) -> str:
        with_keywords = getattr(part, f"{name}_with_kwargs")
        written = [
            self.value(hook, f"{where}: the hook {name_of(hook)}") + (" with keywords" if key in with_keywords else "")
            for key, hook in hooks.items()
        ]
        return f"[{', '.join(written)}]"

    def _kind(self, part: nn.Module, where: str) -> str:
        kinds = [kind for kind in type(part).__mro__ if kind is not object]
        own = [kind for kind in kinds if not is_installed(kind.__module__)]
        if own:
            self.kinds |= dict.fromkeys(own)
            return " < ".join(kind.__name__ if kind in own else qualified_name(kind) for kind in kinds)
        forward = inspect.getattr_static(kinds[0], "forward", None)
        if isinstance(forward, types.FunctionType) and not (is_of_package(forward) or isinstance(part, fx.GraphModule)):
            return f"{qualified_name(kinds[0])} with forward {self.value(forward, f'{where}.forward')}"
        return qualified_name(kinds[0])

    def _hidden(self, part: nn.Module, where: str) -> str:
        """Write down a module that is no part of the vertex: its weights are not in the key."""
        values = {**part._parameters, **part._buffers, **part._modules}
        written = {name: self.value(value, f"{where}.{name}") for name, value in values.items()}
        written |= self._attributes(part, where)
        graph = "; ".join(self._graph(part, where)) if isinstance(part, fx.GraphModule) else ""
        return f"{self._kind(part, where)}({', '.join(f'{n}={v}' for n, v in written.items())}){graph}"

    def _graph(self, part: fx.GraphModule, where: str) -> Iterator[str]:
        for number, node in enumerate(part.graph.nodes):
            self.nodes[node] = f"%{number}"
            target = node.target if isinstance(node.target, str) else self.value(node.target, f"{where}: {node.target}")
            if node.op == "placeholder":
                target = "input"
            elif node.op == "get_attr" and node.target.rpartition(".")[2] != "training":
                target = self.value(attribute(part, node.target), f"{where}.{node.target}")
            given = [self.value(value, f"{where}: {node.name}") for value in node.args]
            given += [f"{name}={self.value(value, f'{where}: {node.name}')}" for name, value in node.kwargs.items()]
            yield f"%{number} = {node.op} {target}({', '.join(given)})"

    def _methods(self) -> Iterator[str]:
        """Write down what the own classes of the parts define, as far as `forward` leads there."""
        done: set[tuple[type, str]] = set()
        while True:
            found = [
                (kind, name)
                for kind in self.kinds
                for name in sorted(vars(kind))
                if (kind, name) not in done and self._is_reached(kind, name)
            ]
            if not found:
                return
            done |= set(found)
            for kind, name in found:
                value = self._member(vars(kind)[name], f"{self.name}: {kind.__name__}.{name}")
                yield f"{kind.__name__}.{name} = {value}"

    def _is_reached(self, kind: type, name: str) -> bool:
        private = f"_{kind.__name__.lstrip('_')}"
        asked = name.removeprefix(private) if name.startswith(f"{private}__") else name
        is_special = name.startswith("__") and name.endswith("__")
        if name in OF_EACH_CLASS or (name in BESIDE_FORWARD and (is_special or name not in self.used)):
            return False
        if is_special or name == "forward" or asked in self.used or None in self.used:
            return True
        # what a class of a package has too is called from there
        return any(name in vars(base) for base in kind.__mro__ if is_installed(base.__module__))

    # -- values -------------------------------------------------------------------------------------------------------

    def value(self, value: Any, where: str) -> str:
        """Write a value down; a long text becomes its beginning and a digest."""
        text = self._value(value, where)
        if len(text) <= LONGEST:
            return text
        return f"{text[:40]}... sha256 {hashlib.sha256(text.encode()).hexdigest()}"

    def _value(self, value: Any, where: str) -> str:
        if id(value) in self.held:
            return self.held[id(value)]
        if isinstance(value, fx.Node):
            return self.nodes[value]
        plain = plain_text(value)
        if plain is not None:
            return plain
        if id(value) in self.open:
            return f"what is {len(self.open) - self.open.index(id(value))} levels around"
        self.open.append(id(value))
        try:
            for kinds, write in self._writers():
                if isinstance(value, kinds):
                    return write(value, where)
            return self._object(value, where)
        except RecursionError:
            raise self._refused(where, value, "nested too deeply") from None
        finally:
            self.open.pop()

    def _writers(self) -> list[tuple[Any, Any]]:
        return [
            (Tensor, self._tensor),
            (nn.Module, self._hidden),
            ((np.ndarray, np.generic), self._numbers),
            (enum.Enum, self._choice),
            (type, self._class),
            (types.FunctionType, self._function),
            (types.MethodType, self._method),
            (functools.partial, self._partial),
            (functools._lru_cache_wrapper, lambda value, where: self.value(value.__wrapped__, where)),
            (types.ModuleType, self._python_module),
            (weakref.ref, lambda value, where: self.value(value(), where)),
        ]

    def _python_module(self, value: types.ModuleType, where: str) -> str:
        if not is_installed(value.__name__):
            raise self._refused(where, value, "a module of your own, used as a whole")
        return f"module {value.__name__}"

    def _tensor(self, value: Tensor, where: str) -> str:
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            raise self._refused(where, value, "a sparse or quantized tensor, or one without numbers")
        kind = "" if type(value) in (Tensor, nn.Parameter, nn.Buffer) else f"{self._class(type(value), where)} "
        return f"{kind}{form_of(value)} {digest_of_tensor(value)}"

    def _numbers(self, value: np.ndarray | np.generic, where: str) -> str:
        value_of = np.asarray(value)
        if value_of.dtype.hasobject:
            return f"array {value_of.shape} of {self.value(value_of.tolist(), where)}"
        if type(value) is not np.ndarray and isinstance(value, np.ndarray):
            return self._object(value, where)
        same_everywhere = value_of.astype(value_of.dtype.newbyteorder("<"))
        digest = hashlib.sha256(same_everywhere.tobytes()).hexdigest()
        what = "number" if isinstance(value, np.generic) else "array"
        shown = f" {value.item()!r}" if value_of.ndim == 0 and value_of.dtype.kind in "biuf" else ""
        return f"{what} {dtype_of(value_of.dtype)} {value_of.shape}{shown} {digest}"

    def _choice(self, value: enum.Enum, where: str) -> str:
        return f"{self._class(type(value), where)}.{value.name} {self.value(value.value, where)}"

    def _collection(self, value: Any, where: str) -> str | None:
        if isinstance(value, (list, tuple)):
            inner = ", ".join(self.value(item, f"{where}[{place}]") for place, item in enumerate(value))
            comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
            return f"[{inner}]" if isinstance(value, list) else f"({inner}{comma})"
        if isinstance(value, (dict, types.MappingProxyType)):
            keys = [self.value(key, f"{where}: a key") for key in value]
            items = [self.value(item, f"{where}[{key!r}]") for key, item in value.items()]
            return f"{{{', '.join(f'{key}: {item}' for key, item in zip(keys, items, strict=True))}}}"
        if isinstance(value, (set, frozenset)):
            return f"{{{', '.join(sorted(self._apart(item, where) for item in value))}}}"
        return None

    def _apart(self, value: Any, where: str) -> str:
        """Write a value down so that what was written before it does not matter."""
        labels, definitions = self.labels, self.definitions
        self.labels, self.definitions = dict(labels), []
        try:
            return "\n".join([self.value(value, where), *self.definitions])
        finally:
            self.labels, self.definitions = labels, definitions

    def _object(self, value: Any, where: str) -> str:
        kind = type(value)
        if refusal := what_is_untold(value):
            raise self._refused(where, value, refusal)
        plain = {list, tuple, torch.Size, dict, OrderedDict, set, frozenset, types.MappingProxyType}
        plain |= {fx.immutable_collections.immutable_list, fx.immutable_collections.immutable_dict}
        content = self._collection(value, where)
        if kind in plain:
            return content
        if inspect.isroutine(value):
            return self._routine(value, where)
        if isinstance(value, (int, float, complex, str, bytes)):
            base = next(base for base in kind.__mro__ if base in (int, float, complex, str, bytes))
            content = plain_text(base(value))
        state = state_of(value)
        if is_pickled(value) or (content is None and (state is None or has_more_than_attributes(value))):
            return self._reduced(value, where)
        written = [f"{n}={self.value(v, f'{where}.{n}')}" for n, v in sorted((state or {}).items())]
        return f"{self._class(kind, where)}({', '.join([*filter(None, [content]), *written])})"

    def _reduced(self, value: Any, where: str) -> str:
        """Write down what pickle would: the way of an object of C to say what it holds."""
        try:
            registered = copyreg.dispatch_table.get(type(value))
            found = registered(value) if registered else value.__reduce_ex__(4)
        except Exception:
            kind = "an object that does not say what it holds"
            raise self._refused(where, value, kind) from None
        if isinstance(found, str):
            return f"{type(value).__module__}.{found}"
        function, arguments, *rest = found
        return self.value([function, arguments, *(list(x) if hasattr(x, "__next__") else x for x in rest)], where)

    def _refused(self, where: str, value: Any, what: str) -> ValueError:
        kind = type(value)
        msg = (
            f"What '{self.name}' computes cannot be written down: '{where}' is {what} ({kind.__module__}."
            f"{kind.__qualname__}), so a store could not tell when its features are outdated. Keep a plain value or a "
            "buffer (self.register_buffer) in its place, or featurize without to=."
        )
        return ValueError(msg)

    # -- functions and classes ----------------------------------------------------------------------------------------

    def _method(self, value: types.MethodType, where: str) -> str:
        return f"{self.value(value.__func__, where)} of {self.value(value.__self__, where)}"

    def _partial(self, value: functools.partial, where: str) -> str:
        return f"partial{self.value((value.func, value.args, dict(sorted(value.keywords.items()))), where)}"

    def _routine(self, value: Any, where: str) -> str:
        owner = getattr(value, "__self__", None)
        name = f"{package_of(value)}.{getattr(value, '__qualname__', name_of(value))}"
        is_plain = owner is None or isinstance(owner, (types.ModuleType, type))
        return name if is_plain else f"{name} of {self.value(owner, where)}"

    def _function(self, value: types.FunctionType, where: str) -> str:
        if not is_of_package(value):
            return self._own_function(value, where)
        name = importable_name(value)
        if name:
            return name
        # a wrapper, such as torch.no_grad() puts around a function of one's own
        held = {**cells_of(value), **dict(enumerate(value.__defaults__ or ())), **(value.__kwdefaults__ or {})}
        written = ", ".join(f"{name}={self.value(item, f'{where}: {name}')}" for name, item in held.items())
        return f"{value.__globals__['__name__']}.{value.__code__.co_name}({written})"

    def _own_function(self, value: types.FunctionType, where: str) -> str:
        if id(value) in self.labels:
            return self.labels[id(value)]
        label = self._label(value, value.__qualname__.rpartition("<locals>.")[2])
        try:
            syntax = syntax_of(value)
        except LookupError as error:
            raise self._refused(where, value, f"a function {error}") from None
        cells = cells_of(value)
        names = names_read(syntax, tuple(cells))
        if names.unseen:
            raise self._refused(where, value, f"a function that calls {names.unseen}, which reads what nobody can see")
        self.used |= names.attributes | ({None} if names.any_attribute else set())
        self.assigned |= names.assigned
        self.definitions.append(f"{label} = code {hashlib.sha256(written(syntax).encode()).hexdigest()}")
        for number, default in enumerate(value.__defaults__ or ()):
            self._define(label, f"default {number}", default, where)
        for name, default in sorted((value.__kwdefaults__ or {}).items()):
            self._define(label, f"default {name}", default, where)
        for name, paths in names.free.items():
            for found, item in self._read(value, name, paths, names, cells, where):
                self._define(label, found, item, where)
        return label

    def _define(self, label: str, name: str, value: Any, where: str) -> None:
        self.definitions.append(f"{label}: {name} = {self.value(value, f'{where}: {name}')}")

    def _read(
        self, function: types.FunctionType, name: str, paths: Any, names: Names, cells: Any, where: str
    ) -> Iterator[tuple[str, Any]]:
        """Yield the values that a function finds under a name from outside."""
        if name in names.imported:
            try:
                value = _imported(*names.imported[name], function.__globals__.get("__package__"))
            except (ImportError, AttributeError):
                return  # then the function fails too, or does without
        elif name in cells:
            value = cells[name]
        elif name in function.__globals__:
            value = function.__globals__[name]
        else:
            return  # Python's own, or a name that is not defined: then the function fails
        yield from self._found(name, value, paths, where)

    def _found(self, name: str, value: Any, paths: set[tuple[str, ...]], where: str) -> Iterator[tuple[str, Any]]:
        if not isinstance(value, types.ModuleType) or is_installed(value.__name__):
            yield name, value
            return
        if () in paths:
            yield name, value
        for first in sorted({path[0] for path in paths}):
            if hasattr(value, first):
                inner = {path[1:] for path in paths if path[0] == first}
                yield from self._found(f"{name}.{first}", getattr(value, first), inner, where)

    def _class(self, kind: type, where: str) -> str:
        if is_installed(kind.__module__):
            return qualified_name(kind)
        if kind in self.kinds:
            return f"the class {kind.__name__}"
        if id(kind) in self.labels:
            return self.labels[id(kind)]
        label = self._label(kind, kind.__name__)
        bases = [self._class(base, where) for base in kind.__bases__]
        self.definitions.append(f"{label} = class({', '.join(bases)})")
        for name, value in sorted(vars(kind).items()):
            if name not in OF_EACH_CLASS and not is_generated(kind, name, value):
                text = self._member(value, f"{where}: {kind.__name__}.{name}")
                self.definitions.append(f"{label}.{name} = {text}")
        return label

    def _member(self, value: Any, where: str) -> str:
        if isinstance(value, property):
            return f"property{self.value((value.fget, value.fset), where)}"
        if isinstance(value, (staticmethod, classmethod)):
            return f"{type(value).__name__} {self.value(value.__func__, where)}"
        if is_cached_property(value):
            return f"property{self.value((value.func,), where)}"
        if isinstance(value, functools.partialmethod):
            return f"partial{self.value((value.func, value.args, value.keywords), where)}"
        return self.value(value, where)

    def _label(self, thing: Any, name: str) -> str:
        taken = set(self.labels.values())
        numbered = (name if number == 1 else f"{name} ({number})" for number in range(1, len(taken) + 2))
        self.labels[id(thing)] = next(label for label in numbered if label not in taken)
        self.kept.append(thing)
        return self.labels[id(thing)]


def _imported(module: str, name: str, level: int, package: str | None) -> Any:
    found = importlib.import_module("." * level + module, package)
    if name and not hasattr(found, name):
        return importlib.import_module(f"{found.__name__}.{name}")
    return getattr(found, name) if name else found


def _is_idle(part: nn.Module) -> bool:
    kind = type(part)
    known = f"{kind.__module__}.{kind.__qualname__}" in IDLE or issubclass(kind, _DropoutNd)
    is_changed = "forward" in vars(part) or any(getattr(part, name) for name in HOOKS)
    return known and is_installed(kind.__module__) and not is_changed


def _only_trains(parts: dict[str, nn.Module], place: str) -> bool:
    """Say whether a dropout is a layer's own, which then may as well have none."""
    around, _, name = place.rpartition(".")
    return name == "dropout" and isinstance(parts[around], Layer)
