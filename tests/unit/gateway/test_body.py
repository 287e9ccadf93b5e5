"""Bodies are understood alike, small and large; large ones off the event loop and without building their prompt."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.gateway.body import LONG_TEXT_BYTES, SMALL_BYTES, Understood, is_long_text, understand
from controlplane.gateway.fingerprint import MOST_BLOCKS, Fingerprints, Prompt
from controlplane.gateway.openai_errors import RequestRefused

SALT = b"s" * 32
FINITE = st.floats(allow_nan=False, allow_infinity=False)


class Watching(Fingerprints):
    """Notes on which thread it was asked."""

    def prompt(self, fields: Mapping[str, Any]) -> Prompt:
        self.thread = threading.current_thread()
        return super().prompt(fields)


def padded(fields: Mapping[str, Any]) -> bytes:
    """Write a body beyond what is understood on the spot; white space says nothing."""
    return json.dumps(fields).encode() + b" " * SMALL_BYTES


async def understood(body: bytes) -> Understood:
    return await understand(body, Fingerprints(SALT))


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "m", "stream": True, "user": "ana", "messages": [{"role": "user", "content": "hi" * 99}]},
        {"model": "m", "prompt": "long words " * 9_000, "max_tokens": 9},
        {"model": "m", "prompt": ["one of one " * 9_000]},
        {"model": "m", "prompt": list(range(5_000)), "cache_salt": "x"},
        {"model": "m", "input": ["a", "b"]},
        {"model": "m", "prompt": None, "input": [7, 8]},
        {"model": "m", "prompt": [[1, 2], [3, 4]]},
        {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "é" * 99}]}], "tools": [{}]},
    ],
)
async def test_a_large_body_is_understood_like_a_small_one(fields: dict[str, Any]) -> None:
    large = await understood(padded(fields))
    assert large.prompt == Fingerprints(SALT).prompt(fields)
    for name in ("model", "stream", "user", "max_tokens"):
        assert large.fields.get(name) == fields.get(name)


async def test_of_a_huge_prompt_of_ids_only_the_fingerprinted_beginning_is_built() -> None:
    ids = list(range(100_000)) * 3
    found = await understood(json.dumps({"model": "m", "prompt": ids}).encode())
    assert found.prompt == Fingerprints(SALT).prompt({"prompt": ids})
    assert (found.prompt.tokens, len(found.prompt.blocks)) == (300_000, MOST_BLOCKS)
    assert "prompt" not in found.fields


async def test_a_large_body_is_understood_on_another_thread() -> None:
    prints = Watching(SALT)
    await understand(b'{"model":"m"}', prints)
    assert prints.thread is threading.current_thread()
    await understand(padded({"model": "m"}), prints)
    assert prints.thread is not threading.current_thread()


async def test_one_long_text_is_no_trouble_to_the_event_loop() -> None:
    prints = Watching(SALT)
    fields = {"model": "m", "messages": [{"role": "user", "content": "word " * (SMALL_BYTES // 4)}]}
    found = await understand(json.dumps(fields).encode(), prints)
    assert prints.thread is threading.current_thread()
    assert (found.fields["model"], found.whole) == ("m", None)
    assert found.prompt == Fingerprints(SALT).prompt(fields)


LONG = b'{"prompt": "' + b"x" * SMALL_BYTES + b'"}'


@pytest.mark.parametrize(
    ("body", "is_one"),
    [
        (LONG, True),
        (LONG[:-2] + b'\\n"}', True),
        (LONG[:-2] + b'\\""}', False),
        (LONG[:-2] + b'\\\\"}', False),  # a backslash, not a quote; so much is not looked at
        (LONG[:-2] + b"x" * LONG_TEXT_BYTES + b'"}', False),
        (LONG[:-2], False),
        (LONG[:-1] + b', "a": ""' * 200 + b"}", False),
        (LONG[:-1] + b', "a": [' + b"[]," * 3_000 + b"[]]}", False),
        (b" " * SMALL_BYTES + b"{}", False),
    ],
)
def test_a_long_text_has_little_around_it_and_no_escaped_quotes(body: bytes, is_one: bool) -> None:
    assert is_long_text(body) is is_one


@pytest.mark.parametrize("ended", ["\\ud800", "\x00", "\\q", "\xff"])
async def test_a_long_text_that_is_no_json_is_refused_as_on_a_thread(ended: str) -> None:
    body = LONG[:-2] + ended.encode("latin-1") + b'"}'
    assert is_long_text(body)
    with pytest.raises(RequestRefused) as refused:
        await understood(body)
    assert refused.value.code == "invalid_json"


@pytest.mark.parametrize(
    "body", [b"{not", b"[1]", b"[" * 200_000, b'{"a":' + b"[" * 200_000, b'\xff\xfe"', b"", b"3"], ids=repr
)
@pytest.mark.parametrize("size", [0, SMALL_BYTES])
async def test_what_is_no_json_object_is_refused_whatever_its_size(body: bytes, size: int) -> None:
    with pytest.raises(RequestRefused) as refused:
        await understood(body[:100] + b" " * size if len(body) < 200_000 else body)
    assert (refused.value.status, refused.value.code) == (400, "invalid_json")


@given(
    fields=st.dictionaries(
        st.sampled_from(["prompt", "input", "messages", "tools", "cache_salt", "user", "stream"]),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-3, 2**40)
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(max_size=9),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
            max_leaves=12,
        ),
    )
)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
async def test_whatever_json_comes_is_understood_without_an_error(fields: dict[str, Any]) -> None:
    small = await understood(json.dumps(fields).encode())
    large = await understood(padded(fields))
    assert small.prompt == large.prompt
