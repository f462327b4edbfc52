"""Small notebooks for the tests of what runs, renders and checks notebooks."""

from __future__ import annotations

import io
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

CARD = "Reading 8 min · run 12 s, 0.9 GB on 2 cores (measured 2026-11-24) · [next](01_next.ipynb)"
DEFAULTS = 'BACKBONE = "small"\nIMAGES = "drawn"\nEPOCHS = 1\nDEVICE = "auto"\nSEED = 13\nOUT = "out"'


def code(source, *outputs, tags=(), count=None):
    return new_code_cell(source, outputs=list(outputs), execution_count=count, metadata={"tags": list(tags)})


def notebook(path: Path, *cells, heading="First steps") -> Path:
    """Write a notebook with a title, a cost line, a parameters cell and the given cells."""
    first = new_markdown_cell(f"# {heading}\n\n{CARD}")
    nbformat.write(new_notebook(cells=[first, code(DEFAULTS, tags=["parameters"]), *cells]), path)
    return path


def outputs(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", ()))


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def executed() -> nbformat.NotebookNode:
    """A notebook as a run leaves it."""
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "a1"}, "text/plain": "IntSlider(value=0)"}
    bar = {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "fit:   0%|    | 0/27 [00:00<?, ?batch/s]"}
    error = new_output("error", ename="KeyError", evalue="'fc3'", traceback=["File /home/somebody/tlkit/graph.py:3"])
    cells = [
        new_markdown_cell("# Title"),
        code("a", new_output("stream", text="10%\r100%\n"), new_output("stream", text="done\n"), tags=["t"], count=4),
        code("b", new_output("execute_result", data=view, execution_count=6), count=6),
        code("c", new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {}}), count=7),
        code("bar", new_output("display_data", data=bar), new_output("stream", text="fitted\n"), count=7),
        code("d", error, tags=["raises-exception"], count=8),
        code("e"),
    ]
    cells[0].metadata["papermill"] = {"duration": 1}
    book = new_notebook(cells=cells, metadata={"widgets": {"state": {}}, "papermill": {}})
    book.metadata["language_info"] = {"name": "python", "version": "3.11.7"}
    return book
