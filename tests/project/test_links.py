"""Links: those between files lead somewhere, and those that name the repository name one owner and one tag."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10; pytest brings the same reader
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PAGES = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/*.md"),
    *ROOT.glob("notebooks/*.ipynb"),
    *(ROOT / name for name in ("benchmarks/README.md", "binder/README.md", "tests/acceptance/README.md")),
]
NOTEBOOKS = sorted(path.name for path in ROOT.glob("notebooks/*.ipynb"))
LINK = re.compile(r"\]\(([^)\s]+)\)")
OUTSIDE = ("http://", "https://", "mailto:")
# a link to the repository, its parts by name
REPOSITORY = (
    r"https://mybinder\.org/v2/gh/(?P<owner>[^/]+)/(?P<name>[^/]+)/(?P<tag>[^/?]+)\?urlpath=lab/tree/(?P<path>[^)\s\"]+)",
    r"https://colab\.research\.google\.com/github/(?P<owner>[^/]+)/(?P<name>[^/]+)/blob/(?P<tag>[^/]+)/(?P<path>[^)\s\"]+)",
    r"https://github\.com/(?P<owner>[^/]+)/(?P<name>tlkit)(?:@(?P<tag>[\w.]+))?(?P<path>)",
)


@cache
def prose(path: Path) -> str:
    """A page without its blocks of code; of a notebook, its text cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return re.sub(r"^( *)```.*?^\1```", "", text, flags=re.DOTALL | re.MULTILINE)


@cache
def anchors(path: Path) -> set[str]:
    """The names by which GitHub and Sphinx know a page's headings."""
    headings = re.findall(r"^#{1,6} +(.+)$", prose(path), re.MULTILINE)
    bare = [re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).lower()) for text in headings]
    return {text.strip().replace(" ", "-") for text in bare}


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_between_files_lead_somewhere(page):
    broken = []
    for link in LINK.findall(prose(page)):
        target, _, anchor = link.partition("#")
        if link.startswith(OUTSIDE):
            continue
        place = (page.parent / target).resolve() if target else page
        if not place.is_file() or not place.is_relative_to(ROOT) or (anchor and anchor not in anchors(place)):
            broken.append(link)
    assert not broken


def repository_links() -> list[tuple[str, re.Match[str]]]:
    files = [path for path in PAGES if path.suffix == ".md"] + [ROOT / "CITATION.cff"]
    texts = [(named(path), path.read_text(encoding="utf-8")) for path in files]
    return [(name, found) for name, text in texts for pattern in REPOSITORY for found in re.finditer(pattern, text)]


def version() -> str:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def test_all_links_to_the_repository_name_one_owner_one_repository_and_the_tag_of_this_version():
    links = repository_links()
    assert len(links) > len(NOTEBOOKS)
    assert len({(found["owner"], found["name"]) for _, found in links}) == 1
    assert {found["tag"] for _, found in links if found["tag"]} == {f"v{version()}"}
    branches = re.findall(r"git clone --branch (\S+)", "".join(path.read_text(encoding="utf-8") for path in PAGES))
    assert set(branches) == {f"v{version()}"}


def test_launch_links_open_notebooks_that_exist():
    for name, found in repository_links():
        assert not found["path"] or (ROOT / found["path"]).is_file(), name


def test_the_readme_launches_every_notebook():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"\]\(notebooks/([\w.]+)\) \| \[run\]\(https://mybinder\S+/notebooks/([\w.]+)\)", text)
    assert rows == [(name, name) for name in NOTEBOOKS]


def test_the_version_is_said_alike_everywhere():
    import tlkit

    assert tlkit.__version__ == version()
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == version()
    assert {"cff-version", "message", "title", "authors", "license"} <= citation.keys()
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## ([\d.]+)", changes, re.MULTILINE)[1] == version()
