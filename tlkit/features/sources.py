"""The source of a function: which text its code was made from, what of it counts, and which names it reads."""

from __future__ import annotations

import ast
import copy
import functools
import linecache
import symtable
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType
from typing import Any, NamedTuple

__all__ = ["Names", "names_read", "syntax_of", "written"]

SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
LOOKUPS = {"attrgetter", "methodcaller", "vars", "dir", "__dict__", "__getattribute__"}
UNSEEN = {"eval", "exec", "globals", "__import__"}
# what says where a text stands or what a type checker shall think; a field that Python gains is empty in older code
NO_FIELDS = {"annotation", "returns", "type_comment", "type_ignores", "type_params", "ctx", "kind", "simple"}


class Names(NamedTuple):
    """What a function reads.

    Attributes
    ----------
    free : dict of str to set of tuple of str
        Each name that the function takes from outside, with the attributes asked of it: ``np.pi`` is
        ``{"np": {("pi",)}}``, and a name that stands alone has ``()``.
    attributes : frozenset of str
        The names of all attributes, of whatever object.
    imported : dict of str to tuple of (str, str, int)
        Names imported inside the function: module, name in it (or ""), and the level of a relative import.
    any_attribute : bool
        Whether it looks attributes up by names that are computed.
    unseen : str
        A call that reads names nobody can see from outside, such as ``eval``; or "".
    """

    free: dict[str, set[tuple[str, ...]]]
    attributes: frozenset[str]
    imported: dict[str, tuple[str, str, int]]
    any_attribute: bool
    unseen: str


def syntax_of(function: FunctionType) -> ast.AST:
    """Return the definition that a function's code was compiled from.

    The text is compiled again and compared with the code, so a file that was edited after its import is noticed.

    Raises
    ------
    LookupError
        When there is no text, another one, or several that fit; says so in half a sentence.
    """
    code = function.__code__
    text = "".join(linecache.getlines(code.co_filename, function.__globals__))
    if not text:
        msg = "whose source is not at hand (it was made by exec, or typed where Python keeps no text)"
        raise LookupError(msg)
    tree, codes = _parsed(text, code.co_filename)
    nodes = [node for node in ast.walk(tree) if isinstance(node, SCOPES) and _could_be(node, code)]
    if not nodes or not any(_same(code, other) for other in codes):
        msg = "whose source is another one than what runs (the file was edited after its import)"
        raise LookupError(msg)
    if len(nodes) > 1:
        nodes = [node for node in nodes if any(_same(code, other, anywhere=True) for other in _compiled(node, code))]
    if len({written(node) for node in nodes}) != 1:
        msg = "which stands beside others on one line, so that its source cannot be told from theirs"
        raise LookupError(msg)
    return nodes[0]


def written(function: ast.AST) -> str:
    """Write down what counts of a definition: two functions with the same text do the same with the same values.

    Positions, comments, docstrings, annotations, its decorators and defaults (both are seen in what the function
    holds) and the names of its local variables do not count. The text is made here of the names of the syntax tree's
    nodes and of their fields that are not empty, because `ast.unparse` and `ast.dump` change between versions of
    Python. It is the same in 3.10 to 3.13: their grammars have these nodes in common, and a later one's new fields
    are empty in code that an earlier one can read.
    """
    return _text(function, _short_names(function), outermost=True)


def names_read(function: ast.AST, cells: tuple[str, ...] = ()) -> Names:
    """Return the names that a definition reads; `cells` are those that its surroundings hold for it."""
    bare = _without_dead_text(function)
    loads = [node for node in ast.walk(bare) if isinstance(node, (ast.Name, ast.Attribute))]
    attributes = {node.attr for node in loads if isinstance(node, ast.Attribute)}
    constant, any_attribute = _looked_up(bare)
    outside = {*_global_names(bare, cells), *cells} - {"__class__"}
    imported = dict(_imports(bare))
    free = {name: set() for name in (*sorted(outside), *imported)}
    inner = {id(node.value) for node in loads if isinstance(node, ast.Attribute)}
    for node in loads:
        if id(node) not in inner:
            name, path = _chain(node)
            if name in free:
                free[name].add(path)
    return Names(
        {name: paths for name, paths in free.items() if name not in imported or paths},
        frozenset(attributes | constant),
        imported,
        any_attribute or bool(LOOKUPS & (attributes | outside)),
        min((outside - set(cells)) & UNSEEN, default=""),
    )


