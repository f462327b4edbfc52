"""MistakeBrowser: look at the pictures that a network gets wrong, chosen by a cell of the confusion matrix."""

from __future__ import annotations

from html import escape
from typing import Any

import ipywidgets
import traitlets

from tlkit.graph.network import Network
from tlkit.images.sets import ImageSet
from tlkit.memory import counted
from tlkit.training.evaluation import Evaluation
from tlkit.widgets.face import Panel, code_block, headline, note, table
from tlkit.widgets.mistakes import Mistakes
from tlkit.widgets.photo import thumbnail

__all__ = ["MistakeBrowser"]

PAGE = 10  # pictures
MOST_CLASSES = 10  # of a matrix of buttons; more than a hundred buttons are slow, and too small to read
ALL = "All mistakes"


class MistakeBrowser(Panel):
    """The pictures that a network gets wrong, those with the largest loss first, and a confusion matrix to choose from.

    Each cell of the matrix is a button that shows its pictures; the list above it does the same by name. The diagonal
    holds the right answers, of which the least certain come first.

    Parameters
    ----------
    net : Network or Evaluation
        What to look into. What `tl.evaluate` returned for the same images saves asking the network again.
    images : ImageSet
        With labels, such as ``flowers.test``.

    Attributes
    ----------
    cell : tuple of (str, str) or None
        True and answered class of the pictures that are shown; settable. None shows all mistakes.
    rows : list of int
        Row numbers of these pictures, those with the largest loss first.
    code : str
        Python that shows the first ten of them, with `tl`, `net` and `images`.

    Raises
    ------
    TypeError, ValueError
        When there are no images, or the evaluation is of others.

    Examples
    --------
    >>> import torch, tlkit as tl
    >>> images = tl.images.load("drawn", per_class=10).test
    >>> guesses = tl.Evaluation(torch.eye(5).roll(1, 0)[images.labels], images.labels, images.classes)
    >>> browser = tl.MistakeBrowser(guesses, images)
    >>> browser
    MistakeBrowser(10 mistakes among 10 pictures)
    >>> browser.cell = "daisy", "tulips"
    >>> len(browser.rows)
    2
    """

    cell = traitlets.Any(None, allow_none=True)

    def __init__(self, net: Network | Evaluation, images: ImageSet) -> None:
        self._mistakes = Mistakes(net, images)
        self._page = 0
        self._make_controls()
        pager = ipywidgets.HBox([self._back, self._next, self._where], layout={"align_items": "center"})
        self._folded = ipywidgets.Accordion([self._code], titles=["The same in code (.code)"], selected_index=None)
        top = [ipywidgets.HTML(self._headline()), self._choice, *self._matrix()]
        super().__init__([*top, pager, self._pictures, self._folded])
        self._show()

    # -- what a program asks ------------------------------------------------------------------------------------

    @property
    def rows(self) -> list[int]:
        """Row numbers of the pictures that are shown, on all pages, those with the largest loss first."""
        return self._mistakes.rows(self._mistakes.cell(self.cell))

    @property
    def code(self) -> str:
        """Python that shows the first ten of these pictures."""
        chosen = "evaluation.predicted != evaluation.labels"
        cell = self._mistakes.cell(self.cell)
        if cell is not None:
            chosen = f"(evaluation.labels == {cell[0]}) & (evaluation.predicted == {cell[1]})"
        shown = f"\ntl.plots.image_grid(images, rows[:{PAGE}], probabilities=evaluation.probabilities)"
        return (
            "evaluation = tl.evaluate(net, images)\n"
            f"rows = ({chosen}).nonzero()[:, 0]\n"
            "rows = rows[evaluation.losses[rows].argsort(descending=True)]"
        ) + shown * bool(self.rows)

    def face(self) -> str:
        """Return the confusion matrix, a page of pictures and the code as HTML."""
        return self._headline() + self._table() + note(f"{self._title()}.") + self._grid() + code_block(self.code)

    def __repr__(self) -> str:
        wrong = counted(len(self._mistakes.rows()), "mistake")
        return f"MistakeBrowser({wrong} among {counted(len(self._mistakes.images), 'picture')})"

    # -- controls -----------------------------------------------------------------------------------------------

    def _make_controls(self) -> None:
        pairs = [((pair.true, pair.answered), pair.count) for pair in self._mistakes.pairs()]
        options = [(f"{ALL} ({len(self._mistakes.rows())})", ())]  # a list takes None for no choice
        options += [(f"{self._words(cell)} ({count})", cell) for cell, count in pairs]
        right = self._mistakes.confusion.diag().tolist()
        options += [(f"{self._words((n, n))} ({count})", (n, n)) for n, count in enumerate(right) if count]
        self._choice = ipywidgets.Dropdown(
            options=options,
            value=(),
            description="Show",
            style={"description_width": "initial"},
            layout={"width": "auto", "max_width": "520px"},
        )
        self._buttons: dict[tuple[int, int], ipywidgets.Button] = {}
        self._back = _button("Previous page", "Show pictures with a larger loss")
        self._next = _button("Next page", "Show pictures with a smaller loss")
        self._where, self._pictures, self._code = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        self._choice.observe(self._chosen, "value")
        self._back.on_click(lambda _: self._turn(-1))
        self._next.on_click(lambda _: self._turn(+1))

    def _matrix(self) -> list[ipywidgets.Widget]:
        """Return the confusion matrix as a grid of buttons, for up to ten classes."""
        classes = self._mistakes.classes
        if len(classes) > MOST_CLASSES:
            return []
        cells: list[ipywidgets.Widget] = [_label("true \\ answered"), *map(_label, classes)]
        for true, name in enumerate(classes):
            cells.append(_label(name))
            for answered, count in enumerate(self._mistakes.confusion[true].tolist()):
                button = _button(str(count), f"Show {self._words((true, answered))}: {counted(count, 'picture')}")
                button.disabled = not count
                button.on_click(lambda _, cell=(true, answered): self.set_trait("cell", cell))
                self._buttons[true, answered] = button
                cells.append(button)
        columns = f"max-content repeat({len(classes)}, minmax(48px, 96px))"
        layout = {"grid_template_columns": columns, "grid_gap": "2px 4px", "margin": "6px 0", "overflow": "auto"}
        title = ipywidgets.HTML(
            note("Confusion matrix. Each row holds the pictures of one class; a cell shows its own.")
        )
        return [title, ipywidgets.GridBox(cells, layout=layout)]

    def _chosen(self, change: dict[str, Any]) -> None:
        self.cell = change["new"] or None

    def _turn(self, places: int) -> None:
        self._page = min(max(self._page + places, 0), self._pages() - 1)
        self._show()

    # -- showing ------------------------------------------------------------------------------------------------

    @traitlets.validate("cell")
    def _resolved(self, proposal: dict[str, Any]) -> tuple[str, str] | None:
        cell = self._mistakes.cell(proposal["value"])
        return None if cell is None else tuple(self._mistakes.classes[number] for number in cell)

    @traitlets.observe("cell")
    def _moved(self, _: Any) -> None:
        self._page = 0
        cell = self._mistakes.cell(self.cell) or ()
        if cell not in [value for _, value in self._choice.options]:  # an empty cell, which only a program can choose
            self._choice.options = [*self._choice.options, (f"{self._words(cell)} (0)", cell)]
        self._choice.value = cell
        self._show()

    def _show(self) -> None:
        cell = self._mistakes.cell(self.cell)
        for place, button in self._buttons.items():
            button.icon = "check" if place == cell else ""
        self._back.disabled, self._next.disabled = self._page == 0, self._page == self._pages() - 1
        self._where.value = note(f"{self._title()}.")
        self._pictures.value = self._grid()
        self._code.value = code_block(self.code, titled=False)

    def _pages(self) -> int:
        return max(1, -(-len(self.rows) // PAGE))

    def _words(self, cell: tuple[int, int]) -> str:
        true, answered = (self._mistakes.classes[number] for number in cell)
        return f"{true} taken for {answered}" if true != answered else f"{true}, answered correctly"

    def _headline(self) -> str:
        evaluation, wrong = self._mistakes.evaluation, len(self._mistakes.rows())
        all_of_them = counted(len(self._mistakes.images), "picture")
        return headline(f"{wrong:,} of {all_of_them} are answered wrongly: accuracy {evaluation.accuracy:.1%}.")

    def _title(self) -> str:
        cell = self._mistakes.cell(self.cell)
        what = ALL if cell is None else self._words(cell)
        count = len(self.rows)
        if not count:
            return f"{what}: no pictures"
        first = self._page * PAGE + 1
        return f"{what}: pictures {first:,} to {min(first + PAGE - 1, count):,} of {count:,}, largest loss first"

    def _table(self) -> str:
        """Return the confusion matrix as a table, or the most frequent mistakes where there are many classes."""
        classes = self._mistakes.classes
        if len(classes) > MOST_CLASSES:
            rows = [(self._words(pair[:2]), f"{pair.count:,}") for pair in self._mistakes.pairs()[:MOST_CLASSES]]
            caption = "The most frequent mistakes."
            return table(["mistake", "pictures"], rows, words=["mistake"], caption=caption) if rows else ""
        rows = [(name, *map(str, self._mistakes.confusion[true].tolist())) for true, name in enumerate(classes)]
        caption = "Confusion matrix. Each row holds the pictures of one class, each column an answer."
        return table(["true class", *classes], rows, words=["true class"], caption=caption)

    def _grid(self) -> str:
        """Return one page of pictures, each with its true class, the answer and the loss in words."""
        rows = self.rows[self._page * PAGE : (self._page + 1) * PAGE]
        if not rows:
            return ""
        pixels = self._mistakes.images.pixels(rows)
        figures = [self._figure(row, picture) for row, picture in zip(rows, pixels, strict=True)]
        return f'<div style="display:flex;flex-wrap:wrap;gap:12px 16px">{"".join(figures)}</div>'

    def _figure(self, row: int, pixels: Any) -> str:
        evaluation, classes = self._mistakes.evaluation, self._mistakes.classes
        true, answered = (classes[int(numbers[row])] for numbers in (evaluation.labels, evaluation.predicted))
        share, loss = float(evaluation.probabilities[row].max()), float(evaluation.losses[row])
        path = self._mistakes.images.paths[row]
        word = "correct" if true == answered else "wrong"
        alt = f"{path.parent.name}/{path.name}: true class {true}, answered {answered} with {share:.0%}, {word}"
        words = [f"true: {true}", f"answer: {answered} {share:.0%}", f"{word}, loss {loss:.2f}"]
        caption = "<br>".join(map(escape, words))
        style = "margin:0;width:132px;font-size:12px;line-height:1.4"
        return f'<figure style="{style}">{thumbnail(pixels, alt)}<figcaption>{caption}</figcaption></figure>'


def _button(text: str, tooltip: str) -> ipywidgets.Button:
    return ipywidgets.Button(description=text, tooltip=tooltip, layout={"width": "auto"})


def _label(text: str) -> ipywidgets.Widget:
    style = "font-size:13px;line-height:30px;overflow:hidden;text-overflow:ellipsis;white-space:nowrap"
    return ipywidgets.HTML(f'<div style="{style}" title="{escape(text)}">{escape(text)}</div>')
