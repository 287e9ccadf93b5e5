"""Prompts have the exact length, share what shall be shared, and nothing else."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from loadtests.send.prompts import TokenIdPrompts, WordPrompts, parts_of
from loadtests.send.words import COMMON_WORDS

IDS = TokenIdPrompts(salt=7)
WORDS = WordPrompts(7, COMMON_WORDS)


def ids(index: int, total: int, *, group: int = -1, shared: int = 0, blocks: tuple[int, ...] = ()) -> list[int]:
    parts = parts_of(index, total, group=group, group_tokens=shared, blocks=blocks, block_tokens=16)
    tokens: list[int] = json.loads(IDS.render(parts))
    return tokens


@given(st.integers(0, 10**9), st.integers(1, 70_000))
def test_token_ids_have_the_exact_length_and_fit_every_vocabulary(index: int, total: int) -> None:
    tokens = ids(index, total)
    assert len(tokens) == total
    assert 1000 <= min(tokens) <= max(tokens) <= 9999


@given(st.integers(0, 10**6), st.integers(1, 500))
def test_words_have_the_exact_length(index: int, total: int) -> None:
    parts = parts_of(index, total, group=3, group_tokens=total // 2)
    assert len(json.loads(WORDS.render(parts)).split()) == total


def test_no_two_prompts_begin_alike() -> None:
    beginnings = {tuple(ids(index, 64)[:8]) for index in range(5000)}
    assert len(beginnings) == 5000


def test_another_salt_is_another_prompt() -> None:
    parts = parts_of(1, 64, group=-1, group_tokens=0)
    assert IDS.render(parts) != TokenIdPrompts(salt=8).render(parts)
    assert IDS.render(parts) == TokenIdPrompts(salt=7).render(parts)


def test_group_shares_exactly_its_prefix() -> None:
    one, other = ids(1, 200, group=4, shared=120), ids(2, 300, group=4, shared=120)
    assert one[:120] == other[:120]
    assert one[120:128] != other[120:128]


def test_a_session_grows_out_of_its_earlier_prompts() -> None:
    first, second = ids(1, 100, group=9, shared=100), ids(2, 250, group=9, shared=250)
    assert second[:100] == first


def test_blocks_are_shared_by_id_and_cut_to_the_prompt() -> None:
    one, other = ids(1, 40, blocks=(5, 6, 7)), ids(2, 60, blocks=(5, 6, 8))
    assert one[:32] == other[:32]
    assert one[32:40] != other[32:40]
    assert (len(one), len(other)) == (40, 60)
