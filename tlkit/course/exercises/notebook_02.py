"""Exercises of notebook 02: show me the code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, allclose

from tlkit.course.checks import NotYet, as_number, exercise, kind_of
from tlkit.images.preprocessing import Preprocessing

__all__: list[str] = []


@exercise("02.1", "633, 898, 641, 699 and 799 pictures of five classes: how many are in the training set?")
def pictures_to_train_on(answer: Any) -> str:
    number = as_number(answer)
    if number == 2530:
        return "each class is cut to 633, and 506 of them are for training: five times 506 are 2,530."
    hints = {
        2936: "that is 80% of all pictures. The classes are cut to the smallest first.",
        2532: "that is 80% of 3,165 pictures, but each class gives the same whole number of pictures.",
        3165: "that is training and test set together.",
        635: "that is the test set.",
        506: "that is one class's share.",
        2535: "80% of 633 are 506.4, which is rounded to 506.",
    }
    missing = hints.get(number, f"{number:,} is not it. Cut every class to the smallest, then take 80% of each.")
    raise NotYet(missing)


@exercise("02.2", "the batch of images as numbers, normalized with the mean and the standard deviation of each color.")
def normalized_by_hand(answer: Any, images: Tensor, preprocessing: Preprocessing) -> str:
    right = preprocessing(images)
    if not isinstance(answer, Tensor):
        missing = f"the answer is a tensor with the shape of images, and this is {kind_of(answer)}."
        raise NotYet(missing)
    if answer.shape != right.shape:
        missing = f"the shape is {tuple(answer.shape)}; expected is the shape of images, {tuple(right.shape)}."
        raise NotYet(missing)
    answer = answer.to(right.device, right.dtype)
    if allclose(answer, right, atol=1e-4):
        return f"from {right.min():.2f} to {right.max():.2f}, as the network's weights expect."
    colors = right.transpose(0, 1).flatten(1), answer.transpose(0, 1).flatten(1)
    if all(
        allclose(ours - ours.mean(), theirs - theirs.mean(), atol=1e-4) for ours, theirs in zip(*colors, strict=True)
    ):
        missing = "the spread of each color is right, its mean is not. Subtract the mean before you divide."
    elif answer.abs().max() > 20:
        missing = (
            f"values up to {answer.abs().max():,.0f} are too large: mean and std belong to images between 0 and 1."
        )
    else:
        missing = "some numbers differ. Divide by 255, subtract the mean, then divide by std: color by color."
    raise NotYet(missing)


@exercise("02.3", "(train, test): the first 80% of each class by file name to train on, the rest to test.")
def split_by_name(answer: Any, everything: Any) -> str:
    parts = tuple(answer) if isinstance(answer, (tuple, list)) else ()
    if len(parts) != 2 or not all(hasattr(part, "paths") for part in parts):
        missing = f"the answer is a pair (train, test) of image sets, and this is {kind_of(answer)}."
        raise NotYet(missing)
    train, test = parts
    seen = set(train.paths) & set(test.paths)
    if seen:
        missing = f"{len(seen)} pictures are in both sets, {min(seen).name} among them."
        raise NotYet(missing)
    if {*train.paths, *test.paths} != set(everything.paths):
        missing = f"{len(train) + len(test)} of {len(everything)} pictures are used. Use all of them, and no others."
        raise NotYet(missing)
    for number, name in enumerate(everything.classes):
        ours, theirs = (sorted(_paths_of(part, number)) for part in parts)
        count = len(ours) + len(theirs)
        if abs(len(ours) - 0.8 * count) > 1:
            missing = (
                f"class '{name}' has {len(ours)} of {count} pictures in the training set; 80% are {0.8 * count:.0f}."
            )
            raise NotYet(missing)
        if ours[-1] > theirs[0]:
            missing = f"'{ours[-1].name}' is trained on, and '{theirs[0].name}', which comes before it, is tested on."
            raise NotYet(missing)
    return f"{len(train)} pictures to train on and {len(test)} to test on; pictures in a row stay together."


def _paths_of(images: Any, label: int) -> list[Path]:
    return [path for path, other in zip(images.paths, images.labels.tolist(), strict=True) if other == label]
