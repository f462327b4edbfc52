"""`make docs`: Sphinx makes the site from the repository as it lies, so that links lead to the same places on GitHub.

The notebooks are shown with the outputs that are stored in them. Nothing is run, and nothing is loaded from elsewhere.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).parent.parent

project = "tlkit"
extensions = ["myst_nb"]
root_doc = "README"
include_patterns = ["*.md", "docs/*.md", "notebooks/*.ipynb", "benchmarks/README.md", "binder/README.md"]
exclude_patterns = [".*", "build", "dist", "notebooks/out"]

nb_execution_mode = "off"
highlight_language = "none"  # of code blocks that name no language: commands for a terminal
myst_heading_anchors = 3
myst_enable_extensions = ["tasklist"]
suppress_warnings = ["misc.highlighting_failure"]  # cells that begin with % or !

html_theme = "furo"
html_title = "tlkit"
html_favicon = "icon.svg"
html_logo = "icon.svg"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_copy_source = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}

# the pages beside the notebooks, in the order in which they are shown
DOCS = [
    "installation",
    "teaching",
    "offline",
    "scale",
    "troubleshooting",
    "dl4j-to-tlkit",
    "save-format",
    "store-format",
]
PROJECT = ["benchmarks/README", "binder/README", "CONTRIBUTING", "CHANGELOG"]
TOCTREE = """

```{{toctree}}
:hidden:
:caption: {caption}

{entries}
```
"""


def numbered(path: Path) -> str:
    """Return a notebook's entry, with the number by which the others speak of it."""
    first = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
    return f"{path.stem[:2]} {first.splitlines()[0].lstrip('# ')} </notebooks/{path.stem}>"


def add_contents(app: Sphinx, docname: str, source: list[str]) -> None:
    """Append the table of contents to the first page; on GitHub it would show as code."""
    if docname == root_doc:
        notebooks = [numbered(path) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
        parts = {"Notebooks": notebooks, "Guides": [f"/docs/{name}" for name in DOCS], "Project": PROJECT}
        source[0] += "".join(TOCTREE.format(caption=name, entries="\n".join(of)) for name, of in parts.items())


def add_index(app: Sphinx, problem: Exception | None) -> None:
    """Show the first page under the name that browsers ask for, too."""
    if problem is None and app.builder.format == "html":
        shutil.copy(Path(app.outdir, f"{root_doc}.html"), Path(app.outdir, "index.html"))


def lead_to_pages(app: Sphinx, pagename: str, template: str, context: dict[str, Any], *rest: object) -> None:
    """Lead links in the notebooks' outputs, which Sphinx leaves as they are, to the pages of the site."""
    if pagename.startswith("notebooks/"):
        body = re.sub(r'href="([\w.-]+)\.ipynb(#[^"]*)?"', r'href="\1.html\2"', context["body"])
        context["body"] = re.sub(r'href="(#[^"]+)"', lambda found: found[0].lower(), body)  # JupyterLab keeps capitals


def setup(app: Sphinx) -> None:
    """Tell Sphinx of these."""
    app.connect("html-page-context", lead_to_pages)
    app.connect("source-read", add_contents)
    app.connect("build-finished", add_index)
