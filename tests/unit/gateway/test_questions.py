"""Remembered questions: bounded, by context, and gone when they are forgotten."""

from __future__ import annotations

from controlplane.gateway.answers import questions as remembered
from controlplane.gateway.answers.embedding import unit_rows
from controlplane.gateway.answers.questions import Question, Questions


def a_question(text: str, *vector: float, context: bytes = b"c") -> Question:
    return Question(context, text, unit_rows([list(vector)], 1), text.encode())


def test_the_nearest_that_does_not_differ_is_found() -> None:
    kept = Questions()
    for text, vector in (("is 9 odd", (1, 0, 0)), ("is it odd", (1, 0.2, 0)), ("the moon", (0, 1, 0))):
        kept.remember(a_question(text, *vector), most=10)
    found = kept.nearest(a_question("it is odd", 1, 0, 0), 0.95)
    assert found is not None
    assert found.text == "is it odd"
    assert kept.nearest(a_question("is it odd", 1, 0, 0, context=b"d"), 0.95) is None
    assert kept.nearest(a_question("far", 0, 0, 1), 0.95) is None
    assert kept.nearest(a_question("another embedder", 1, 0), 0.1) is None
    kept.forget(found)
    assert kept.nearest(a_question("it is odd", 1, 0, 0), 0.95) is None


def test_no_more_is_remembered_than_may_be_and_the_latest_used_context_stays() -> None:
    kept = Questions()
    for number in range(5):
        kept.remember(a_question(f"q{number}", 1, 0, context=b"old"), most=6)
    kept.remember(a_question("x", 1, 0, context=b"new"), most=6)
    assert kept.nearest(a_question("q4", 1, 0, context=b"old"), 0.9)
    kept.remember(a_question("y", 1, 0, context=b"old"), most=6)
    assert len(kept) == 6
    assert kept.nearest(a_question("x", 1, 0, context=b"new"), 0.9) is None
    kept.remember(a_question("y", 1, 0, context=b"old"), most=6)  # the same again
    assert len(kept) == 6


def test_a_context_has_a_bound_of_its_own() -> None:
    kept = Questions()
    for number in range(remembered.MOST_PER_CONTEXT + 3):
        kept.remember(a_question(f"q{number}", 1, 0), most=10_000)
    assert len(kept) == remembered.MOST_PER_CONTEXT


def test_another_embedders_vectors_replace_the_former_ones() -> None:
    kept = Questions()
    kept.remember(a_question("a", 1, 0), most=10)
    kept.remember(a_question("b", 1, 0, 0), most=10)
    assert len(kept) == 1
    assert kept.nearest(a_question("b", 1, 0, 0), 0.9)
