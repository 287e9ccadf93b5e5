"""What would take a parser seconds is refused before it is read; long texts are not taken for it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.gateway.body import understand
from controlplane.gateway.fingerprint import Fingerprints
from controlplane.gateway.many_values import refuse_many_values
from controlplane.gateway.openai_errors import RequestRefused
from controlplane.gateway.privacy.requests import read_texts

FINGERPRINTS = Fingerprints(bytes(32))

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def cost(value: Any) -> int:
    """What is counted, of a value that was read."""
    if isinstance(value, str):
        return 3
    if isinstance(value, list):
        return 10 + max(0, len(value) - 1) + sum(map(cost, value))
    if isinstance(value, dict):
        return 10 + max(0, len(value) - 1) + sum(3 + cost(inner) for inner in value.values())
    return 0


@given(values, st.booleans())
def test_what_is_inside_texts_does_not_count(value: Any, plain: bool) -> None:
    written = json.dumps(value, ensure_ascii=plain).encode()
    refuse_many_values(written, cost(value))
    if cost(value):
        with pytest.raises(RequestRefused):
            refuse_many_values(written, cost(value) - 1)


@given(st.binary())
def test_what_is_no_json_is_counted_too(written: bytes) -> None:
    refuse_many_values(written, 10 * len(written) + 10)


@pytest.mark.parametrize("field", ["messages", "user", "tools", "stream", "kv_transfer_params"])
@pytest.mark.parametrize("element", [b"[]", b"{}", b'""', b"1"])
async def test_a_body_that_would_take_seconds_to_read_is_refused(field: str, element: bytes) -> None:
    many = b",".join([element] * 2_100_000)
    with pytest.raises(RequestRefused) as refused:
        await understand(b'{"model": "m", "%s": [%s]}' % (field.encode(), many), FINGERPRINTS)
    assert (refused.value.status, refused.value.code) == (400, "too_many_values")


async def test_texts_to_look_at_are_bounded_too() -> None:
    body = b'{"model": "m", "documents": [%s]}' % b",".join([b"{}"] * 300_000)
    await understand(body, FINGERPRINTS)  # the gateway itself has no need of them
    with pytest.raises(RequestRefused, match="values"):
        read_texts(body)


async def test_a_long_text_may_be_anything() -> None:
    text = json.dumps([{"a": [1, 2, "x"]}] * 100_000)
    asked = {"model": "m", "messages": [{"role": "user", "content": text}]}
    read = await understand(json.dumps(asked).encode(), FINGERPRINTS)
    assert read.fields["messages"] == asked["messages"]
    ids = b'{"model": "m", "prompt": [%s]}' % b",".join([b"1"] * 2_100_000)
    assert (await understand(ids, FINGERPRINTS)).prompt.tokens == 2_100_000
