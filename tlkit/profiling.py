"""Where to freeze a network: what each of its cut points is worth for some images, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from tlkit.errors import near_misses
from tlkit.features.engines import choose_batch_size
from tlkit.features.folding import fold
from tlkit.features.moving import find_device, move
from tlkit.features.rows import Features
from tlkit.graph.network import Network
from tlkit.graph.summary import collect_weights
from tlkit.layers.descriptions import Output
from tlkit.markup import html_row, html_table
from tlkit.memory import counted, give_back, readable_size
from tlkit.training.evaluation import evaluate
from tlkit.training.heads import build_head
from tlkit.training.lbfgs import solve
from tlkit.training.segments import divide, find_cuts
from tlkit.training.timings import Timings, time_vertices

__all__ = ["CutProfile", "FreezeProfile", "average", "freeze_profile"]

FLOAT32 = 4  # bytes


@dataclass(frozen=True)
class CutProfile:
    """What freezing up to one cut point is worth, and what it costs.

    Parameters
    ----------
    boundary : str
        The cut point: the last frozen vertex.
    shape : tuple of int
        What it answers for one image.
    frozen, trainable : int
        Parameters up to the boundary and behind it, counted as in `net.summary()`.
    store_bytes : int
        Size of a feature store of all training and test images at this boundary: whole answers, as float32.
    seconds : float
        One epoch of training all that lies behind the boundary on the stored features of the training images.
    accuracy : float
        Share of the test images that a linear head gets right, which reads the boundary averaged over height and
        width.
    """

    boundary: str
    shape: tuple[int, ...]
    frozen: int
    trainable: int
    store_bytes: int
    seconds: float
    accuracy: float


@dataclass(frozen=True, eq=False, repr=False)
class FreezeProfile:
    """The table of a network's cut points for some images; `freeze_profile` makes it.

    Its `repr` holds nothing that was measured, `print` shows what does not change from run to run on one machine, and
    a notebook shows the seconds as well.

    Parameters
    ----------
    rows : tuple of CutProfile
        From input to output.
    train, test : Features
        What the heads read: the answers at all cut points, averaged over height and width.
    """

    rows: tuple[CutProfile, ...]
    train: Features
    test: Features

    @property
    def best(self) -> CutProfile:
        """The row with the highest accuracy, of several the last."""
        return max(reversed(self.rows), key=lambda row: row.accuracy)

    def at(self, boundary: str) -> CutProfile:
        """Return the row of a cut point.

        Raises
        ------
        KeyError
            When there is no such row; the message lists near misses.
        """
        for row in self.rows:
            if row.boundary == boundary:
                return row
        names = [row.boundary for row in self.rows]
        msg = f"The profile has no cut point '{boundary}'.{near_misses(boundary, names)} It has {', '.join(names)}."
        raise KeyError(msg)

    def features(self, boundary: str) -> tuple[Features, Features]:
        """Return what heads at one cut point read: training and test features, averaged over height and width."""
        name = self.at(boundary).boundary
        train, test = (
            Features({name: data.tensors[name]}, data.labels, data.classes) for data in (self.train, self.test)
        )
        return train, test

    def _counts(self) -> str:
        train, test = counted(len(self.train), "training image"), counted(len(self.test), "test image")
        return f"{counted(len(self.rows), 'cut point')}, {train}, {test}"

    def __repr__(self) -> str:
        return f"FreezeProfile({self._counts()})"

    def __str__(self) -> str:
        head = ("boundary", "answers", "trainable", "store", "accuracy")
        table = [head, *((*_cells(row), f"{row.accuracy:.0%}") for row in self.rows)]
        widths = [max(len(row[column]) for row in table) for column in range(len(head))]
        lines = [
            "  ".join(
                [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
                + [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
            )
            for row in table
        ]
        return "\n".join([f"{self._counts()}; accuracy of a linear head on averaged answers", "", *lines])

    def _repr_html_(self) -> str:
        best = self.best
        head = ("boundary", "answers", "trainable parameters", "store", "seconds an epoch", "linear head")
        styles = [f"text-align:{side};padding:2px 12px" for side in ("left", "left", *["right"] * 4)]
        lines = [html_row(head, styles, heads=len(head))]
        for point in self.rows:
            cells = (*_cells(point), f"{point.seconds:.3g} s", f"{point.accuracy:.1%}")
            lines.append(html_row(cells, [style + ";font-weight:bold" * (point is best) for style in styles]))
        caption = (
            f"{self._counts()}. The linear head reads what the cut point answers, averaged over height and width; the "
            "store keeps it whole, as float32. An epoch trains all that lies behind the boundary on stored features; "
            "its seconds are reckoned from one measured step. Bold: the best linear head."
        )
        below = "text-align:left;caption-side:bottom;max-width:760px"
        return html_table(lines, caption=caption, caption_style=below, scrolls=True)


def freeze_profile(net: Network, images: Any, *, batch_size: int | None = None, progress: bool = True) -> FreezeProfile:
    """Tell what a network's cut points are worth for some images, from one pass over them.

    Each image runs through the network once. What the cut points answer is averaged over height and width (of tokens
    over their number) and kept; on it a linear head is fitted for each cut point, see `tlkit.training.lbfgs.solve`. So
    a head sees which features an image has, and not where. Maps that are not averaged can be worth more; the sizes of
    stores are those of whole maps.

    The seconds of an epoch are a sum: each vertex behind the boundary is timed once, forwards and backwards, see
    `tlkit.training.timings.time_vertices`.

    Parameters
    ----------
    net : Network
        It stays as it is. What lies behind the last cut point takes no part in the accuracies.
    images : Split
        What `tl.images.load` returns: `.train` to fit the heads, `.test` to measure their accuracy.
    batch_size : int, optional
        Images that run through the network together; as many as take little memory when left out.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    FreezeProfile

    Raises
    ------
    TypeError
        When the images have no training and test set.
    ValueError
        When there is nowhere to cut the network, or the two sets have other classes.

    Examples
    --------
    >>> import tlkit as tl
    >>> net = tl.zoo.load("efficientnet_lite0")
    >>> profile = tl.freeze_profile(net, tl.images.load("drawn", per_class=5), progress=False)
    >>> profile
    FreezeProfile(19 cut points, 20 training images, 5 test images)
    >>> profile.at("blocks_4_2").trainable
    3977096
    """
    _check_images(images)
    points = find_cuts(net)
    if not points:
        msg = (
            "There is no vertex through which everything flows, so this network cannot be cut in two. Import it with "
            "larger blocks: tl.Network.from_module(module, granularity='block')."
        )
        raise ValueError(msg)
    front = [fold(part) for part in divide(net, points)[:-1]]
    give_back()  # what earlier work has left behind
    batch_size = batch_size or max(1, choose_batch_size(net) // 8)  # 4 on a CPU: as quick as 32, in less memory
    bar = tqdm(
        total=len(images.train) + len(images.test), desc="profile", unit="image", disable=not progress, leave=False
    )
    with bar:
        train, test = (_features(front, data, batch_size, bar) for data in (images.train, images.test))
        give_back()
        timings = time_vertices(net, told=bar.set_postfix_str)
    rows = [_profile(net, name, timings, train, test) for name in points]
    return FreezeProfile(tuple(rows), train, test)


def average(x: Tensor) -> Tensor:
    """Average a batch of answers to one row each: maps over height and width, tokens over their number.

    Examples
    --------
    >>> import torch
    >>> from tlkit.profiling import average
    >>> average(torch.ones(2, 64, 7, 7)).shape, average(torch.ones(2, 197, 768)).shape
    (torch.Size([2, 64]), torch.Size([2, 768]))
    """
    if x.ndim == 4 and not x.shape[1] == x.shape[2] != x.shape[3]:
        return x.mean((2, 3))  # channels first, as in most networks
    return x if x.ndim == 2 else x.flatten(1, -2).mean(1)


@torch.no_grad()
def _features(front: list[Network], data: Any, batch_size: int, bar: tqdm) -> Features:
    kept: dict[str, list[Tensor]] = {part.outputs[0]: [] for part in front}
    device = find_device(front[0])
    for pixels, labels in data.batches(batch_size):
        x = move(pixels, device)
        for part in front:
            x = part(x)
            kept[part.outputs[0]].append(average(x).float().cpu())
        bar.update(len(labels))
    return Features({name: torch.cat(values) for name, values in kept.items()}, data.labels, data.classes)


def _accuracy(name: str, train: Features, test: Features) -> float:
    """Fit a linear head on one of the boundary tensors and return its accuracy on the test images."""
    width, n_classes = train.shapes[name][0], len(train.classes)
    output = Output(n_classes, weight_init="zero")
    head = build_head(name, (width,), [(f"{name}_head", output)])
    solve(head, (train.tensors[name], train.labels))
    return evaluate(head, (test.tensors[name], test.labels), batch_size=1024).accuracy


def _profile(net: Network, name: str, timings: Timings, train: Features, test: Features) -> CutProfile:
    """Return the row of a cut point."""
    sizes = {other: sum(value.numel() for value in own.values()) for other, own in collect_weights(net).items()}
    shape, before = net.output_shapes()[name], net.ancestors(name)
    frozen = sum(sizes[other] for other in before)
    return CutProfile(
        name,
        shape,
        frozen,
        trainable=sum(sizes.values()) - frozen,
        store_bytes=FLOAT32 * prod(shape) * (len(train) + len(test)),
        seconds=timings.epoch(net, before, len(train)).featurized,
        accuracy=_accuracy(name, train, test),
    )


def _check_images(images: Any) -> None:
    if not (hasattr(images, "train") and hasattr(images, "test")):
        msg = (
            f"freeze_profile takes a training and a test set, as tl.images.load('drawn') returns them, got "
            f"{type(images).__name__}. Two sets of your own: tl.images.Split(train, test)."
        )
        raise TypeError(msg)
    if tuple(images.train.classes) != tuple(images.test.classes) or len(images.train.classes) < 2:
        msg = (
            f"The training set has the classes {', '.join(images.train.classes)}, the test set "
            f"{', '.join(images.test.classes)}. Both need the same ones, two at least."
        )
        raise ValueError(msg)


def _cells(row: CutProfile) -> tuple[str, str, str, str]:
    shape = " × ".join(map(str, row.shape))
    return row.boundary, shape, f"{row.trainable:,}", readable_size(row.store_bytes)
