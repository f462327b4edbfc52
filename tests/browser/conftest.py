"""One server, one browser, and pages of notebooks for these tests; one that fails leaves pictures in build/browser."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from front_ends import BROWSER_OPTIONS, ROOT, JupyterServer, find_chromium, running_server
from small_notebook import CELLS, write_notebook

PICTURES_A_CLASS = 24
FAILURES = ROOT / "build" / "browser"
# It writes to docs/, so it is a test only where somebody asks for it.
collect_ignore = [] if os.environ.get("TLKIT_SCREENSHOTS") == "1" else ["test_screenshots.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("browser")]
    reason = _no_browser() if marked else ""
    for item in marked if reason else ():
        item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share the tests among processes so that each page is opened in one of them; notebooks go one by one."""
    from xdist.scheduler import LoadScopeScheduling

    class ByPage(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, _, test = nodeid.partition("::")
            shown = re.split(r"[\[\]-]", test)[1:2]  # the first parameter: a front end or a notebook
            return file if file.endswith("test_looks.py") else f"{file} {shown}"

    return ByPage(config, log)


def _no_browser() -> str:
    """Return why there is no browser. TLKIT_TEST_BROWSER=1 asks for one all the same; another text is a reason."""
    wish = os.environ.get("TLKIT_TEST_BROWSER", "")
    if wish:
        return "" if wish == "1" else wish
    return "" if find_chromium() else "needs a browser: apt install chromium"


@pytest.fixture(scope="session")
def photos_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few flowers in a subfolder for each class, so that real notebooks run in seconds."""
    import tlkit as tl

    folder = tmp_path_factory.mktemp("notebooks") / "flowers"
    flowers = tl.images.load("drawn", split=None, per_class=PICTURES_A_CLASS)
    for path in flowers.paths:
        copy = folder / path.parent.name / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flower that no notebook sees unless it is uploaded, in a folder named like its class."""
    from tlkit.images.drawing import draw_flower

    photo = tmp_path_factory.mktemp("uploads") / "sunflowers" / "mine.png"
    photo.parent.mkdir()
    draw_flower("sunflowers", 999).save(photo)
    return photo


@pytest.fixture(scope="session")
def server(photos_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    """A server for copies of the notebooks, and for a small one that holds every widget."""
    folder = photos_folder.parent
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        _copy(path, folder / path.name, {"IMAGES": photos_folder.name})
    write_notebook(folder / "widgets.ipynb", CELLS)
    with running_server(folder, tmp_path_factory.mktemp("state")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A context of a Chromium without a window. It ends with the module: until then no other test can use asyncio."""
    from playing import sync_playwright

    chromium = find_chromium()
    assert chromium, "TLKIT_TEST_BROWSER=1 asks for a browser, and there is none. Install it: apt install chromium"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=BROWSER_OPTIONS)
        yield launched.new_context(viewport={"width": 1280, "height": 1000}, reduced_motion="reduce")
        launched.close()


@pytest.fixture(scope="module")
def open_notebook(server: JupyterServer, browser: Any) -> Iterator[Callable[..., Any]]:
    """A function that opens a notebook and runs all of it, once for all tests of a module."""
    yield from _opening(server, browser)


@pytest.fixture
def open_alone(server: JupyterServer, browser: Any) -> Iterator[Callable[..., Any]]:
    """A function that opens a notebook and runs all of it, for one test."""
    yield from _opening(server, browser)


def _opening(server: JupyterServer, browser: Any) -> Iterator[Callable[..., Any]]:
    from notebook_page import NotebookPage

    pages: dict[tuple[str, str], NotebookPage] = {}

    def open_it(name: str, front_end: str = "lab") -> NotebookPage:
        if (name, front_end) not in pages:
            pages[name, front_end] = notebook = NotebookPage(browser.new_page(), server, front_end)
            notebook.open(name).run_all()
        pages[name, front_end].page.bring_to_front()
        return pages[name, front_end]

    open_it.pages = pages
    yield open_it
    for notebook in pages.values():
        notebook.close()


def _copy(source: Path, target: Path, parameters: dict[str, Any]) -> None:
    """Copy a notebook with other parameters, and without the outputs of the last run."""
    notebook = json.loads(source.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
            if "parameters" in cell["metadata"].get("tags", ()):
                cell["source"] = [*cell["source"], *(f"\n{name} = {value!r}" for name, value in parameters.items())]
    target.write_text(json.dumps(notebook), encoding="utf-8")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Any:
    report = yield
    given = [getattr(item, "funcargs", {}).get(name) for name in ("open_notebook", "open_alone")]
    opened = {place: page for opening in given if opening for place, page in opening.pages.items()}
    if report.failed and opened:
        FAILURES.mkdir(parents=True, exist_ok=True)
        for (name, front_end), notebook in opened.items():
            stem = re.sub(r"\W+", "-", f"{item.name} {Path(name).stem} {front_end}")
            notebook.page.screenshot(path=FAILURES / f"{stem}.png")
            text = notebook.page.locator("body").inner_text()
            said = "\n".join([text, *notebook.problems])
            (FAILURES / f"{stem}.txt").write_text(said, encoding="utf-8")
        report.sections.append(("browser", f"Pictures and texts of the pages are in {FAILURES.relative_to(ROOT)}."))
    return report
