"""Which answers may be kept, and by what they are known."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.domain.door.caching import CacheMode, CacheOptions, CacheWish, Partition, cache_key, may_be_cached

QUICK = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
CHAT = "/v1/chat/completions"
WHERE = Partition("shop", "chat", "rev-a")


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "hello"}], **fields}


def may(mode: CacheMode, fields: dict[str, Any], wish: CacheWish | None = None, path: str = CHAT) -> bool:
    return may_be_cached(CacheOptions(mode=mode), path, fields, wish)


@pytest.mark.parametrize(
    ("mode", "sampled", "greedy", "asked"),
    [
        (CacheMode.OFF, False, False, False),
        (CacheMode.ON_REQUEST, False, False, True),
        (CacheMode.GREEDY, False, True, True),
        (CacheMode.ALL, True, True, True),
    ],
)
def test_a_mode_says_whose_answers_are_kept(mode: CacheMode, sampled: bool, greedy: bool, asked: bool) -> None:
    assert may(mode, chat()) == may(mode, chat(temperature=0.7)) == sampled
    assert may(mode, chat(temperature=0)) == may(mode, chat(temperature=0.0)) == greedy
    assert may(mode, chat(), CacheWish.USE) == may(mode, chat(), CacheWish.REFRESH) == asked
    assert not may(mode, chat(temperature=0), CacheWish.NO)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (None, float("nan")),
        (float("inf"), float("nan")),
        (1, 1.0),
        (1, True),
        (0, "0"),
        (10**30, 10**30 + 1),
        ("\ud800", "\ud801"),
        ("null", None),
        ([None], []),
    ],
)
def test_what_json_tells_apart_has_keys_of_its_own(one: object, other: object) -> None:
    keys = {cache_key(WHERE, CHAT, "", chat(temperature=each)) for each in (one, other)}
    assert len(keys) == 2
    assert cache_key(WHERE, CHAT, "", chat(temperature=one)) in keys


IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
SOUND = [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "input_audio", "input_audio": {}}]}]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(chat(tools=[{"type": "function"}]), id="tools"),
        pytest.param(chat(functions=[{"name": "f"}]), id="old tools"),
        pytest.param(chat(messages=IMAGE), id="a picture"),
        pytest.param(chat(messages=SOUND), id="a sound"),
        pytest.param(chat(messages=[{"role": "tool", "content": "7", "tool_call_id": "c"}]), id="a tool's answer"),
        pytest.param(chat(messages=[{"role": "assistant", "content": None, "tool_calls": [{}]}]), id="a tool's call"),
        pytest.param(chat(messages=[{"role": "user", "content": {"type": "image"}}]), id="content nobody knows"),
        pytest.param(chat(messages=["hello"]), id="no messages"),
        pytest.param(chat(messages="hello"), id="no list"),
        pytest.param(chat(n=2), id="several samples"),
        pytest.param(chat(n=2, temperature=1), id="several warm samples"),
        pytest.param(chat(best_of=3), id="the best of several"),
    ],
)
def test_some_are_never_kept_whoever_asks(fields: dict[str, Any]) -> None:
    assert not may(CacheMode.ALL, fields, CacheWish.USE)


def test_several_answers_of_temperature_zero_are_one_answer_several_times() -> None:
    assert may(CacheMode.GREEDY, chat(n=2, temperature=0))
    assert not may(CacheMode.GREEDY, chat(temperature=False))


def test_embeddings_depend_on_no_chance_and_other_paths_are_not_kept() -> None:
    assert may(CacheMode.GREEDY, {"model": "m", "input": "x"}, path="/v1/embeddings")
    assert not may(CacheMode.ALL, chat(temperature=0), path="/v1/responses")


WORDS = st.sampled_from(["", "a", "b"])
PLAIN = st.none() | st.booleans() | st.integers(0, 3) | WORDS | st.lists(st.integers(0, 1) | WORDS, max_size=2)
FIELDS = st.dictionaries(st.sampled_from(["messages", "seed", "top_p", "stop", "cache_salt", "stream", "x"]), PLAIN)


@QUICK
@given(FIELDS, FIELDS)
def test_requests_share_a_key_only_when_they_say_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = repr(sorted(one.items(), key=str)) == repr(sorted(other.items(), key=str))
    assert (cache_key(WHERE, CHAT, "", one) == cache_key(WHERE, CHAT, "", other)) == same


@QUICK
@given(FIELDS, WORDS)
def test_who_asks_and_the_order_of_fields_are_in_no_key(fields: dict[str, Any], user: str) -> None:
    turned = dict(reversed(list(fields.items())))
    assert cache_key(WHERE, CHAT, "", fields) == cache_key(WHERE, CHAT, "", {**turned, "user": user, "priority": 3})


@pytest.mark.parametrize(
    "where", [Partition("other", "chat", "rev-a"), Partition("shop", "x", "rev-a"), Partition("shop", "chat", "rev-b")]
)
def test_tenants_services_and_revisions_share_nothing(where: Partition) -> None:
    assert cache_key(where, CHAT, "", chat()) != cache_key(WHERE, CHAT, "", chat())
    assert cache_key(WHERE, CHAT, "beta=1", chat()) != cache_key(WHERE, CHAT, "", chat())
