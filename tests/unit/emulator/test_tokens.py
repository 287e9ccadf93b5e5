"""The invented vocabulary and what an emulated model says."""

from __future__ import annotations

import json
import random

from hypothesis import given
from hypothesis import strategies as st

from controlplane.emulator.endings import Output
from controlplane.emulator.outputs import plan_output
from controlplane.emulator.protocol import ChatBody, CompletionBody
from controlplane.emulator.tokens import InventedTokenizer, OutputWords, block_hashes, escaped

TOKENIZER = InventedTokenizer()
WORDS = OutputWords(TOKENIZER, seed=1)


@given(st.lists(st.integers(0, 128255), max_size=50))
def test_token_ids_survive_being_written_as_text(ids: list[int]) -> None:
    assert TOKENIZER.encode(TOKENIZER.decode(ids)) == ids


@given(st.text(max_size=200))
def test_any_text_becomes_tokens_of_the_vocabulary(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert all(0 <= token < TOKENIZER.vocabulary_size for token in ids)
    assert TOKENIZER.encode(text) == ids
    assert bool(ids) == bool(text)


def test_english_costs_about_a_token_per_four_characters() -> None:
    text = "Latency comes from a model of continuous batching on given hardware, and nobody has to guess it. " * 20
    assert 3 <= len(text) / len(TOKENIZER.encode(text)) <= 5


@given(st.text(max_size=40))
def test_escaped_text_is_what_stands_in_json(text: str) -> None:
    assert json.loads(b'"' + escaped(text) + b'"') == text


def test_equal_prefixes_have_equal_hashes_up_to_where_they_part() -> None:
    first, second = list(range(64)), [*range(40), 999, *range(41, 64)]
    shared = [a == b for a, b in zip(block_hashes(first, 16), block_hashes(second, 16), strict=True)]
    assert shared == [True, True, False, False]


def test_only_full_blocks_have_a_hash() -> None:
    assert [len(block_hashes(list(range(n)), 16)) for n in (0, 15, 16, 31, 32)] == [0, 0, 1, 1, 2]


def planned(body: ChatBody | CompletionBody, *, room: int = 8000, seed: int = 0) -> Output:
    return plan_output(body, room=room, words=WORDS, start=0, draw=random.Random(seed))


def a_completion(**fields: object) -> CompletionBody:
    return CompletionBody.model_validate({"prompt": [1], **fields})


def a_chat(**fields: object) -> ChatBody:
    return ChatBody.model_validate({"messages": [{"role": "user", "content": "x"}], **fields})


def test_a_stated_length_is_kept() -> None:
    assert planned(a_completion(max_tokens=77)) == Output(77, "length")
    assert planned(a_chat(max_completion_tokens=5, max_tokens=9)) == Output(5, "length")


def test_a_completion_that_states_none_gets_sixteen_tokens() -> None:
    assert planned(a_completion()) == Output(16, "length")


def test_a_chat_that_states_none_ends_by_itself() -> None:
    ends = [planned(a_chat(), seed=seed) for seed in range(200)]
    assert {end.finish_reason for end in ends} == {"stop"}
    assert 100 < sum(end.tokens for end in ends) / len(ends) < 300


def test_a_chat_that_ignores_the_end_fills_the_context() -> None:
    assert planned(a_chat(ignore_eos=True), room=500) == Output(500, "length")


def test_a_stop_string_ends_the_text_before_it() -> None:
    text = WORDS.text(0, 30)
    stop = text[41:46]
    end = planned(a_completion(max_tokens=30, stop=stop))
    assert (end.finish_reason, end.stop_reason) == ("stop", stop)
    assert end.characters == text.find(stop)
    assert end.tokens <= 12


def test_a_stop_token_ends_it_but_not_before_the_least_length() -> None:
    token = WORDS.token(3)
    assert planned(a_completion(max_tokens=30, stop_token_ids=[token])) == Output(4, "stop", token)
    assert planned(a_completion(max_tokens=30, min_tokens=10, stop_token_ids=[token])) == Output(30, "length")


@given(st.text(max_size=200))
def test_text_splits_into_as_many_things_as_it_has_tokens(text: str) -> None:
    assert len(TOKENIZER.split(text)) == len(TOKENIZER.encode(text))