# -- finding ----------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=64)
def _parsed(text: str, file: str) -> tuple[ast.Module, tuple[CodeType, ...]]:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT  # a notebook's cell may await
    try:
        tree = ast.parse(text)
        return tree, tuple(_codes(compile(text, file, "exec", flags, dont_inherit=True)))
    except (SyntaxError, ValueError):
        return ast.Module([], []), ()


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _could_be(node: Any, code: CodeType) -> bool:
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
    here = first == code.co_firstlineno and getattr(node, "name", "<lambda>") == code.co_name
    # a name with two underscores in a class is lengthened
    return here and len(arguments) == len(names) and all(map(str.endswith, names, (a.arg for a in arguments)))


def _same(code: CodeType, other: CodeType, *, anywhere: bool = False) -> bool:
    fields = ("co_name", "co_code", "co_names", "co_varnames", "co_freevars", "co_cellvars")
    if any(getattr(code, field) != getattr(other, field) for field in fields):
        return False
    if code.co_firstlineno != other.co_firstlineno and not anywhere:
        return False
    pairs = list(zip(code.co_consts, other.co_consts, strict=False))
    return len(code.co_consts) == len(other.co_consts) and all(
        _same(one, two, anywhere=anywhere)
        if isinstance(one, CodeType) and isinstance(two, CodeType)
        else _equal(one, two)
        for one, two in pairs
    )


def _equal(one: Any, two: Any) -> bool:
    return type(one) is type(two) and (one == two if isinstance(one, frozenset) else repr(one) == repr(two))


def _compiled(node: Any, code: CodeType) -> Iterator[CodeType]:
    """Compile one definition alone, with the names that its surroundings hold for `code`."""
    around = _around([ast.Expr(node) if isinstance(node, ast.Lambda) else node], code.co_freevars)
    _, outer, *_ = _codes(compile(ast.Module([around], []), "", "exec", dont_inherit=True))
    return (constant for constant in outer.co_consts if isinstance(constant, CodeType))


def _around(body: list[ast.stmt], arguments: Iterable[str]) -> ast.FunctionDef:
    around = ast.parse(f"def around({', '.join(arguments)}): pass").body[0]
    around.body = body
    return ast.fix_missing_locations(around)


# -- writing ----------------------------------------------------------------------------------------------------------


def _text(node: Any, names: dict[str, str], *, outermost: bool = False) -> str:
    if isinstance(node, list):
        return f"[{', '.join(_text(item, names) for item in node)}]"
    if not isinstance(node, ast.AST):
        return ascii(node)
    if isinstance(node, ast.Name):
        return f"Name({names.get(node.id, node.id)})"
    if isinstance(node, ast.Constant):
        return f"{type(node.value).__name__} {node.value!a}"
    if isinstance(node, ast.JoinedStr):
        return f"JoinedStr({_text(_joined(node), names)})"
    fields = {name: value for name, value in ast.iter_fields(node) if name not in NO_FIELDS}
    kind = type(node).__name__
    if isinstance(node, ast.AnnAssign):  # in a class, it may make a field
        kind, fields = "Assign", {"targets": [node.target], "value": node.value}
    if isinstance(node, ast.ClassDef):
        fields["fields"] = [item.annotation for item in node.body if isinstance(item, ast.AnnAssign)]
    if isinstance(node, DEFINITIONS):
        fields["body"] = _without_docstring(node.body)
    if outermost:
        fields.pop("decorator_list", None)
        fields.pop("name", None)
    if outermost and isinstance(node, SCOPES):
        arguments = copy.copy(node.args)
        arguments.defaults, arguments.kw_defaults = [], []
        fields["args"] = arguments
    written_fields = [f"{name}={_text(value, names)}" for name, value in sorted(fields.items()) if _counts(value)]
    return f"{kind}({', '.join(written_fields)})"


def _counts(value: Any) -> bool:
    return value is not None and value != []


