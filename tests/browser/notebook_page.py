"""A notebook in JupyterLab, Notebook 7 or Voila, as a reader sees and touches it."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from front_ends import JupyterServer
from playing import FOUND_WITHIN, Locator, Page

__all__ = ["FRONT_ENDS", "NotebookPage"]

FRONT_ENDS = {
    "lab": "lab/workspaces/{workspace}/tree/{name}",
    "notebook": "notebooks/{name}",
    "voila": "voila/render/{name}",
}
RUN_WITHIN = 240_000  # milliseconds, for a whole notebook on a busy machine

# What the pages of JupyterLab and Notebook 7 know: `panel` is the notebook that is open.
PANEL = "const panel = window.jupyterapp.shell.currentWidget;"
KERNEL_IS_IDLE = f"() => {{ {PANEL} return panel?.sessionContext?.session?.kernel?.status === 'idle'; }}"
RUN_ALL = """() => { window.ranAll = '';
    window.jupyterapp.commands.execute('notebook:run-all-cells')
        .then(() => { window.ranAll = 'done'; }, error => { window.ranAll = String(error); }); }"""
CELLS = f"""() => {{ {PANEL} return [...panel.content.model.cells].map(cell => ({{
    source: cell.sharedModel.getSource(), type: cell.type, count: cell.executionCount,
    errors: cell.type === 'code' ? cell.outputs.toJSON().filter(output => output.output_type === 'error')
        .map(error => `${{error.ename}}: ${{error.evalue}}`) : [] }})); }}"""
SELECTION = f"() => {{ {PANEL} const c = panel.content; return [c.model.cells.length, c.activeCellIndex, c.mode]; }}"
ASK = f"""async code => {{ {PANEL}
    const future = panel.sessionContext.session.kernel.requestExecute({{ code, store_history: false }});
    let said = '';
    future.onIOPub = message => {{
        if (message.header.msg_type === 'stream') said += message.content.text;
        if (message.header.msg_type === 'error') said += message.content.ename + ': ' + message.content.evalue; }};
    await future.done;
    return said; }}"""


class NotebookPage:
    """A page with one notebook; the same for all front ends.

    Parameters
    ----------
    page : playwright.sync_api.Page
        An empty one; the caller closes it.
    server : JupyterServer
        Where the notebook lies.
    front_end : {"lab", "notebook", "voila"}
        What shows it.

    Attributes
    ----------
    page : playwright.sync_api.Page
        For what this class has no word for.
    problems : list of str
        Errors that scripts of the page have raised.
    """

    def __init__(self, page: Page, server: JupyterServer, front_end: str = "lab") -> None:
        self.page, self.server, self.front_end = page, server, front_end
        self.name = ""
        self.problems: list[str] = []
        page.set_default_timeout(FOUND_WITHIN)
        page.on("pageerror", lambda error: self.problems.append(str(error)))

    # -- open and run -------------------------------------------------------------------------------------------

    def open(self, name: str) -> NotebookPage:
        """Open a notebook and wait for its kernel; Voila runs it at once."""
        self.name = name
        path = FRONT_ENDS[self.front_end].format(workspace=f"auto-{secrets.token_hex(3)}", name=name)
        self.page.goto(self.server.url(path), wait_until="domcontentloaded", timeout=RUN_WITHIN)  # Voila runs it first
        if self.front_end != "voila":
            self.page.wait_for_function("() => window.jupyterapp?.shell")
            self.page.evaluate("async () => { await window.jupyterapp.restored; }")
            self.page.locator(".jp-NotebookPanel:visible .jp-Notebook").wait_for()
            self.page.wait_for_function(KERNEL_IS_IDLE, timeout=2 * FOUND_WITHIN)
        return self

    def run_all(self) -> NotebookPage:
        """Run every cell, wait for the end, and fail where a cell shows an error or did not run."""
        if self.front_end == "voila":
            self.page.locator("#rendered_cells").wait_for(timeout=RUN_WITHIN)  # hidden until the last cell has run
            return self
        self.page.evaluate(RUN_ALL)
        self.page.wait_for_function("() => window.ranAll", timeout=RUN_WITHIN)
        self.page.wait_for_function(KERNEL_IS_IDLE)
        assert self.errors() == []
        assert self.page.evaluate("() => window.ranAll") == "done"
        left_out = [cell["source"] for cell in self._cells() if cell["type"] == "code" and not cell["count"]]
        assert not any(map(str.strip, left_out)), left_out
        return self

    def errors(self) -> list[str]:
        """Return what the outputs of cells report as errors."""
        return [error for cell in self._cells() for error in cell["errors"]]

    def save(self) -> Path:
        """Save the notebook as the disk icon does, and return its file."""
        self.page.evaluate(f"async () => {{ {PANEL} await panel.context.save(); }}")
        return self.server.folder / self.name

    def command(self, name: str) -> None:
        """Choose an entry of JupyterLab's menus."""
        self.page.evaluate("async name => { await window.jupyterapp.commands.execute(name); }", name)

    def ask(self, code: str) -> str:
        """Run code in the notebook's kernel, beside its cells, and return what it printed."""
        return self.page.evaluate(ASK, code)

    def close(self) -> None:
        """End the kernel and close the page."""
        if self.front_end != "voila":
            self.page.evaluate(f"async () => {{ {PANEL} await panel?.sessionContext.shutdown(); }}")
        self.page.close()

    # -- find and touch -----------------------------------------------------------------------------------------

    def widget(self, label: str) -> Locator:
        """Return the widget that has a text such as the label of one of its controls; its output is brought to view."""
        found = self.page.locator(".tlkit-widget").filter(has_text=label).last
        found.scroll_into_view_if_needed()
        return found

    def control(self, widget: Locator, role: str, label: str) -> Locator:
        """Return a control by its role and its accessible name."""
        return widget.get_by_role(role, name=label, exact=True)

    def press(self, control: Locator, *keys: str) -> None:
        """Give a control the focus and press keys."""
        control.focus()
        for key in keys:
            self.page.keyboard.press(key)

    def unfold(self, widget: Locator) -> None:
        """Open every folded part of a widget, by keys."""
        for header in widget.locator(".jupyter-widget-Collapse-header[aria-expanded=false]").all()[::-1]:
            self.press(header, "Enter")

    def selection(self) -> list[Any]:
        """Return how many cells there are, which one is selected, and the mode: what keys must leave alone."""
        return self.page.evaluate(SELECTION)

    # -- looks --------------------------------------------------------------------------------------------------

    def use_theme(self, name: str) -> None:
        """Choose "JupyterLab Light" or "JupyterLab Dark"."""
        self.page.evaluate(
            "async theme => { await window.jupyterapp.commands.execute('apputils:change-theme', { theme }); }", name
        )
        self.page.locator(f"body[data-jp-theme-name='{name}']").wait_for(state="attached")

    def use_screen(self, width: int, height: int) -> None:
        """Choose how many CSS pixels the page has; at a zoom of 125% it has four fifths as many each way."""
        self.page.set_viewport_size({"width": width, "height": height})

    def _cells(self) -> list[dict[str, Any]]:
        return self.page.evaluate(CELLS)
