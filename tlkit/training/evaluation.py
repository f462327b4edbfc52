"""How well a network classifies: accuracy, precision, recall, F1 and who is taken for whom."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tlkit.colors import RIGHT, translucent
from tlkit.features.moving import find_device, move
from tlkit.layers.losses import MISSING
from tlkit.markup import html_row, html_table
from tlkit.training.data import wrap_data

__all__ = ["ClassScore", "Evaluation", "evaluate"]

LARGEST_MATRIX = 20  # classes; a bigger confusion matrix is no longer read, only counted
NUMBER = "text-align:right;padding:0.2em 0.7em"
MARKED = f";font-weight:bold;background:{translucent(RIGHT, 0.25)}"


class ClassScore(NamedTuple):
    """One row of `Evaluation.per_class`; `support` is the number of rows that truly belong to the class."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Predicted probabilities held against the true labels.

    Precision, recall and F1 are means over the classes ("macro"), for two classes as well. A ratio without a
    denominator counts as 0: a class that was never predicted has precision 0. (DL4J leaves such a class out of
    its mean.) A class that occurs neither among the labels nor among the predictions is left out.

    Parameters
    ----------
    probabilities : Tensor of shape (n, classes)
        One row per image, values between 0 and 1.
    labels : LongTensor of shape (n,)
        The true class numbers.
    classes : sequence of str
        The class names; without any, the classes are called "0", "1", ...

    Raises
    ------
    ValueError
        If there is no row, a label is out of range, the names don't match the columns, or the values are no
        probabilities.

    Examples
    --------
    >>> import torch, tlkit as tl
    >>> result = tl.Evaluation(torch.tensor([[0.9, 0.1], [0.6, 0.4]]), torch.tensor([0, 1]), ("daisy", "roses"))
    >>> result.accuracy, result.top(2), result.confusion.tolist()
    (0.5, 1.0, [[1, 0], [1, 0]])
    """

    probabilities: Tensor
    labels: Tensor
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.labels) == 0:
            msg = "There is nothing to evaluate: the data has no rows. Check the folder or the split it came from."
            raise ValueError(msg)
        _check_rows(self.probabilities, self.labels, tuple(self.classes))
        names = tuple(self.classes) or tuple(str(number) for number in range(self.probabilities.shape[1]))
        object.__setattr__(self, "classes", names)
        object.__setattr__(self, "labels", self.labels.long())

    @property
    def predicted(self) -> Tensor:
        """The most probable class number of each row, shape (n,)."""
        return self.probabilities.argmax(dim=1)

    @property
    def accuracy(self) -> float:
        """The share of rows whose most probable class is the true one."""
        return self.confusion.trace().item() / len(self.labels)

    @property
    def precision(self) -> float:
        """Of the rows predicted as a class, the share that truly belongs to it; mean over the classes."""
        return self._scores("multiclass_precision", "macro")[0]

    @property
    def recall(self) -> float:
        """Of the rows that truly belong to a class, the share that was found; mean over the classes."""
        return self._scores("multiclass_recall", "macro")[0]

    @property
    def f1(self) -> float:
        """The harmonic mean of a class's precision and recall; mean over the classes."""
        return self._scores("multiclass_f1_score", "macro")[0]

    @cached_property
    def confusion(self) -> Tensor:
        """Counts of rows, LongTensor of shape (classes, classes): `confusion[true, predicted]`."""
        from torchmetrics.functional.classification import multiclass_confusion_matrix

        return multiclass_confusion_matrix(self.predicted, self.labels, num_classes=len(self.classes))

    @cached_property
    def losses(self) -> Tensor:
        """The negative log-likelihood of each row's true class, in nats, shape (n,)."""
        likelihood = self.probabilities.float().gather(1, self.labels[:, None])[:, 0]
        return -likelihood.clamp_min(torch.finfo(likelihood.dtype).tiny).log()

    @cached_property
    def per_class(self) -> tuple[ClassScore, ...]:
        """One `ClassScore` per class; `pandas.DataFrame(evaluation.per_class)` makes it a data frame."""
        scores = ("multiclass_precision", "multiclass_recall", "multiclass_f1_score")
        columns = [self._scores(score, "none") for score in scores]
        return tuple(map(ClassScore, self.classes, *columns, self.confusion.sum(1).tolist()))

    def top(self, n: int) -> float:
        """Return the share of rows whose true class is among the `n` most probable ones."""
        if not 1 <= n <= len(self.classes):
            msg = f"top(n) counts among {len(self.classes)} classes, so n lies between 1 and that; got {n!r}."
            raise ValueError(msg)
        # A stable sort breaks ties like argmax does, so that top(1) is the accuracy.
        best = self.probabilities.argsort(dim=1, descending=True, stable=True)[:, :n]
        hits = best == self.labels[:, None]
        return hits.any(dim=1).double().mean().item()

    def _scores(self, score: str, average: str) -> list[float]:
        # Imported here: torchmetrics takes seconds to load and imports matplotlib where that is installed.
        from torchmetrics.functional import classification

        measure = getattr(classification, score)
        values = measure(self.predicted, self.labels, num_classes=len(self.classes), average=average)
        return [round(value, 6) for value in values.reshape(-1).tolist()]  # all that float32 knows

    def __repr__(self) -> str:
        return f"Evaluation({len(self.labels):,} rows, {len(self.classes)} classes)"

    def __str__(self) -> str:
        scores = f"Accuracy {self.accuracy:.4f}  Precision {self.precision:.4f}  Recall {self.recall:.4f}"
        lines = [f"{scores}  F1 {self.f1:.4f}", f"{len(self.labels):,} rows; {self._averaging()}", ""]
        if len(self.classes) > LARGEST_MATRIX:
            return "\n".join([*lines[:2], f"Confusion matrix: {self._too_large()}"])
        number = max(len(str(len(self.classes) - 1)), len(str(self.confusion.max().item()))) + 2
        name = max(map(len, self.classes))
        columns = "".join(f"{column:>{number}}" for column in range(len(self.classes)))
        lines += ["Confusion matrix (row: true class, column: predicted class)", f"{'':{name + 4}}{columns}"]
        for row, counts in enumerate(self.confusion.tolist()):
            lines.append(f"{row:>2}  {self.classes[row]:{name}}" + "".join(f"{count:>{number}}" for count in counts))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        scores = (
            f"<p><b>Accuracy {self.accuracy:.1%}</b> of {len(self.labels):,} rows. Precision {self.precision:.3f}, "
            f"recall {self.recall:.3f}, F1 {self.f1:.3f} ({self._averaging()}).</p>"
        )
        if len(self.classes) > LARGEST_MATRIX:
            return f"{scores}<p>Confusion matrix: {self._too_large()}</p>"
        styles = [NUMBER] * (len(self.classes) + 2)
        rows = [html_row(["", *self.classes, "recall"], styles, heads=len(styles))]
        for number, score in enumerate(self.per_class):
            counts = [f"{count:,}" for count in self.confusion[number].tolist()]
            marked = [NUMBER + MARKED * (place == number + 1) for place in range(len(styles))]
            rows.append(html_row([score.name, *counts, f"{score.recall:.3f}"], marked, heads=1))
        precisions = [f"{score.precision:.3f}" for score in self.per_class]
        rows.append(html_row(["precision", *precisions, ""], styles, heads=1))
        reading = "<p>Each row: the images of one true class. Each column: the images predicted as that class.</p>"
        return scores + html_table(rows, scrolls=True) + reading

    def _averaging(self) -> str:
        return f"precision, recall and F1 are means over {len(self.classes)} classes"

    def _too_large(self) -> str:
        return f"not shown for more than {LARGEST_MATRIX} classes. See .confusion, and .per_class for their scores."


