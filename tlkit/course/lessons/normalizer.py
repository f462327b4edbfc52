"""Committed notebooks in one normal form: small, stable, and readable where no widget can run."""

from __future__ import annotations

import base64
import io
import os
import re
from pathlib import Path

import nbformat

__all__ = ["is_normalized", "normalize", "read", "static", "text", "write"]

VIEWS = ("application/vnd.jupyter.widget-view+json", "application/vnd.jupyter.widget-state+json")
KEPT_OF_NOTEBOOK = {"kernelspec", "language_info"}
KEPT_OF_CELL = {"tags", "jupyter", "slideshow", "editable", "deletable", "collapsed", "alt"}
LARGE_IMAGE = 60_000  # bytes
BAR = re.compile(r"[^|\n]*\d+%\|[^|\n]*\| *\d+/")


def read(path: Path) -> nbformat.NotebookNode:
    """Read a notebook as it lies in the file; nbformat's own reader would give missing cell ids random values."""
    return nbformat.v4.reads(Path(path).read_text(encoding="utf-8"))


def text(notebook: nbformat.NotebookNode) -> str:
    """Return the file's text of a notebook."""
    return nbformat.writes(notebook, version=4) + "\n"


def write(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Put a notebook in its place in one step, so that an interrupted write leaves the old one."""
    part = path.with_name(path.name + ".part")
    part.write_text(text(notebook), encoding="utf-8")
    os.replace(part, path)


def is_normalized(path: Path) -> bool:
    """Whether normalizing the file would leave it as it is."""
    return text(normalize(read(path))) == Path(path).read_text(encoding="utf-8")


def normalize(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Bring a notebook into normal form, in place, and return it.

    Widget state and views go (their static faces stay), and so do papermill's traces, the interpreter's patch version
    and tracebacks with their paths. Tags, execution counts and outputs stay: nbval compares them.
    """
    notebook.nbformat_minor = max(5, notebook.nbformat_minor)
    for key in set(notebook.metadata) - KEPT_OF_NOTEBOOK:
        del notebook.metadata[key]
    notebook.metadata["kernelspec"] = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    notebook.metadata["language_info"] = {"name": "python"}
    static(notebook)
    ids: set[str] = set()
    count = 0
    for position, cell in enumerate(notebook.cells):
        for key in set(cell.metadata) - KEPT_OF_CELL:
            del cell.metadata[key]
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]
        _give_id(cell, position, ids)
        if cell.cell_type == "code":
            count += cell.execution_count is not None
            _normalize_outputs(cell, count)
    return notebook


def static(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop what a page cannot show, in place: widget state and views, progress bars and what they have overwritten."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if "outputs" not in cell:
            continue
        for output in cell.outputs:
            for mime in VIEWS:
                output.get("data", {}).pop(mime, None)
        cell.outputs = _merged([output for output in cell.outputs if not _is_bar(output)])
    return notebook


def _is_bar(output: nbformat.NotebookNode) -> bool:
    """Whether all that is left of a widget is a progress bar as it was when it was shown: at nothing."""
    data = output.get("data", {})
    return set(data) == {"text/plain"} and BAR.match(data["text/plain"]) is not None


def _merged(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    merged: list[nbformat.NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and merged and merged[-1].get("name") == output.name:
            merged[-1].text += output.text
        else:
            merged.append(output)
    for output in merged:
        if output.output_type == "stream":  # keep only what a terminal would show after carriage returns
            output.text = re.sub(r"[^\n]*\r(?!\n)", "", output.text)
    return merged


def _give_id(cell: nbformat.NotebookNode, position: int, taken: set[str]) -> None:
    if not cell.get("id") or cell["id"] in taken:
        cell["id"] = next(name for name in _names(position) if name not in taken)
    taken.add(cell["id"])


def _names(position: int):
    yield f"cell-{position:03d}"
    yield from (f"cell-{position:03d}-{copy}" for copy in range(2, 1000))


def _normalize_outputs(cell: nbformat.NotebookNode, count: int) -> None:
    if cell.execution_count is not None:
        cell.execution_count = count
    outputs: list[nbformat.NotebookNode] = []
    for output in cell.outputs:
        if output.output_type == "execute_result":
            output.execution_count = cell.execution_count
        if output.output_type == "error":
            output.traceback = [f"\x1b[31m{output.ename}\x1b[39m: {output.evalue}"]
        if "data" in output:
            _normalize_images(output)
            if not output.data:
                continue
        outputs.append(output)
    cell.outputs = outputs


def _normalize_images(output: nbformat.NotebookNode) -> None:
    for mime, metadata in list(output.get("metadata", {}).items()):
        if isinstance(metadata, dict):
            metadata.pop("needs_background", None)
            if not metadata:
                del output.metadata[mime]
    output.get("metadata", {}).pop("needs_background", None)
    if "image/png" in output.data:
        output.data["image/png"] = _small_png(output.data["image/png"])


def _small_png(encoded: str) -> str:
    """Give a picture a palette where that loses nothing, or where it is too large for a repository."""
    from PIL import Image

    raw = base64.b64decode(encoded)
    image = Image.open(io.BytesIO(raw), formats=["PNG"])
    if image.mode not in ("RGB", "RGBA"):
        return encoded
    if image.mode == "RGBA":
        if image.getextrema()[3] != (255, 255):
            return encoded
        image = image.convert("RGB")
    if image.getcolors(256) is None and len(raw) <= LARGE_IMAGE:
        return encoded
    image = image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    image.info.clear()
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode() + "\n"
