"""The checks of the exercises in notebook 11: right answers are right, wrong ones get their hint."""

from __future__ import annotations

from answers import refused

import tlkit as tl


def test_pictures_in_the_test_set():
    assert tl.check("11.1", 4)
    refused("11.1", 10, "cut to the smallest one first")
    refused("11.1", 2, "There are two classes")
    refused("11.1", 20, "how many are left")
    refused("11.1", 5, "rounded class by class")
    refused("11.1", 7, "To how many photos is each class cut")


def test_what_leaks():
    right = {"again", "burst", "frames"}
    assert tl.check("11.2", right)
    refused("11.2", right | {"few"}, "'few' makes the accuracy uncertain")
    refused("11.2", {"uneven"}, "'uneven' wastes photos")
    refused("11.2", "burst", "'burst' is right, and not all")
    refused("11.2", set(), "none is right, and not all")
    refused("11.2", {"blurred"}, "'blurred' is none of the words")


def test_naming_only_what_is_sure():
    def careful(probabilities, classes):
        shares, numbers = probabilities.max(1)
        pairs = zip(shares.tolist(), numbers.tolist(), strict=True)
        return [classes[number] if share >= 0.8 else "not sure" for share, number in pairs]

    assert tl.check("11.3", careful)
    refused("11.3", "not sure", "the answer is a function")
    refused("11.3", lambda p, c: [c[row.argmax()] for row in p], "it says 'mug'; 'not sure' is expected")
    refused("11.3", lambda p, c: "mug", "a list of four names")
    refused("11.3", lambda p, c: p.nothing, "it fails")
