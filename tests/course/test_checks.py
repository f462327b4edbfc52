"""The mechanism of the checks: verdicts, sentences, tasks; no answer is too strange for them."""

from __future__ import annotations

import pytest
import torch

import tlkit as tl
from tlkit.course import checks
from tlkit.course.checks import NotYet, exercise, tasks


@pytest.fixture
def own(monkeypatch):
    """A table of exercises for one test."""
    monkeypatch.setattr(checks, "_EXERCISES", {})

    @exercise("99.1", "what is six times seven?")
    def forty_two(answer):
        if answer + 0 == 42:
            return "6 × 7 = 42."
        missing = f"{answer} is not it. Count six sevens."
        raise NotYet(missing)

    @exercise("99.2", "how many vertices has the network?")
    def how_many(answer, net):
        return f"{len(net.vertices)} of them."

    return forty_two


def test_an_answer_is_right_or_not_yet(own):
    right, wrong = tl.check("99.1", 42), tl.check("99.1", 41)
    assert right
    assert repr(right) == "Right: 6 × 7 = 42."
    assert not wrong
    assert repr(wrong) == "Not yet: 41 is not it. Count six sevens."


@pytest.mark.parametrize("answer", [None, ...])
def test_without_an_answer_it_tells_the_task(own, answer):
    assert repr(tl.check("99.1", answer)) == ("Not yet: there is no answer so far. The task: what is six times seven?")
    assert repr(tl.check("99.1")) == repr(tl.check("99.1", answer))


@pytest.mark.parametrize("answer", ["42", [], {}, object(), torch.rand(2, 3), ValueError("x"), lambda: 42])
def test_an_answer_that_the_check_trips_over_gets_a_sentence(own, answer):
    result = tl.check("99.1", answer)
    assert not result
    assert "Not yet: the check cannot read this answer" in repr(result)
    assert "what is six times seven?" in repr(result)
    assert "0x" not in repr(result)


def test_an_unknown_exercise_is_answered_with_near_misses(own):
    assert repr(tl.check("9.1", 42)) == "Not yet: there is no exercise '9.1'. Did you mean '99.1'?"
    assert "There are checks for 99.1, 99.2." in repr(tl.check("first", 42))
    assert not tl.check(None)


def test_a_question_about_a_network_says_when_the_network_is_missing(own):
    assert "call the check as tl.check('99.2', answer, net)" in repr(tl.check("99.2", 3))
    assert "call the check as tl.check('99.1', answer)" in repr(tl.check("99.1", 42, "too much"))


def test_two_checks_of_one_number_are_a_mistake(own):
    with pytest.raises(ValueError, match=r"two checks for exercise 99\.1"):
        exercise("99.1", "again")(own)


def test_its_html_says_the_verdict_in_a_word_and_escapes_the_answer(own):
    right, wrong = tl.check("99.1", 42), tl.check("<b>", 1)
    assert "<b>Right:</b> 6 × 7 = 42." in right._repr_html_()
    assert "solid" in right._repr_html_()
    assert "<b>Not yet:</b>" in wrong._repr_html_()
    assert "dashed" in wrong._repr_html_()
    assert "&lt;b&gt;" in wrong._repr_html_()


def test_every_task_is_one_line_and_numbered_by_its_notebook():
    assert {"05.1", "05.2", "06.1", "06.2"} <= tasks().keys()
    for number, task in tasks().items():
        notebook, place = number.split(".")
        assert len(notebook) == 2
        assert notebook.isdigit()
        assert place.isdigit()
        assert task[-1] in ".?"
        assert "\n" not in task
        assert len(task) < 120


@pytest.mark.parametrize("number", sorted(tasks()))
@pytest.mark.parametrize("answer", [None, -1, 0.5, "fc2", (), {"a": 1}, torch.zeros(3), tl.Dense(3), object])
def test_no_check_ever_raises_or_takes_nonsense_for_right(number, answer):
    import inspect

    about = [None] * (len(inspect.signature(checks._registered()[number].judge).parameters) - 1)
    result = tl.check(number, answer, *about)
    assert not result
    assert result.sentence.endswith((".", "?"))
