"""Which pictures a network gets wrong: chosen by true and answered class, ordered by loss."""

from __future__ import annotations

from typing import Any, NamedTuple

from tlkit.errors import near_misses, quoted
from tlkit.images.sets import ImageSet
from tlkit.training.evaluation import Evaluation, evaluate

__all__ = ["Mistakes", "Pair"]


class Pair(NamedTuple):
    """Pictures of one class that were answered with one class: numbers of both, and how many there are."""

    true: int
    answered: int
    count: int


class Mistakes:
    """The answers of a network to a set of images.

    Parameters
    ----------
    net : Network or Evaluation
        An evaluation of these images saves asking the network again.
    images : ImageSet
        With labels.

    Raises
    ------
    TypeError, ValueError
        When these are no images, or the evaluation is of others.
    """

    def __init__(self, net: Any, images: ImageSet) -> None:
        if not isinstance(images, ImageSet):
            hint = " Pass its .test." if hasattr(images, "test") else ""
            msg = (
                f"Mistakes are looked for in images, such as tl.images.load().test, got {type(images).__name__}.{hint}"
            )
            raise TypeError(msg)
        self.images = images
        self.evaluation = net if isinstance(net, Evaluation) else evaluate(net, images)
        if not self.evaluation.labels.equal(images.labels):
            msg = (
                f"This is the evaluation of other images: it has {len(self.evaluation.labels):,} rows, and there are "
                f"{len(images):,} images. Evaluate these: tl.evaluate(net, images)."
            )
            raise ValueError(msg)
        self.classes = self.evaluation.classes
        self.confusion = self.evaluation.confusion

    def pairs(self) -> list[Pair]:
        """Return which classes are taken for which, the most frequent first."""
        found = [Pair(*cell, int(self.confusion[tuple(cell)])) for cell in self.confusion.nonzero().tolist()]
        wrong = [pair for pair in found if pair.true != pair.answered]
        return sorted(wrong, key=lambda pair: -pair.count)

    def rows(self, cell: tuple[int, int] | None = None) -> list[int]:
        """Return the rows of one cell of the confusion matrix, or of all mistakes; the largest loss comes first."""
        evaluation = self.evaluation
        chosen = evaluation.predicted != evaluation.labels
        if cell is not None:
            chosen = (evaluation.labels == cell[0]) & (evaluation.predicted == cell[1])
        rows = chosen.nonzero()[:, 0]
        return rows[evaluation.losses[rows].argsort(descending=True, stable=True)].tolist()

    def cell(self, names: Any) -> tuple[int, int] | None:
        """Return the numbers of a pair of classes, (true, answered), given by name or number; None stays None."""
        if names is None:
            return None
        if isinstance(names, str) or len(names) != 2:
            msg = f"A cell is a pair (true class, answered class), such as ('roses', 'tulips'), got {names!r}."
            raise ValueError(msg)
        true, answered = (self._number(name) for name in names)
        return true, answered

    def _number(self, name: Any) -> int:
        if name in self.classes:
            return self.classes.index(name)
        if isinstance(name, int) and 0 <= name < len(self.classes):
            return name
        known = quoted(self.classes[:5]) + (" and others" if len(self.classes) > 5 else "")
        msg = f"There is no class {name!r}.{near_misses(str(name), self.classes)} The classes are {known}."
        raise ValueError(msg)
