"""Executed notebooks as web pages that need no network, and the page that lists them."""

from __future__ import annotations

import datetime
import html
import json
import logging
import platform
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import nbformat

from tlkit.course.lessons import costs, normalizer
from tlkit.course.lessons.runner import Outcome

__all__ = ["report", "write_index", "write_page", "write_report"]

TEMPLATE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js_requirejs -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block body_header -%}
{{ super() }}
<nav class="jp-RenderedHTMLCommon"><a href="index.html">All notebooks</a></nav>
{%- endblock -%}
{%- block data_png -%}
<div class="jp-RenderedImage jp-OutputArea-output">
<img src="data:image/png;base64,{{ output.data['image/png'] | escape_html }}"
{%- set alt = output | get_metadata('alt', 'image/png') %}{% if alt %} alt="{{ alt | escape_html }}"{% endif %}>
</div>
{%- endblock -%}
"""

INDEX = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Transfer learning, the notebooks</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 17px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2.5rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.7rem; margin-bottom: 0.3rem; }}
table {{ border-collapse: collapse; width: 100%; margin: 1.5rem 0; }}
th, td {{ text-align: left; padding: 0.45rem 0.8rem; border-bottom: 1px solid #8886; vertical-align: top; }}
td.number, th.number {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
tfoot td, tfoot th {{ border-bottom: none; font-weight: 600; }}
.failed, .slow {{ font-weight: 600; }}
.error {{ display: block; font-weight: 400; overflow-wrap: anywhere; }}
small {{ opacity: 0.8; }}
</style>
</head>
<body>
<h1>Transfer learning, notebook by notebook</h1>
<p>{circumstances}</p>
<table>
<thead><tr><th scope="col">Notebook</th><th scope="col">Section</th><th scope="col" class="number">Time, s</th>
<th scope="col" class="number">Peak memory, GB</th><th scope="col">Status</th></tr></thead>
<tbody>
{rows}
</tbody>
<tfoot><tr><th scope="row">All</th><td></td><td class="number">{seconds:.0f}</td>
<td class="number">{gigabytes:.1f}</td><td>{status}</td></tr></tfoot>
</table>
<p><small>Time is wall time from the start of the notebook's Python process. Memory is the largest resident size of that
process and those it started. Each page shows the widgets as pictures; <code>make lab</code> opens the live
notebooks.</small></p>
</body>
</html>
"""


def write_page(executed: Path, page: Path) -> None:
    """Write an executed notebook as one HTML file: images inside, links to other notebooks led to their pages."""
    from jinja2 import DictLoader
    from nbconvert import HTMLExporter

    notebook = normalizer.static(nbformat.read(executed, as_version=4))
    exporter = HTMLExporter(
        extra_loaders=[DictLoader({"page.html.j2": TEMPLATE})],
        template_file="page.html.j2",
        embed_images=_has_pictures_in_text(notebook),  # with it, nbconvert closes each <details> at once
    )
    exporter.log.setLevel(logging.ERROR)
    notebook.metadata["title"] = page.stem
    body, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": page.stem}})
    page.write_text(re.sub(r'href="([\w.-]+)\.ipynb(#[^"]*)?"', r'href="\1.html\2"', body), encoding="utf-8")


def report(outcomes: Sequence[Outcome], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run found: the circumstances, and each notebook's cost and status."""
    default = not any(parameters.values())
    rows = [
        {
            "notebook": outcome.name,
            "title": outcome.title,
            "seconds": round(outcome.cost.seconds, 2),
            "peak_bytes": outcome.cost.peak_bytes,
            "status": "failed" if outcome.error else "ran",
            "error": outcome.error,
            "warning": outcome.cost.over_limits() if default else "",
            "parameters": parameters.get(outcome.name, {}),
        }
        for outcome in outcomes
    ]
    return {
        "made": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "torch": _version("torch"),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": costs.cores(),
        "notebooks": rows,
    }


def _has_pictures_in_text(notebook: nbformat.NotebookNode) -> bool:
    return any(re.search(r"!\[|<img\b", cell.source) for cell in notebook.cells if cell.cell_type == "markdown")


def write_report(found: Mapping[str, Any], path: Path) -> None:
    """Write a run's report as JSON."""
    path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_index(found: Mapping[str, Any], path: Path) -> None:
    """Write the page that lists a run's notebooks, with links to their pages beside it."""
    rows = found["notebooks"]
    failed = sum(row["status"] == "failed" for row in rows)
    passed = {f"{name} = {value!r}" for row in rows for name, value in row["parameters"].items()}
    circumstances = (
        f"Made {found['made'][:16].replace('T', ' ')} on {found['machine']} with {found['cores']} cores, "
        f"Python {found['python']}, torch {found['torch']}; "
        f"{', '.join(sorted(passed)) if passed else 'every parameter on its default'}."
    )
    page = INDEX.format(
        circumstances=html.escape(circumstances),
        rows="\n".join(_row(row) for row in rows),
        seconds=sum(row["seconds"] for row in rows),
        gigabytes=max((row["peak_bytes"] for row in rows), default=0) / 1e9,
        status=f"{failed} failed" if failed else f"all {len(rows)} ran",
    )
    path.write_text(page, encoding="utf-8")


def _row(row: Mapping[str, Any]) -> str:
    name = html.escape(row["notebook"])
    status = f'<span class="{row["status"]}">{row["status"]}</span>'
    if row["error"]:
        status += f' <span class="error">{html.escape(row["error"])}</span>'
    if row["warning"]:
        status += f', <span class="slow">{html.escape(row["warning"])}</span>'
    return (
        f'<tr><td><a href="{name}.html">{name}</a><br><small><a href="{name}.ipynb">{name}.ipynb</a></small></td>'
        f'<td>{html.escape(row["title"])}</td><td class="number">{row["seconds"]:.1f}</td>'
        f'<td class="number">{row["peak_bytes"] / 1e9:.2f}</td><td>{status}</td></tr>'
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
