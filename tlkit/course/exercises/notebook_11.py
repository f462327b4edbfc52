"""Exercises of notebook 11: your own photos."""

from __future__ import annotations

from typing import Any

import torch

from tlkit.course.checks import NotYet, as_number, exercise, kind_of
from tlkit.errors import quoted

__all__: list[str] = []


@exercise("11.1", "12 photos of cats and 40 of dogs, 80% to train on: how many pictures are in the test set?")
def test_pictures(answer: Any) -> str:
    number = as_number(answer)
    if number == 4:
        return (
            "both classes are cut to 12; 10 of each are to train on, and 2 + 2 are left. Each is 25 points of accuracy."
        )
    if number in (10, 11):
        missing = f"{number} is 20% of all 52 photos. Each class is cut to the smallest one first."
    elif number == 2:
        missing = "2 are left of one class. There are two classes."
    elif number == 20:
        missing = "20 are for training: 10 of each class. The question is how many are left."
    elif number == 5:
        missing = "4.8 is no number of pictures: 80% are rounded class by class, 9.6 to 10."
    else:
        missing = f"{number:,} is not it. To how many photos is each class cut, and how many are 80% of that?"
    raise NotYet(missing)


@exercise("11.2", "which of again, burst, frames, few and uneven let the test ask what training has shown?")
def leaks(answer: Any) -> str:
    right = {"again", "burst", "frames"}
    why_not = {
        "few": "'few' makes the accuracy uncertain: each test picture counts much. It shows no picture twice.",
        "uneven": "'uneven' wastes photos, because each class is cut to the smallest. It shows no picture twice.",
    }
    given = {answer} if isinstance(answer, str) else set(answer)
    if unknown := given - right - set(why_not):
        words = quoted(sorted(right | set(why_not)), "or")
        missing = f"{quoted(sorted(map(str, unknown)))} is none of the words {words}."
        raise NotYet(missing)
    if wrong := sorted(given & set(why_not)):
        raise NotYet(why_not[wrong[0]])
    if given != right:
        missing = (
            f"{quoted(sorted(given)) or 'none'} is right, and not all. What else shows almost the same picture twice?"
        )
        raise NotYet(missing)
    return "only 'again' is found by tl.images.advice. Of the other two nobody knows but the one who took the photos."


@exercise("11.3", "a function of (probabilities, classes) that names each row, or says 'not sure' below 0.8.")
def careful(answer: Any) -> str:
    if not callable(answer):
        missing = f"the answer is a function of (probabilities, classes), and this is {kind_of(answer)}."
        raise NotYet(missing)
    probabilities = torch.tensor([[0.05, 0.95, 0.0], [0.5, 0.3, 0.2], [0.81, 0.1, 0.09], [0.15, 0.06, 0.79]])
    expected = ["glass", "not sure", "mug", "not sure"]
    names = ("mug", "glass", "bowl")
    try:
        found = answer(probabilities, names)
    except Exception as error:
        missing = f"called with probabilities of shape (4, 3) and the classes {quoted(names)}, it fails: {error}."
        raise NotYet(missing) from error
    if not isinstance(found, (list, tuple)) or len(found) != len(expected):
        missing = f"for four rows of probabilities it should return a list of four names, and returns {kind_of(found)}."
        raise NotYet(missing)
    for row, (name, wanted) in enumerate(zip(found, expected, strict=True)):
        if name != wanted:
            values = ", ".join(f"{value:.2f}" for value in probabilities[row].tolist())
            missing = f"for the probabilities {values} of {quoted(names)} it says {name!r}; '{wanted}' is expected."
            raise NotYet(missing)
    return "it names what it is sure of. How many pictures it then leaves to a human is for you to choose."
