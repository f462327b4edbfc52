"""Run, render, normalize and check the notebooks: ``python -m tlkit.course.lessons --help``."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nbformat

from tlkit.course.lessons import costs, normalizer, pages, parameters, rules, runner

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command; return 0, 1 when a notebook failed, 2 when the command made no sense."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options, runner.select(options.notebooks))
    except (runner.SelectionError, parameters.ParameterError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130


def run(options: argparse.Namespace, notebooks: list[Path]) -> int:
    """Run the notebooks and write their executed copies, pages, report and index."""
    passed = parameters.matched(
        options.parameters, {path.stem: _defaults(path) for path in notebooks if options.parameters}
    )
    options.out.mkdir(parents=True, exist_ok=True)

    def work(path: Path) -> runner.Outcome:
        executed = options.out / path.name
        outcome = runner.execute(path, executed, passed.get(path.stem), timeout=options.timeout)
        if executed.exists():
            pages.write_page(executed, executed.with_suffix(".html"))
        return outcome

    outcomes = _one_by_one(notebooks, work)
    found = pages.report(outcomes, passed)
    pages.write_report(found, options.out / "report.json")
    pages.write_index(found, options.out / "index.html")
    for row in found["notebooks"]:
        if row["warning"]:
            print(f"Warning: {row['notebook']}: {row['warning']}.")
    print(f"The pages are listed in {options.out / 'index.html'}")
    return int(any(outcome.error for outcome in outcomes))


def render(options: argparse.Namespace, notebooks: list[Path]) -> int:
    """Run the notebooks on their defaults and put the normalized results in their places."""
    with tempfile.TemporaryDirectory() as folder:

        def work(path: Path) -> runner.Outcome:
            executed = Path(folder) / path.name
            outcome = runner.execute(path, executed, timeout=options.timeout)
            if not outcome.error:
                notebook = normalizer.normalize(normalizer.read(executed))
                _settle(notebook, normalizer.read(path), outcome.cost)
                normalizer.write(notebook, path)
            return outcome

        outcomes = _one_by_one(notebooks, work)
    return max(int(any(outcome.error for outcome in outcomes)), check(options, notebooks))


def _settle(notebook: nbformat.NotebookNode, stored: nbformat.NotebookNode, cost: costs.Cost) -> None:
    """Write what a run took, unless Ray took part; where Ray is missing, cells tagged 'ray' keep stored outputs."""
    of_ray = [cell for cell in notebook.cells if "ray" in cell.metadata.get("tags", ())]
    if of_ray and importlib.util.find_spec("ray"):
        return  # the cost line is that of `make run`, which does without
    kept = {cell.source: cell.outputs for cell in stored.cells if cell.get("outputs")}
    for cell in of_ray:
        cell.outputs = kept.get(cell.source, cell.outputs)
    notebook.cells[0].source = costs.updated_card(notebook.cells[0].source, cost)


def normalize(options: argparse.Namespace, notebooks: list[Path]) -> int:
    """Bring notebooks into normal form, or only say which are not."""
    changed = [path for path in notebooks if not normalizer.is_normalized(path)]
    for path in changed:
        if not options.check:
            normalizer.write(normalizer.normalize(normalizer.read(path)), path)
        print(f"{path}: {'not in normal form' if options.check else 'normalized'}")
    return int(options.check and bool(changed))


def check(options: argparse.Namespace, notebooks: list[Path]) -> int:
    """Say where the committed notebooks break a rule of the house."""
    found = [(path, problem) for path in notebooks for problem in rules.problems(path)]
    for path, problem in found:
        print(f"{path}: {problem}")
    print(f"{len(notebooks)} notebooks checked, {len(found)} problems.")
    return int(bool(found))


def _one_by_one(notebooks: list[Path], work: Callable[[Path], runner.Outcome]) -> list[runner.Outcome]:
    width = max(len(path.stem) for path in notebooks)
    print(f"{'notebook':{width}}  {'time':>8}  {'memory':>8}  status")
    outcomes = []
    start = time.perf_counter()
    for path in notebooks:
        print(f"{path.stem:{width}}", end="", flush=True)
        outcome = work(path)
        cost = outcome.cost
        print(f"  {cost.seconds:6.1f} s  {cost.gigabytes:5.2f} GB  {'failed' if outcome.error else 'ran'}", flush=True)
        outcomes.append(outcome)
    largest = max(outcome.cost.gigabytes for outcome in outcomes)
    failed = [outcome for outcome in outcomes if outcome.error]
    status = f"{len(failed)} of {len(outcomes)} failed" if failed else "all ran"
    print(f"{'all':{width}}  {time.perf_counter() - start:6.1f} s  {largest:5.2f} GB  {status}")
    for outcome in failed:
        print(f"{outcome.name}: {outcome.error}", file=sys.stderr)
    return outcomes


def _defaults(path: Path) -> dict[str, Any]:
    cell = parameters.cell(nbformat.read(path, as_version=4))
    return parameters.assigned(cell.source) if cell is not None else {}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tlkit.course.lessons", description=__doc__.partition(":")[0] + ".")
    commands = parser.add_subparsers(required=True, metavar="command")
    for command in (run, render, normalize, check):
        about = (command.__doc__ or "").strip()
        sub = commands.add_parser(command.__name__, help=about, description=about)
        sub.set_defaults(command=command)
        sub.add_argument(
            "notebooks",
            nargs="*",
            metavar="NOTEBOOK",
            help="path, name or leading number; all of notebooks/ when left out",
        )
        if command in (run, render):
            sub.add_argument("--timeout", type=int, default=600, metavar="S", help="seconds a cell may take (600)")
        if command is run:
            sub.add_argument("--out", type=Path, default=Path("build"), metavar="FOLDER", help="where to write (build)")
            sub.add_argument(
                "-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
                help="set a parameter of the notebooks; may be repeated; a path is meant from the current folder",
            )  # fmt: skip
        if command is normalize:
            sub.add_argument("--check", action="store_true", help="change nothing, fail when something would change")
    return parser


if __name__ == "__main__":
    sys.exit(main())
