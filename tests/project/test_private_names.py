"""A name with a leading underscore belongs to the module that defines it; no other one touches it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "tlkit").rglob("*.py"))
# of other packages, where they have no public form
ALLOWED = {
    "_lazy_clone": "torch: copy on write",
    "_version": "torch: how often a tensor was written to",
    "_parameters": "torch: weights moved to another module, shared and unset ones as they are",
    "_buffers": "torch: the same for batch normalization's statistics",
    "_modules": "torch: and its parts",
    "_ops": "torch: the classes of its operators",
    "_lru_cache_wrapper": "Python: the class of a cached function",
    "_BatchNorm": "torch: what every batch normalization is",
    "_DropoutNd": "torch: what every dropout is",
    "_exit": "Python: an end that waits for no thread, documented under this name",
    "_getframe": "Python: the frame that runs, documented under this name",
    "_strip_protocol": "fsspec: an address as its file system's key",
    "_publish_msg": "nbclient: where its Output widget loses messages",
}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("_")  # neither __init__ nor _repr_html_


def own_names(tree: ast.AST) -> set[str]:
    """The names that a module defines: its functions, classes and variables, and the attributes of its objects."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_own(node.value):
            found.add(node.attr)
    return found


def is_own(node: ast.expr) -> bool:
    node = node.func if isinstance(node, ast.Call) else node
    return isinstance(node, ast.Name) and node.id in ("self", "cls", "super")


def touched(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Yield each private name that a module takes from another one: its line, in words, and the name."""
    own = own_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and not is_own(node.value):
            if node.attr not in own:
                yield node.lineno, ast.unparse(node), node.attr
        elif isinstance(node, ast.ImportFrom):
            for name in node.names:
                if is_private(name.name):
                    yield node.lineno, f"from {node.module} import {name.name}", name.name


@pytest.mark.slow
def test_no_module_touches_a_private_name_of_another_one():
    found = [
        f"{path.relative_to(ROOT).as_posix()}:{line} {words}"
        for path in FILES
        for line, words, name in touched(ast.parse(path.read_text("utf-8")))
        if name not in ALLOWED or words.startswith("from tlkit")
    ]
    assert found == []


@pytest.mark.slow
def test_each_exception_is_needed():
    used = {name for path in FILES for _, _, name in touched(ast.parse(path.read_text("utf-8")))}
    assert ALLOWED.keys() <= used


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("net._frozen", ["net._frozen"]),
        ("self.net._frozen = 3", ["self.net._frozen"]),
        ("from tlkit.helper import _Rows", ["from tlkit.helper import _Rows"]),
        ("from tlkit import __version__\nself._own, cls._own, super()._own, x.__dict__, x._repr_html_()", []),
        ("class A:\n    def __eq__(self, other):\n        return other._key()\n    def _key(self): ...", []),
        ("def make():\n    store._rows\nclass Store:\n    def __init__(self):\n        self._rows = 1", []),
    ],
)
def test_what_counts_as_touching(text, found):
    assert [words for _, words, _ in touched(ast.parse(text))] == found
