"""What tests of the exercises ask of a wrong answer."""

from __future__ import annotations

import tlkit as tl


def refused(number: str, answer: object, hint: str, *about: object) -> None:
    """Assert that an answer is not right, and that its sentence holds the hint."""
    result = tl.check(number, answer, *about)
    assert not result
    assert hint in repr(result)
