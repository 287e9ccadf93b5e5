"""What is recognised, and that it is recognised alike however a text is cut."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from controlplane.domain.door.personal import _PATTERNS, Personal, Recogniser, _matches, _span, find, is_card, is_iban
from controlplane.domain.door.redacting import LARGEST_HOLD, Channel, placeholder, redacted
from tests.unit.domain.labelled_personal import WITH, WITHOUT, Labelled

ALL = Recogniser()
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def streamed(pieces: list[str], *, written_json: bool = False) -> str:
    """Send the pieces as they are settled, as a stream would."""
    channel, at, out = Channel(ALL, written_json=written_json), 0, []
    held: list[tuple[int, str]] = []
    for piece in pieces:
        channel.push(piece)
        held.append((at, piece))
        at += len(piece)
        while held and held[0][0] + len(held[0][1]) <= channel.settled:
            out.append(channel.changed(*held.pop(0)))
    channel.finish()
    return "".join(out) + "".join(channel.changed(*each) for each in held)


def expected(labelled: Labelled) -> str:
    text = labelled.text
    for kind, said in labelled.wanted:
        text = text.replace(said, placeholder(kind))
    return text


def test_recall_and_false_alarms_on_the_labelled_set() -> None:
    """Every label is found, with its kind and its ends, and nothing else: recall 1, false alarms 0 of this set."""
    for labelled in WITH:
        found = [(span.kind, labelled.text[span.start : span.end]) for span in find(labelled.text, tuple(Personal))]
        assert found == list(labelled.wanted), labelled.text
    assert [text for text in WITHOUT if find(text, tuple(Personal))] == []


@pytest.mark.parametrize("labelled", WITH, ids=lambda each: each.text[:30])
def test_cut_at_every_place_the_same_comes_out(labelled: Labelled) -> None:
    text, wanted = labelled.text, expected(labelled)
    assert redacted(text, ALL) == wanted
    assert all(streamed([text[:cut], text[cut:]]) == wanted for cut in range(len(text) + 1))
    assert streamed(list(text)) == wanted


def test_a_key_in_a_key_is_one_and_ends_the_address_before_it() -> None:
    begun = "-----BEGIN PRIVATE KEY-----"
    text = f"to bob@example.com{begun}ab{begun}cd"
    assert streamed(list(text)) == redacted(text, ALL) == "to [EMAIL][KEY]"


SNIPPETS = (
    *(
        "sk-",
        "ab12CD34ef56GH78",
        "AKIA",
        "_live_",
        "eyJ",
        "-----BEGIN PRIVATE KEY-----",
        "a@b.de",
        "@",
        ".",
        "x" * 70,
        "w",
    ),
    *(
        "DE89 3704 0044 0532 0130 00",
        "DE89",
        "4111 1111 1111 1111",
        "3782 822463 10005",
        "+49 (30) 123",
        "0049 30 1234567",
    ),
    *("(030) 1234567", "212-555-0123", "1", "23", "4567", " ", "-", "/", "(", ")", "+", "GB", "é", "ſ", "\n", '"'),
)


@given(st.lists(st.sampled_from(SNIPPETS), max_size=14).map("".join))
@settings(QUICK, max_examples=200)
def test_looking_only_where_something_may_be_misses_nothing(text: str) -> None:
    """What the patterns find when they are tried at each place of the text, they find."""
    for kind in ALL.kinds:
        for pattern, holds in _PATTERNS[kind]:
            everywhere = [_span(match, kind, holds) for match in pattern.finditer(text)]
            where = [_span(match, kind, holds) for match in _matches(kind, pattern, text)]
            assert [span for span in where if span] == [span for span in everywhere if span]
    long = [(span.start, span.kind) for span in find(text + " " * 300, ALL.kinds)]
    assert [(span.start, span.kind) for span in find(text, ALL.kinds)] == long


def test_what_has_nothing_comes_out_as_it_came() -> None:
    for text in WITHOUT:
        assert redacted(text, ALL) is text
        assert streamed(list(text)) == text


PARTS = st.lists(st.sampled_from([each.text for each in WITH] + WITHOUT), min_size=1, max_size=4)


@QUICK
@given(PARTS, st.sampled_from([" ", "\n", ", ", ". "]), st.integers(0, 2**32))
@example(["IBAN GB82 WEST 1234 5698 7654 32 THE BANK", "bob.smith+news@mail.example.co.uk, or call."], " ", 3)
def test_any_text_in_any_pieces_comes_out_as_in_one(parts: list[str], glue: str, seed: int) -> None:
    text, chance = glue.join(parts), random.Random(seed)
    cuts = sorted(chance.randrange(len(text) + 1) for _ in range(chance.randrange(12)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert streamed(pieces) == redacted(text, ALL)


@QUICK
@given(PARTS, st.integers(0, 2**32))
def test_json_of_a_tool_call_stays_json_with_the_same_shape(parts: list[str], seed: int) -> None:
    given_ = {
        "to": parts,
        "n": 4111111111111111,
        "m": [5555555555554444, 1.5, None],
        'q"k': {"a": "\u00e9\n" + parts[0]},
    }
    chance = random.Random(seed)
    text = json.dumps(given_, ensure_ascii=chance.random() < 0.5)
    cuts = sorted(chance.randrange(len(text) + 1) for _ in range(20))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    got = json.loads(streamed(pieces, written_json=True))
    assert got["to"] == [redacted(part, ALL) for part in parts]
    assert (got["n"], got["m"]) == ("[CARD]", ["[CARD]", 1.5, None])
    assert got['q"k']["a"] == redacted("\u00e9\n" + parts[0], ALL)


def test_an_address_behind_an_escape_or_written_with_one_is_found() -> None:
    for written in (
        r'{"a":"\nalice@example.com"}',
        r'{"a":"\u00e9alice\u0040example.com"}',
        r'{"a":"\\alice@example.com\\"}',
    ):
        for cut in range(len(written) + 1):
            got = streamed([written[:cut], written[cut:]], written_json=True)
            assert "[EMAIL]" in json.loads(got)["a"]
            assert "alice" not in got


def test_a_secret_longer_than_what_is_held_back_never_comes_out() -> None:
    key = "sk-" + "a1B2" * LARGEST_HOLD
    pem = "-----BEGIN PRIVATE KEY-----\n" + "q7Zx\n" * LARGEST_HOLD + "-----END PRIVATE KEY-----"
    for secret in (key, pem):
        text = f"it is {secret} and that is all"
        for size in (1000, 37, 5):
            pieces = [text[at : at + size] for at in range(0, len(text), size)]
            assert streamed(pieces) == "it is [KEY] and that is all"
        assert streamed([text[:3000]]) == "it is [KEY]"


def test_no_more_is_held_back_than_the_last_word_in_plain_prose() -> None:
    channel, text = Channel(ALL), "The quick brown fox jumps over the lazy dog and runs away"
    for end in range(len(text)):
        channel.push(text[end])
        assert end + 1 - channel.settled <= len("The quick"), text[: end + 1]


@pytest.mark.parametrize("text", ["x" * 100_000, "@" * 100_000, "1 " * 50_000, "A1 " * 30_000, "-----BEGIN " * 9000])
def test_what_never_breaks_is_let_through_in_time(text: str) -> None:
    """A pattern that goes back over its steps would need hours here: the limit of the test run ends it."""
    assert streamed([text[at : at + 50] for at in range(0, len(text), 50)]) == text


def test_checksums() -> None:
    assert is_card("4111-1111-1111-1111")
    assert not is_card("4111-1111-1111-1112")
    assert not is_card("0")
    assert is_iban("DE89 3704 0044 0532 0130 00")
    assert not is_iban("DE88 3704 0044 0532 0130 00")
