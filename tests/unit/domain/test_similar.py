"""What an embedding hardly sees is seen in the words: on a labelled set, and one by one."""

from __future__ import annotations

import pytest

from benchmarks.semantic_pairs import pairs
from controlplane.domain.door.similar import Differs, EmbedderOptions, differs, language

LABELLED = pairs(600)


def test_no_near_miss_of_a_guarded_kind_passes_on_the_labelled_set() -> None:
    assert len(LABELLED) >= 500
    guarded = [pair for pair in LABELLED if pair.kind not in ("same", "topic")]
    assert len(guarded) > 300
    assert [pair for pair in guarded if differs(pair.one, pair.other) is None] == []


def test_the_same_question_said_otherwise_passes() -> None:
    same = [pair for pair in LABELLED if pair.same]
    assert len(same) > 50
    assert [pair for pair in same if differs(pair.one, pair.other)] == []


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        ("Is 7 a prime?", "Is 9 a prime?", Differs.NUMBERS),
        ("two cups of flour", "three cups of flour", Differs.NUMBERS),
        ("two cups of flour", "2 cups of flour", None),
        ("What costs 1.5 EUR?", "What costs 15 EUR?", Differs.NUMBERS),
        ("on 2024-05-01", "on 2024-05-02", Differs.NUMBERS),
        ("May I eat this?", "May I not eat this?", Differs.NEGATION),
        ("I can do it", "I can't do it", Differs.NEGATION),
        ("I can’t do it", "I can't do it", None),
        ("Darf ich das?", "Darf ich das nicht?", Differs.NEGATION),
        ("who is Ada Lovelace", "who is Ada Yonath", Differs.NAMES),
        ("What does NATO do?", "What does UNO do?", Differs.NAMES),
        ("call foo.bar()", "call foo.baz()", Differs.NAMES),
        ('say "yes"', 'say "maybe"', Differs.NAMES),
        ("Does it increase heat?", "Does it decrease heat?", Differs.OPPOSITES),
        ("10 km in meters", "10 miles in meters", Differs.UNITS),
        ("how long is it", "how old is it", Differs.ASKED),
        ("when was it built", "why was it built", Differs.ASKED),
        ("What is the weather like?", "Wie ist das Wetter?", Differs.LANGUAGE),
        ("hello", "привет", Differs.LANGUAGE),
        ("", "", None),
    ],
)
def test_each_guard(one: str, other: str, found: Differs | None) -> None:
    assert differs(one, other) == differs(other, one) == found


def test_a_language_is_known_by_its_commonest_words_or_its_script() -> None:
    assert [language(text) for text in ("the cat is in", "die Katze ist im", "quelle est la", "日本語", "xyz")] == [
        "en",
        "de",
        "fr",
        "asian",
        "latin",
    ]


@pytest.mark.parametrize("fields", [{}, {"url": "http://x", "sentence_transformers": True}])
def test_an_embedder_is_one_of_two(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="either"):
        EmbedderOptions(model="m", **fields)
