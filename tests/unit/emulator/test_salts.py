"""Requests of different `cache_salt` share no prefix, as in vLLM."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.emulator.served import Client, served
from tests.unit.emulator.test_sleeping import counter

ASKED = {
    "/v1/completions": {"prompt": list(range(64)), "max_tokens": 1},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "long " * 200}], "max_tokens": 1},
}


async def hits(client: Client, path: str, **fields: Any) -> float:
    """Return how many tokens of the prompt were in the cache."""
    before = await counter(client, "vllm:prefix_cache_hits_total")
    answer = await client.post(path, json={**ASKED[path], **fields})
    assert answer.status == 200
    await answer.read()
    return await counter(client, "vllm:prefix_cache_hits_total") - before


@pytest.mark.parametrize("path", ASKED)
async def test_a_prompt_is_found_again_under_its_own_salt_only(path: str) -> None:
    async with served() as client:
        first = [await hits(client, path, **fields) for fields in ({}, {"cache_salt": "a"}, {"cache_salt": "b"})]
        again = [await hits(client, path, **fields) for fields in ({"cache_salt": "a"}, {"cache_salt": "b"}, {})]
    assert first == [0, 0, 0]
    assert min(again) >= 48