def _joined(node: ast.JoinedStr) -> list[Any]:
    """Return an f-string's parts; versions of Python split its plain text differently."""
    parts: list[Any] = []
    for part in node.values:
        plain = isinstance(part, ast.Constant)
        if plain and parts and isinstance(parts[-1], str):
            parts[-1] += part.value
        elif not plain or part.value:
            parts.append(part.value if plain else part)
    return parts


def _without_docstring(body: list[Any]) -> list[Any]:
    first = body[0] if body else None
    is_text = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    return body[1:] if is_text else body


def _short_names(function: ast.AST) -> dict[str, str]:
    """Number the local variables, where a name is nothing but a local variable throughout the definition."""
    bare = _without_dead_text(function)
    stored, kept = {}, set(_global_names(bare, ()))
    for node in ast.walk(bare):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            stored[node.id] = None
        elif isinstance(node, ast.ClassDef):
            kept |= {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            kept |= set(node.names)
        for field in ("arg", "asname", "name", "rest"):  # arguments, imports, definitions, exceptions, patterns
            name = getattr(node, field, None)
            if isinstance(name, str) and not isinstance(node, ast.keyword):
                kept.add(name.partition(".")[0])
    if kept & {*UNSEEN, *LOOKUPS, "locals"}:  # they may ask for a variable by its name
        return {}
    return {name: f"${number}" for number, name in enumerate(name for name in stored if name not in kept)}


# -- reading ----------------------------------------------------------------------------------------------------------


class _DeadText(ast.NodeTransformer):
    """Takes annotations and docstrings out."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is None:
            return ast.Pass()
        return ast.Assign([node.target], self.visit(node.value), lineno=0)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, DEFINITIONS):
            node.body = _without_docstring(node.body) or [ast.Pass()]
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.returns = None
        if getattr(node, "type_params", None):
            node.type_params = []
        return super().generic_visit(node)


def _without_dead_text(function: ast.AST) -> Any:
    bare = _DeadText().visit(copy.deepcopy(function))
    bare.decorator_list, bare.args.defaults = [], []
    bare.args.kw_defaults = [None] * len(bare.args.kwonlyargs)
    return bare


def _global_names(bare: Any, cells: tuple[str, ...]) -> set[str]:
    """Return the names that Python looks up outside all functions."""
    body: list[ast.stmt] = [ast.Expr(bare) if isinstance(bare, ast.Lambda) else bare]
    if not cells:  # a name from the surroundings that is assigned: any function around must hold it
        nonlocals = [node for node in ast.walk(bare) if isinstance(node, ast.Nonlocal)]
        cells = tuple(dict.fromkeys(name for node in nonlocals for name in node.names))
    around = _around(body, (name for name in cells if name != "__class__"))
    table = symtable.symtable(ast.unparse(around), "source", "exec")
    return set(_globals_below(table.get_children()[0]))


def _globals_below(table: symtable.SymbolTable) -> Iterator[str]:
    yield from (symbol.get_name() for symbol in table.get_symbols() if symbol.is_global() and symbol.is_referenced())
    for inner in table.get_children():
        yield from _globals_below(inner)


def _imports(bare: ast.AST) -> Iterator[tuple[str, tuple[str, str, int]]]:
    for node in ast.walk(bare):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                yield (alias.asname or top), ((alias.name if alias.asname else top), "", 0)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, (node.module or "", alias.name, node.level)


def _chain(node: ast.Name | ast.Attribute) -> tuple[str, tuple[str, ...]]:
    """Return the name that a chain of attributes begins with, and the attributes."""
    path: list[str] = []
    while isinstance(node, ast.Attribute):
        path.insert(0, node.attr)
        node = node.value
    return (node.id if isinstance(node, ast.Name) else ""), tuple(path)


def _looked_up(bare: ast.AST) -> tuple[set[str], bool]:
    """Return the attributes that `getattr` asks for, and whether it asks for computed ones."""
    constant, any_attribute = set(), False
    for node in ast.walk(bare):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
            name = node.args[1] if len(node.args) > 1 else None
            if isinstance(name, ast.Constant):
                constant.add(name.value)
            else:
                any_attribute = True
    return constant, any_attribute
