"""Grids of images with their classes and what a network says about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from tlkit.colors import GRID, MUTED, RIGHT, WRONG
from tlkit.plots.figure import WIDTH, Picture, sheet, shorten, text_width, write

__all__ = ["image_grid"]

MOST_IMAGES = 15  # of a grid that can be read from the last row


def image_grid(
    images: Any,
    rows: Sequence[int] | Tensor | None = None,
    *,
    probabilities: Tensor | None = None,
    labels: Tensor | None = None,
    classes: Sequence[str] | None = None,
    columns: int = 5,
    title: str | None = None,
) -> Picture:
    """Show up to 15 images with their class, and with what a network says about them.

    Above each image stands its true class; below it the most probable class, the probability as a number and as
    a bar, and the word "correct" or "wrong".

    Parameters
    ----------
    images : ImageSet or uint8 Tensor of shape (n, 3, height, width)
    rows : sequence of int, optional
        Which images to show; by default 15 of them, evenly spread over the classes.
    probabilities : Tensor of shape (n, classes), optional
        One row per image of `images`, such as `evaluation.probabilities`.
    labels : LongTensor of shape (n,), optional
        True class numbers; an ImageSet brings its own, and so it does its class names.
    classes : sequence of str, optional
    columns : int
        Images in a row of the grid, 1 to 8.
    title : str, optional
        The figure's message; by default the count of correct answers.

    Raises
    ------
    ValueError
        For more than 15 rows, rows that don't exist, images of another type, or probabilities and labels of another
        length than the images.

    Examples
    --------
    >>> import torch, tlkit as tl
    >>> tl.plots.image_grid(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), labels=torch.tensor([0, 1]), classes=("a", "b"))
    Picture('Grid of 2 images')
    """
    if labels is None:
        labels = getattr(images, "labels", None)
    if classes is None:
        classes = getattr(images, "classes", None)
    chosen = _spread(len(images), labels) if rows is None else _existing(len(images), rows)
    for name, values in {"probabilities": probabilities, "labels": labels}.items():
        if values is not None and len(values) != len(images):
            msg = f"image_grid needs one row of {name} per image: got {len(values)} for {len(images)} images."
            raise ValueError(msg)
    if not 1 <= columns <= 8:
        msg = f"columns is the number of images side by side, 1 to 8; got {columns!r}."
        raise ValueError(msg)
    pixels = next(iter(images.batches(len(chosen), order=chosen)))[0] if hasattr(images, "batches") else images[chosen]
    if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[1] != 3:
        msg = f"Images are uint8 of shape (n, 3, height, width); got {pixels.dtype} of shape {tuple(pixels.shape)}."
        raise ValueError(msg)
    captions = [_caption(row, probabilities, labels, classes) for row in chosen.tolist()]
    message = title or _grid_message(captions, len(images))

    cell = WIDTH / columns
    side = min(cell - 12, 180)
    above, below = 22 * (labels is not None), 52 * (probabilities is not None)
    below = below - 18 if labels is None and below else below
    step = above + side + below + 10
    axes = sheet(step * -(-len(chosen) // columns), message)
    for number, (image, caption) in enumerate(zip(pixels, captions, strict=True)):
        x, y = number % columns * cell + (cell - side) / 2, number // columns * step
        _draw_image(axes, image, caption, x, y + above, side)
    axes.set(xlim=(0, WIDTH), ylim=(step * -(-len(chosen) // columns), 0))
    alt = f"{message}: {'; '.join(_spoken(caption) for caption in captions)}."
    return Picture(axes.figure, f"Grid of {len(chosen)} images", alt)


def _spread(count: int, labels: Tensor | None) -> Tensor:
    if count == 0:
        msg = "There are no images to show: the data is empty. Check the folder or the split it came from."
        raise ValueError(msg)
    order = torch.arange(count) if labels is None else labels.argsort(stable=True)
    shown = min(count, MOST_IMAGES)
    return order[(torch.arange(shown) * count + count // 2) // shown]


def _existing(count: int, rows: Sequence[int] | Tensor) -> Tensor:
    chosen = torch.as_tensor(rows, dtype=torch.long).reshape(-1)
    if not 1 <= len(chosen) <= MOST_IMAGES:
        msg = f"A grid shows 1 to {MOST_IMAGES} images; got {len(chosen)} rows. Choose some, such as rows[:15]."
        raise ValueError(msg)
    missing = chosen[(chosen < 0) | (chosen >= count)].tolist()
    if missing:
        msg = f"Row {missing[0]} does not exist: the images are numbered 0 to {count - 1}."
        raise ValueError(msg)
    return chosen


def _caption(row: int, probabilities: Tensor | None, labels: Tensor | None, classes: Any) -> dict[str, Any]:
    def name(number: int) -> str:
        return classes[number] if classes else str(number)

    caption: dict[str, Any] = {"true": None if labels is None else name(int(labels[row]))}
    if probabilities is not None:
        best = int(probabilities[row].argmax())
        caption |= {"predicted": name(best), "probability": float(probabilities[row, best])}
        caption["correct"] = None if labels is None else best == int(labels[row])
    return caption


def _spoken(caption: dict[str, Any]) -> str:
    if "predicted" not in caption:
        return caption["true"] or "an image"
    answer = f"predicted {caption['predicted']} with {caption['probability']:.0%}"
    if caption["true"] is None:
        return answer
    return f"{caption['true']} {answer}, {'correct' if caption['correct'] else 'wrong'}"


def _grid_message(captions: list[dict[str, Any]], count: int) -> str:
    answers = [caption["correct"] for caption in captions if caption.get("correct") is not None]
    if answers:
        return f"{sum(answers)} of these {len(answers)} images are classified correctly"
    return f"{len(captions)} of {count:,} images" if len(captions) < count else f"{count} images"


def _draw_image(axes: Axes, image: Tensor, caption: dict[str, Any], x: float, y: float, side: float) -> None:
    axes.imshow(image.cpu().permute(1, 2, 0).numpy(), extent=(x, x + side, y + side, y), aspect="auto")
    color = {True: RIGHT, False: WRONG, None: MUTED}[caption.get("correct")]
    width = 1 if caption.get("correct") is None else 4
    axes.add_patch(Rectangle((x, y), side, side, fill=False, edgecolor=color, linewidth=width))
    if caption["true"] is not None:
        write(axes, x, y - 4, shorten(caption["true"], side + 8, bold=True), va="bottom", fontweight="bold")
    if "predicted" not in caption:
        return
    percent = f" {caption['probability']:.0%}"
    word = shorten(caption["predicted"], side + 10 - text_width(percent))
    axes.add_patch(Rectangle((x, y + side + 5), side, 7, facecolor=GRID))
    axes.add_patch(Rectangle((x, y + side + 5), side * caption["probability"], 7, facecolor=color))
    write(axes, x, y + side + 14, word + percent, va="top")
    if caption["correct"] is not None:
        answer = "correct" if caption["correct"] else "wrong"
        write(axes, x, y + side + 31, answer, va="top", color=color, fontweight="bold")
