"""Every example of a docstring runs as it stands: pasted into a new Python, in an empty folder."""

from __future__ import annotations

import ast
import doctest
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef


def examples() -> Iterator[doctest.DocTest]:
    """Yield the examples of each docstring; nothing is imported before they run."""
    for path in sorted((ROOT / "tlkit").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            text = ast.get_docstring(node, clean=False) if isinstance(node, DOCUMENTED) else None
            if text and ">>>" in text:
                name = f"{path.relative_to(ROOT).as_posix()}:{getattr(node, 'name', 'module')}"
                yield doctest.DocTestParser().get_doctest(text, {}, name, str(path), node.body[0].lineno - 1)


EXAMPLES = list(examples())
SLOW = (
    "tlkit/builder.py:TransferLearning",  # draws the weights of VGG16
    "tlkit/exporting.py:export_onnx",
    "tlkit/profiling.py:freeze_profile",  # a head at each of 19 cut points
    "tlkit/scale/planning.py:plan",  # draws the weights of VGG16
    "tlkit/widgets/freeze_picker.py:FreezePicker",  # and once more
)


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(example, id=example.name, marks=[pytest.mark.slow] if example.name in SLOW else [])
        for example in EXAMPLES
    ],
)
def test_an_example_runs_and_answers_what_it_says(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, _ = doctest.DocTestRunner(optionflags=flags).run(example, out=said.append)
    if "ipywidgets" in sys.modules:
        sys.modules["ipywidgets"].Widget.close_all()  # other tests look at all widgets that there are
    assert not failed, "".join(said)


def test_hardly_an_example_is_skipped():
    lines = [line for example in EXAMPLES for line in example.examples]
    assert len(lines) > 100
    assert len([line for line in lines if line.options.get(doctest.SKIP)]) <= 3  # a cluster, and eight epochs
