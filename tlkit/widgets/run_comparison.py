"""The last runs of a HeadDesigner side by side: a plot of their learning curves, and a table."""

from __future__ import annotations

from collections.abc import Sequence

from tlkit.layers.descriptions import Dense
from tlkit.widgets.face import table
from tlkit.widgets.head_bench import Run
from tlkit.widgets.heads import Head

__all__ = ["describe_layers", "run_picture", "run_table"]

SHOWN = 5  # runs; the figures tell five curves apart


def run_picture(runs: Sequence[Run]) -> str:
    """Return how the accuracy of the last runs rose, as an image with alternative text."""
    from tlkit.plots.charts import learning_curves

    shown = _last(runs)
    if not shown:
        return ""
    (number, last), (best_number, best) = shown[-1], max(shown, key=lambda numbered: numbered[1].accuracy)
    title = f"Run {number} ({last.head.words}) ends at {last.accuracy:.1%}"
    if best.accuracy > last.accuracy:
        title += f"; the best shown is run {best_number} ({best.head.words}) with {best.accuracy:.1%}"
    histories = {f"{number}: {run.head.words}": run.history for number, run in shown}
    return learning_curves(histories, show="accuracy", title=title).html


def run_table(runs: Sequence[Run], *, seconds: bool) -> str:
    """Return the last runs as a table, the newest first, the best marked by a word."""
    shown = _last(runs)
    if not shown:
        return ""
    best = max(run.accuracy for run in runs)
    head = ["run", "hidden layers", "test accuracy", "", "", "parameters", "learning rate", "epochs"]
    rows = []
    for number, run in reversed(shown):
        row = [str(number), describe_layers(run.head), f"{run.accuracy:.1%}", run.accuracy]
        row += ["best" if run.accuracy == best else "", f"{run.parameters:,}"]
        row += [f"{run.head.learning_rate:g}", str(run.head.epochs)]
        rows.append([*row, *([f"{run.history.seconds:.1f}"] * seconds)])
    caption = f"The last {len(rows)} of {len(runs)} runs, newest first." if len(runs) > 1 else "One run."
    return table([*head, *["seconds"] * seconds], rows, words=("hidden layers", ""), caption=caption)


def describe_layers(head: Head) -> str:
    """Write the layers of a head shortly, without what is the default.

    Examples
    --------
    >>> import tlkit as tl
    >>> from tlkit.widgets.heads import Head
    >>> from tlkit.widgets.run_comparison import describe_layers
    >>> describe_layers(Head([tl.Dense(256, activation="tanh", dropout=0.5), tl.Output(5)]))
    '256 tanh dropout 0.5'
    >>> describe_layers(Head([tl.Output(5, weight_init="zero")]))
    'none, output zero'
    """
    hidden = [" ".join([str(layer.n_out), layer.activation, *_options(layer)]) for layer in head.hidden]
    output = [" ".join(["output", *_options(head.output)])] if _options(head.output) else []
    return ", ".join([*(hidden or ["none"]), *output])


def _options(layer: Dense) -> list[str]:
    given = layer.given()
    dropout = [f"dropout {given['dropout']:g}"] if "dropout" in given else []
    return [*dropout, *([str(given["weight_init"])] if "weight_init" in given else [])]


def _last(runs: Sequence[Run]) -> list[tuple[int, Run]]:
    return list(enumerate(runs, start=1))[-SHOWN:]
