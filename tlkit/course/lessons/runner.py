"""One notebook through papermill, in this process, with its cost measured."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from tlkit.course.lessons.costs import Cost, PeakMemory
from tlkit.errors import near_misses

__all__ = ["Outcome", "SelectionError", "execute", "select", "title"]


class SelectionError(ValueError):
    """A notebook that was asked for and isn't there."""


@dataclass(frozen=True)
class Outcome:
    """How one notebook's run went; ``error`` is a sentence, or empty when it reached its end."""

    name: str
    title: str
    cost: Cost
    error: str = ""


def select(wanted: Iterable[str] = (), folder: Path = Path("notebooks")) -> list[Path]:
    """Return the notebooks to work on: all of the folder's, or those given by path, name or leading number.

    Raises
    ------
    SelectionError
        When there is no notebook, or none of that name.
    """
    known = sorted(folder.glob("*.ipynb"))
    wanted = list(wanted)
    if not wanted and not known:
        msg = (
            f"There is no notebook in {str(folder)!r}. Start in the repository's top folder, or give notebooks by path."
        )
        raise SelectionError(msg)
    return [_find(name, known) for name in wanted] or known


def _find(name: str, known: list[Path]) -> Path:
    if Path(name).suffix == ".ipynb" and Path(name).is_file():
        return Path(name)
    hits = [path for path in known if name in (path.name, path.stem) or path.stem.startswith(f"{name}_")]
    if len(hits) == 1:
        return hits[0]
    names = [path.stem for path in known]
    msg = f"There is no notebook {name!r}.{near_misses(name, names)} Give a path, a name or the number in front of it."
    raise SelectionError(msg)


def title(notebook: nbformat.NotebookNode, otherwise: str) -> str:
    """Return the notebook's first heading."""
    for cell in notebook.cells:
        for line in cell.source.splitlines() if cell.cell_type == "markdown" else ():
            if line.startswith("#"):
                return line.lstrip("#").strip()
    return otherwise


def execute(source: Path, target: Path, parameters: Mapping[str, Any] | None = None, *, timeout: int = 600) -> Outcome:
    """Run a notebook in its own folder and write the executed copy to ``target``, also when a cell fails.

    Parameters
    ----------
    source, target
        The notebook, and where its executed copy goes.
    parameters
        Values for its parameters cell.
    timeout
        Seconds that one cell may take.
    """
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    _mend_output_widgets()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    error = ""
    start = time.perf_counter()
    with PeakMemory() as memory:
        try:
            papermill.execute_notebook(
                source.resolve(),
                target.resolve(),
                parameters=dict(parameters or {}),
                kernel_name="python3",
                language="python",
                cwd=source.resolve().parent,
                progress_bar=False,
                execution_timeout=timeout,
                start_timeout=120,
                shutdown_kernel="immediate",
                extra_arguments=["--log-level=ERROR"],
            )
        except PapermillExecutionError:
            error = _first_surprise(target)
        except CellTimeoutError:
            error = f"a cell was still running after {timeout} s; --timeout gives each cell more time"
        except DeadKernelError:
            error = "its Python process died; too little memory is the usual cause"
        except Exception as failure:  # a damaged notebook must not keep the others from running
            error = f"it could not be run: {type(failure).__name__}: {failure}"
    cost = Cost(time.perf_counter() - start, memory.bytes)
    return Outcome(source.stem, title(nbformat.read(source, as_version=4), source.stem), cost, error)


def _first_surprise(executed: Path) -> str:
    # papermill also raises for cells tagged raises-exception, although it ran past them to the end
    from papermill.execute import remove_error_markers

    notebook = nbformat.read(executed, as_version=4)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "error" and "raises-exception" not in cell.metadata.get("tags", ()):
                return f"cell [{cell.execution_count}] failed with {output.ename}: {output.evalue}"
    nbformat.write(remove_error_markers(notebook), executed)
    return ""


def _mend_output_widgets() -> None:
    # nbclient's Output widget sends on a synchronous shadow of the socket that it awaits, which can swallow the reply's
    # event and hang the run (jupyter/nbclient#312): look for waiting messages again after each send.
    from nbclient.output_widget import OutputWidget

    if hasattr(OutputWidget, "mended"):
        return
    publish = OutputWidget._publish_msg

    def publish_and_look(self: OutputWidget, *args: Any, **options: Any) -> Any:
        result = publish(self, *args, **options)
        look = getattr(self.kernel_client.shell_channel.socket, "_schedule_remaining_events", None)
        if look is not None:
            look()
        return result

    OutputWidget._publish_msg = publish_and_look
    OutputWidget.mended = True
