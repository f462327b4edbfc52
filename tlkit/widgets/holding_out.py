"""Features divided into rows to train on and rows to test on."""

from __future__ import annotations

from typing import Any

import torch

from tlkit.errors import quoted
from tlkit.features.rows import FeatureRows, Features
from tlkit.memory import available_memory, counted, readable_size

__all__ = ["check_features", "hold_out"]


def hold_out(features: FeatureRows, share: float = 0.2, *, seed: int = 13) -> tuple[Features, Features]:
    """Divide features into rows to train on and rows to test on, the same share of every class.

    Parameters
    ----------
    features : Features or FeatureStore
        Read into memory.
    share : float
        Of the test rows, between 0 and 1.
    seed : int
        Of the choice.

    Returns
    -------
    train, test : Features

    Raises
    ------
    ValueError
        When the share is no share, a class has a single row, or the features don't fit into memory.

    Examples
    --------
    >>> import torch, tlkit as tl
    >>> from tlkit.widgets.holding_out import hold_out
    >>> features = tl.Features({"fc2": torch.rand(10, 4)}, torch.arange(10) % 2, ["daisy", "roses"])
    >>> [len(part) for part in hold_out(features)]
    [8, 2]
    """
    check_features(features)
    if not 0 < share < 1:
        msg = f"share is the part of the rows to test on, between 0 and 1; got {share!r}."
        raise ValueError(msg)
    if 2 * features.nbytes > available_memory():
        msg = (
            f"The features take {readable_size(features.nbytes)}, too much to divide them in memory. Featurize "
            "the training and the test images separately and give both."
        )
        raise ValueError(msg)
    chosen = torch.zeros(len(features), dtype=torch.bool)
    generator = torch.Generator().manual_seed(seed)
    for number, name in enumerate(features.classes):
        rows = (features.labels.cpu() == number).nonzero()[:, 0]
        if len(rows) == 1:
            msg = f"The class '{name}' has a single row, which cannot be both trained and tested on. Add images."
            raise ValueError(msg)
        count = min(max(round(share * len(rows)), 1), len(rows) - 1)
        chosen[rows[torch.randperm(len(rows), generator=generator)[:count]]] = True
    return tuple(_take(features, mask.nonzero()[:, 0]) for mask in (~chosen, chosen))


def _take(features: FeatureRows, rows: torch.Tensor) -> Features:
    x, labels = next(features.batches(len(rows), rows))
    return Features({features.names[0]: x}, labels, features.classes)


def check_features(features: Any) -> None:
    """Refuse what a head cannot be designed on."""
    if not isinstance(features, FeatureRows):
        msg = (
            f"A head is designed on features, got {type(features).__name__}. Featurize the images first: "
            "tl.TransferLearningHelper(net).featurize(images)."
        )
        raise TypeError(msg)
    if len(features.names) > 1:
        msg = f"A head is designed on the features of one boundary; these have {quoted(features.names)}."
        raise ValueError(msg)
    if len(features.classes) < 2 or len(features) < 2:
        rows, classes = counted(len(features), "row"), counted(len(features.classes), "class", "classes")
        msg = f"A head needs two classes and rows of each to tell apart; these features have {rows} and {classes}."
        raise ValueError(msg)
