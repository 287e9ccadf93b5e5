"""An engine goes to sleep and wakes up as vLLM 0.26 does: what becomes of requests before, during and after."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.unit.emulator.served import Client, served

_DEV = {"VLLM_SERVER_DEV_MODE": "1"}
_SHORT = {"prompt": "a b", "max_tokens": 2}
_LONG = {"prompt": "a b", "max_tokens": 4000, "stream": True}


async def is_sleeping(client: Client) -> bool:
    return bool((await (await client.get("/is_sleeping")).json())["is_sleeping"])


async def state(client: Client) -> str:
    text = await (await client.get("/metrics")).text()
    return next(
        line.split('sleep_state="')[1].split('"')[0]
        for line in text.splitlines()
        if line.startswith("vllm:engine_sleep_state{") and line.endswith(" 1.0")
    )


async def counter(client: Client, name: str) -> float:
    text = await (await client.get("/metrics")).text()
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name + "{"))


async def still(client: Client) -> float:
    """Return how many tokens are out once no more come; every question gives the engine a turn to catch up."""
    said = [-1.0]
    while len(set(said[-20:])) > 1 or len(said) < 20:
        said.append(await counter(client, "vllm:generation_tokens_total"))
    return said[-1]


async def begun(client: Client) -> Any:
    """Start a long stream and return it once its first token is there."""
    answer = await client.post("/v1/completions", json=_LONG)
    await answer.content.readline()
    return answer


async def test_nobody_may_put_an_engine_to_sleep_that_is_not_in_dev_mode() -> None:
    async with served("--enable-sleep-mode") as client:
        assert (await client.post("/sleep")).status == 404
        assert (await client.get("/is_sleeping")).status == 404


@pytest.mark.parametrize(("level", "shown"), [(1, "weights_offloaded"), (2, "discard_all")])
async def test_what_comes_while_it_sleeps_is_answered_when_it_wakes(level: int, shown: str) -> None:
    async with served("--enable-sleep-mode", **_DEV) as client:
        assert not await is_sleeping(client)
        assert (await client.post(f"/sleep?level={level}")).status == 200
        assert await is_sleeping(client)
        assert await state(client) == shown
        asked = asyncio.create_task(client.post("/v1/completions", json=_SHORT))
        async with asyncio.timeout(240):
            while await counter(client, "vllm:num_requests_waiting") == 0:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert not asked.done()
        assert await counter(client, "vllm:num_requests_waiting") == 1
        assert (await client.post("/wake_up")).status == 200
        assert (await asked).status == 200
        assert (await is_sleeping(client), await state(client)) == (False, "awake")


async def test_a_running_answer_ends_with_the_reason_abort() -> None:
    async with served("--enable-sleep-mode", **_DEV) as client:
        answer = await begun(client)
        await client.post("/sleep")
        rest = (await answer.read()).decode()
        assert '"finish_reason":"abort"' in rest
        assert rest.endswith("data: [DONE]\n\n")


async def test_it_waits_for_a_running_answer_when_told_to() -> None:
    async with served("--enable-sleep-mode", **_DEV) as client:
        answer = await begun(client)
        await client.post("/sleep?mode=wait")
        rest = (await answer.read()).decode()
        assert '"finish_reason":"length"' in rest
        assert await is_sleeping(client)


async def test_a_kept_answer_stands_still_and_goes_on() -> None:
    async with served("--enable-sleep-mode", **_DEV) as client:
        answer = await begun(client)
        await client.post("/sleep?level=0&mode=keep")
        said = await still(client)
        assert said < 4000
        await client.post("/wake_up?tags=scheduling")
        assert '"finish_reason":"length"' in (await answer.read()).decode()


async def test_memory_comes_back_in_parts_and_requests_only_with_the_last() -> None:
    async with served("--enable-sleep-mode", **_DEV) as client:
        await client.post("/sleep")
        await client.post("/wake_up?tags=weights")
        assert await is_sleeping(client)
        await client.post("/wake_up?tags=kv_cache")
        assert not await is_sleeping(client)


@pytest.mark.parametrize("query", ["level=deep", "mode=gently"])
async def test_a_sleep_nobody_knows_is_an_error_of_the_server_as_in_vllm(query: str) -> None:
    async with served(**_DEV) as client:
        assert (await client.post(f"/sleep?{query}")).status == 500
        assert not await is_sleeping(client)


async def test_prefixes_are_forgotten() -> None:
    ask = {"prompt": list(range(64)), "max_tokens": 1}
    async with served("--enable-sleep-mode", **_DEV) as client:
        for _ in range(2):
            await client.post("/v1/completions", json=ask)
        before = await counter(client, "vllm:prefix_cache_hits_total")
        await client.post("/sleep")
        await client.post("/wake_up")
        await client.post("/v1/completions", json=ask)
        assert (before > 0, await counter(client, "vllm:prefix_cache_hits_total")) == (True, before)
