"""The summary table of a network, with frozen marks."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from tlkit.graph.network import Network
from tlkit.markup import html_row, html_table

__all__ = ["Row", "Summary", "collect_weights"]

COLUMNS = ("vertex", "type", "in, out", "parameters", "parameter shapes", "reads", "output shape", "training")
NUMERIC = {"in, out", "parameters"}


class Row(NamedTuple):
    """One line of the table, as text."""

    vertex: str
    type: str
    in_out: str
    parameters: str
    parameter_shapes: str
    reads: str
    output_shape: str
    training: str


class Summary:
    """DL4J's table of a network: prints as text, shows as HTML in a notebook.

    Attributes
    ----------
    rows : list of Row
    total, trainable, frozen : int
        Numbers of parameters; batch-norm statistics are counted, as DL4J does.
    """

    def __init__(self, net: Network) -> None:
        shapes = net.output_shapes()
        self.rows = [Row(name, "Input", "-", "-", "-", "-", _shape(net.input_shapes[name]), "-") for name in net.inputs]
        self.total = self.frozen = 0
        own = collect_weights(net)
        for name, vertex in net.vertices.items():
            values = own[name]
            size = sum(value.numel() for value in values.values())
            self.total += size
            self.frozen += size if name in net.frozen else 0
            self.rows.append(
                Row(
                    name,
                    type(vertex.module).__name__,
                    _widths(vertex.module),
                    f"{size:,}" if size else "-",
                    _parameter_shapes(values),
                    ", ".join(vertex.inputs),
                    _shape(shapes[name]),
                    _mark(net, name, size),
                )
            )
        self.trainable = self.total - self.frozen

    def __str__(self) -> str:
        table = [COLUMNS, *self.rows]
        widths = [max(len(row[column]) for row in table) for column in range(len(COLUMNS))]
        lines = [
            "  ".join(
                cell.rjust(width) if title in NUMERIC else cell.ljust(width)
                for cell, width, title in zip(row, widths, COLUMNS, strict=True)
            ).rstrip()
            for row in table
        ]
        rule = "=" * max(map(len, lines))
        return "\n".join([rule, lines[0], rule, *lines[1:], "-" * len(rule), self._totals(), rule])

    def _totals(self) -> str:
        return (
            f"Total parameters: {self.total:,}\n"
            f"Trainable parameters: {self.trainable:,}\n"
            f"Frozen parameters: {self.frozen:,}"
        )

    def _repr_html_(self) -> str:
        def style(title: str) -> str:
            wrap = "" if title == "parameter shapes" else ";white-space:nowrap"
            return f"text-align:{'right' if title in NUMERIC else 'left'}{wrap};padding:3px 5px"

        styles = list(map(style, COLUMNS))
        head = html_row(COLUMNS, styles, heads=len(styles))
        body = "".join(html_row(cells, styles) for cells in self.rows)
        totals = self._totals().replace("\n", " &nbsp;·&nbsp; ")
        return f"{html_table([f'<thead>{head}</thead><tbody>{body}</tbody>'])}<p>{totals}</p>"

    def __repr__(self) -> str:
        return str(self)


def collect_weights(net: Network) -> dict[str, dict[str, Tensor]]:
    """Return each vertex's parameters and batch-norm statistics; what several share belongs to the first."""
    found, counted = {}, set()
    for name, vertex in net.vertices.items():
        found[name] = {key: value for key, value in _weights(vertex.module).items() if id(value) not in counted}
        counted.update(map(id, found[name].values()))
    return found


def _weights(module: nn.Module) -> dict[str, nn.Parameter]:
    statistics = {
        name: value for name, value in module.named_buffers() if name.endswith(("running_mean", "running_var"))
    }
    return {**dict(module.named_parameters()), **statistics}


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "1"


def _widths(module: nn.Module) -> str:
    for before, after in (("in_features", "out_features"), ("in_channels", "out_channels")):
        if hasattr(module, before) and hasattr(module, after):
            return f"{getattr(module, before):,}, {getattr(module, after):,}"
    return "-"


def _parameter_shapes(values: dict[str, nn.Parameter]) -> str:
    if len(values) > 3:
        return f"{len(values)} tensors"
    return ", ".join(f"{name}: {_shape(tuple(value.shape))}" for name, value in values.items()) or "-"


def _mark(net: Network, name: str, size: int) -> str:
    if name in net.passing:
        return "frozen, passes gradients"
    if name in net.frozen:
        return "frozen"
    return "trainable" if size else "-"