def evaluate(net: nn.Module, data: Any, *, batch_size: int = 16) -> Evaluation:
    """Classify every row of `data` and compare with its labels.

    The network runs on its own device, in evaluation mode and without gradients; afterwards its training modes are
    what they were.

    Parameters
    ----------
    net : nn.Module
        Answers probabilities of shape (n, classes) to a batch of the data, as a `Network` does. The scores of a
        network trained on the hinge loss go through a softmax.
    data : ImageSet, Features, FeatureStore, or tuple of tensors (x, y)
        `y` holds class numbers, a LongTensor of shape (n,); rows with -100, a missing label, are left out.
    batch_size : int
        Rows per forward pass; more suit a GPU, and take more memory.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        If the data is empty or its labels and the network's answers don't fit together.

    Warns
    -----
    UserWarning
        If the data and the network call a class by different names.

    Examples
    --------
    >>> import torch, tlkit as tl
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=1))
    >>> tl.evaluate(net, (torch.randn(10, 4), torch.arange(10) % 3))
    Evaluation(10 rows, 3 classes)
    """
    if batch_size < 1:
        msg = f"batch_size is the number of rows per forward pass, at least 1; got {batch_size!r}."
        raise ValueError(msg)
    data = wrap_data(data)
    classes = tuple(getattr(data, "classes", None) or ())
    _warn_of_other_names(tuple(getattr(net, "classes", None) or ()), classes)
    answers, labels = [], []
    scores = _answers_scores(net)
    with _evaluation_mode(net) as place, torch.inference_mode():
        for x, y in data.batches(batch_size):
            if len(y) == 0:
                continue
            answer = net(move(x, place))
            answer = answer.cpu() if isinstance(answer, Tensor) else answer
            if scores:
                answer = answer.softmax(1)  # the order of the classes stays
            answer, y = _drop_missing(answer, y.cpu())
            _check_rows(answer, y, classes)  # now, not after the last of many batches
            answers.append(answer)
            labels.append(y)
    # Concatenated outside of inference mode, so that the caller gets ordinary tensors.
    empty = torch.empty(0, dtype=torch.long)
    return Evaluation(torch.cat(answers or [empty]), torch.cat(labels or [empty]), classes)


