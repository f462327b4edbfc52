"""The site that `make docs` builds: complete, without a broken link, and without anything from other machines."""

from __future__ import annotations

import html.parser
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytestmark = pytest.mark.slow  # builds the site

pytest.importorskip("sphinx", reason="needs Sphinx (pip install '.[docs]')")

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


@dataclass
class Page(html.parser.HTMLParser):
    """What a page links to, what it loads, its anchors, and its images without a text."""

    path: Path
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    silent_images: int = 0
    images: int = 0

    def __post_init__(self) -> None:
        super().__init__()
        self.text = self.path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if found.get(LOADED.get(tag, "")):
            self.loaded.append(found[LOADED[tag]])
        if tag == "img":
            self.images += 1
            self.silent_images += not found.get("alt")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, str]:
    """The site, and what Sphinx said."""
    folder = tmp_path_factory.mktemp("site")
    command = ["-m", "sphinx", "--keep-going", "--nitpicky", "--quiet", "-b", "html", "-d", folder / "doctrees"]
    done = subprocess.run(
        [sys.executable, *command, "-c", "docs", ".", folder / "html"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder / "html", done.stderr


@pytest.fixture(scope="module")
def pages(built) -> dict[Path, Page]:
    return {path: Page(path) for path in built[0].rglob("*.html")}


def test_sphinx_has_nothing_to_warn_of(built):
    assert built[1] == ""


def test_every_page_and_notebook_is_there_and_in_the_contents(built, pages):
    folder = built[0]
    written = [*(path.stem for path in ROOT.glob("docs/*.md")), *(path.stem for path in NOTEBOOKS)]
    stems = {path.stem for path in pages}
    assert set(written) <= stems
    first = pages[folder / "index.html"]
    assert first.text == (folder / "README.html").read_text(encoding="utf-8")
    linked = {Path(urlsplit(link).path).stem for link in first.links}
    assert {*written, "CONTRIBUTING", "CHANGELOG"} <= linked


def test_links_lead_to_pages_and_places_that_exist(pages):
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link == "#":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            anchor = unquote(parts.fragment)
            if not target.exists() or (anchor and target in pages and anchor not in pages[target].anchors):
                broken.append(f"{path.name}: {link}")
    assert not broken


def test_nothing_is_loaded_from_another_machine(built, pages):
    for path, page in pages.items():
        for address in page.loaded:
            parts = urlsplit(address)
            assert parts.scheme in ("", "data"), f"{path.name} loads {address}"
            assert not parts.netloc, f"{path.name} loads {address}"
            assert parts.scheme or (path.parent / unquote(parts.path)).exists(), f"{path.name} lacks {address}"
    for sheet in built[0].rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert "url(http" not in text
        assert "@import" not in text


def test_notebooks_show_their_stored_outputs_and_the_widgets_still_pictures(built, pages):
    for path in NOTEBOOKS:
        outputs = [
            output
            for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
            for output in cell.get("outputs", ())
        ]
        page = pages[built[0] / "notebooks" / f"{path.stem}.html"]
        assert not any(WIDGET_VIEW in output.get("data", {}) for output in outputs)
        assert "Error displaying widget" not in page.text
        assert page.text.count('<div class="output') + page.text.count("cell_output") >= len(outputs)
        drawn = sum("image/png" in output.get("data", {}) for output in outputs)
        assert page.images >= drawn


def test_every_image_has_a_text(pages):
    assert {path.name: page.silent_images for path, page in pages.items() if page.silent_images} == {}
