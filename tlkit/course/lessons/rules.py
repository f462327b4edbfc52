"""The house rules of a committed notebook, each one a question that a file answers."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat

from tlkit.course.lessons import costs, normalizer, parameters
from tlkit.errors import quoted

__all__ = ["PARAMETERS", "RULES", "problems"]

PARAMETERS = ("BACKBONE", "IMAGES", "EPOCHS", "DEVICE", "SEED", "OUT")
LONGEST_CELL = 18  # lines: fits on a projector without scrolling
LARGEST_FILE = 500_000  # bytes
ABSOLUTE_PATH = re.compile(
    r"(?<![\w.:/~>-])/(?:home|root|tmp|usr|opt|var|mnt|media|srv|work|private|Users|Volumes|content)/[\w.-]+"
    r"|\b[A-Z]:\\+(?:Users|Windows|Program)"
)
EMBEDDED = re.compile(r"data:[\w/+.-]+;base64,[A-Za-z0-9+/=\s]+")
IMAGE_TAG = re.compile(r"<img\b[^>]*>", re.IGNORECASE)

Rule = Callable[[Path, nbformat.NotebookNode], Iterator[str]]


def valid_format(path: Path, notebook: nbformat.NotebookNode) -> Iterator[str]:
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        yield f"It is no valid notebook: {str(error).splitlines()[0]}"


def parameters_first(path: Path, notebook: nbformat.NotebookNode) -> Iterator[str]:
    first = next((cell for cell in notebook.cells if cell.cell_type == "code"), None)
    if first is None or first is not parameters.cell(notebook):
        yield "Its first code cell is not tagged 'parameters'."
        return
    try:
        names = parameters.assigned(first.source)
    except parameters.ParameterError as error:
        yield str(error)
        return
    missing = [name for name in PARAMETERS if name not in names]
    if missing:
        yield f"Its parameters cell lacks {quoted(missing)}."
    if any("injected-parameters" in cell.metadata.get("tags", ()) for cell in notebook.cells):
        yield "It was rendered with parameters; `make render` runs it on its defaults."


def cost_card(path: Path, notebook: nbformat.NotebookNode) -> Iterator[str]:
    first = notebook.cells[0] if notebook.cells else None
    cost = costs.card_cost(first.source) if first is not None and first.cell_type == "markdown" else None
    if cost is None:
        yield "Its first cell lacks a line such as 'Reading 8 min · run 12 s, 0.9 GB on 2 cores (measured 2026-11-24)'."
    elif cost.over_limits():
        yield f"Its cost line says that {cost.over_limits()}."


def headings_in_order(path: Path, notebook: nbformat.NotebookNode) -> Iterator[str]:
    levels = [(len(mark), words) for mark, words in _headings(notebook)]
    if [level for level, _ in levels].count(1) != 1 or levels[0][0] != 1:
        yield "It needs one first-level heading, before all others."
    for (above, _), (level, words) in itertools.pairwise(levels):
        if level > above + 1:
            yield f"The heading {words!r} skips a level."


def short_cells(path: Path, notebook: nbformat.NotebookNode) -> Iterator[str]:
    for number, cell in _code(notebook):
        lines = len(cell.source.splitlines())
        if lines > LONGEST_CELL:
            yield f"Code cell {number} has {lines} lines; {LONGEST_CELL} fit on a screen."


def run_in_order(path: Path, notebook: nbformat.NotebookNode) -> Iterator[str]:
    counts = [cell.execution_count for _, cell in _code(notebook) if cell.source.strip()]
    if counts != list(range(1, len(counts) + 1)):
        yield f"Its cells were not run once, from top to bottom: {counts}."
    for number, cell in _code(notebook):
        if any(output.get("execution_count", cell.execution_count) != cell.execution_count for output in cell.outputs):
            yield f"An output of code cell {number} comes from another run."


def errors_announced(path: Path, notebook: nbformat.NotebookNode) -> Iterator[str]:
    for number, cell in _code(notebook):
        failed = [output.ename for output in cell.outputs if output.output_type == "error"]
        if failed and "raises-exception" not in cell.metadata.get("tags", ()):
            yield f"Code cell {number} ends in {failed[0]} and is not tagged 'raises-exception'."


def no_absolute_paths(path: Path, notebook: nbformat.NotebookNode) -> Iterator[str]:
    for number, cell in enumerate(notebook.cells):
        for found in sorted(set(ABSOLUTE_PATH.findall(EMBEDDED.sub("", _words(cell))))):
            yield f"Cell {number} of {len(notebook.cells)} shows {found!r}, a place on one machine."


def described_images(path: Path, notebook: nbformat.NotebookNode) -> Iterator[str]:
    for number, cell in _code(notebook):
        for output in cell.outputs:
            data = output.get("data", {})
            tags = IMAGE_TAG.findall(data.get("text/html", ""))
            picture = next((mime for mime in ("image/png", "image/jpeg") if mime in data), None)
            spoken = tags or output.get("metadata", {}).get(picture, {}).get("alt")
            if any('alt="' not in tag and "alt='" not in tag for tag in tags) or (picture and not spoken):
                yield f"An image of code cell {number} has no alternative text."
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and re.search(r"!\[\s*\]\(", cell.source):
            yield "An image in its text has no alternative text."


def small_file(path: Path, notebook: nbformat.NotebookNode) -> Iterator[str]:
    size = path.stat().st_size
    if size >= LARGEST_FILE:
        yield f"It has {size:,} bytes; {LARGEST_FILE:,} is the limit."


def normal_form(path: Path, notebook: nbformat.NotebookNode) -> Iterator[str]:
    if not normalizer.is_normalized(path):
        yield "It is not in normal form; `make render` or `python -m tlkit.course.lessons normalize` brings it there."


RULES: tuple[Rule, ...] = (
    valid_format,
    parameters_first,
    cost_card,
    headings_in_order,
    short_cells,
    run_in_order,
    errors_announced,
    no_absolute_paths,
    described_images,
    small_file,
    normal_form,
)


def problems(path: Path) -> list[str]:
    """Return, as sentences, where a notebook breaks a rule of the house."""
    notebook = normalizer.read(path)
    return [problem for rule in RULES for problem in rule(path, notebook)]


def _code(notebook: nbformat.NotebookNode) -> list[tuple[int, nbformat.NotebookNode]]:
    return list(enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), start=1))


def _headings(notebook: nbformat.NotebookNode) -> Iterator[tuple[str, str]]:
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"^(```|~~~).*?^\1", "", cell.source, flags=re.DOTALL | re.MULTILINE)
            yield from re.findall(r"^(#{1,6}) +(.+)$", prose, flags=re.MULTILINE)


def _words(cell: nbformat.NotebookNode) -> str:
    parts = [cell.source]
    for output in cell.get("outputs", ()):
        parts += [output.get("text", ""), output.get("evalue", ""), *output.get("traceback", ())]
        parts += [value for mime, value in output.get("data", {}).items() if mime.startswith("text/")]
    return "\n".join(parts)