def _warn_of_other_names(of_network: tuple[str, ...], of_data: tuple[str, ...]) -> None:
    """Warn of folders in another order than those that the network was trained on: labels are only numbers."""
    if len(of_network) != len(of_data):
        return  # unknown, or refused when the answers come
    for number, (network, data) in enumerate(zip(of_network, of_data, strict=True)):
        if network != data:
            msg = (
                f"Class {number} is '{network}' to the network and '{data}' in the data, and labels are compared by "
                "number. If this is not the same thing under another name, the scores mean nothing: name the folders "
                "as those the network was trained on."
            )
            warnings.warn(msg, stacklevel=3)
            return


@contextmanager
def _evaluation_mode(net: nn.Module) -> Iterator[torch.device]:
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield find_device(net)
    finally:
        for module, training in modes:
            module.training = training


def _answers_scores(net: nn.Module) -> bool:
    """Say whether a network tells classes apart by scores without bounds, as one trained on margins does."""
    outputs = getattr(net, "outputs", ())
    module = net.vertices[outputs[0]].module if len(outputs) == 1 and outputs[0] in net.vertices else None
    return getattr(module, "loss", None) == "hinge" and isinstance(module.activation, nn.Identity)


def _drop_missing(answer: Any, labels: Tensor) -> tuple[Any, Tensor]:
    """Leave out the rows whose label is missing."""
    missing = labels == MISSING
    if not isinstance(answer, Tensor) or labels.ndim != 1 or len(answer) != len(labels) or not missing.any():
        return answer, labels
    return answer[~missing], labels[~missing]


def _check_rows(answer: Any, labels: Tensor, classes: tuple[str, ...]) -> None:
    if not isinstance(answer, Tensor) or answer.ndim != 2 or answer.shape[1] < 2:
        got = f"shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else f"a {type(answer).__name__}"
        msg = f"An evaluation needs probabilities of shape (rows, classes) with two classes or more; got {got}."
        raise ValueError(msg)
    rows, width = answer.shape
    if labels.ndim != 1 or labels.is_floating_point() or len(labels) != rows:
        msg = (
            f"Labels are class numbers, one integer per row: expected shape ({rows},), got {labels.dtype} of shape "
            f"{tuple(labels.shape)}. Turn one-hot rows into class numbers with labels.argmax(1)."
        )
        raise ValueError(msg)
    if classes and len(classes) != width:
        names = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
        msg = (
            f"The network answers {width} classes, but the data has {len(classes)} ({names}). "
            f"Replace its last layer by one with n_out={len(classes)}, or evaluate on data with {width} classes."
        )
        raise ValueError(msg)
    wrong = labels[(labels < 0) | (labels >= width)]
    if len(wrong):
        msg = (
            f"Label {wrong[0].item()} is out of range: the network answers {width} classes, so labels lie between 0 "
            f"and {width - 1}. Renumber the labels, or give the last layer as many outputs as there are classes."
        )
        raise ValueError(msg)
    _check_probabilities(answer)


def _check_probabilities(answer: Tensor) -> None:
    undefined = answer.isnan().any(dim=1).sum().item()
    if undefined:
        msg = (
            f"The network answers NaN for {undefined} of {len(answer)} rows: its weights or its input are broken. "
            "If it was just trained, start again from the weights before with a smaller learning rate."
        )
        raise ValueError(msg)
    if answer.min() < -0.01 or answer.max() > 1.01:
        msg = (
            f"An evaluation needs probabilities between 0 and 1; got values from {answer.min():.3g} to "
            f"{answer.max():.3g}. If the network ends in logits, append a softmax: nn.Sequential(net, nn.Softmax(1))."
        )
        raise ValueError(msg)
