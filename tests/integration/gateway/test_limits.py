"""Too much is refused with 429 before an engine is asked, per key, tenant and model."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openai
import pytest

from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.identity import ApiKey, Limits
from controlplane.domain.door.routing import RoutingTable
from controlplane.gateway.counts.opening import open_counts
from tests.integration.gateway.harness import CHAT, MODEL, Gateway, chat, gateway, revision, table
from tests.integration.gateway.upstream import DONE, FINISH, Upstream, held, pieces, status, token_event, upstream

USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":20}}\n\n'


@pytest.fixture(autouse=True)
def _time_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is allowed a minute comes back as time goes by: on a busy machine more of it than a test asks for."""
    monkeypatch.setattr(f"{open_counts.__module__}.time", SimpleNamespace(monotonic=lambda: 1000.0))


def key(name: str, tenant: str = "shop", **limits: int) -> ApiKey:
    """A key whose secret is its name."""
    return ApiKey(name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), tenant=tenant, limits=Limits(**limits))


def routed(engine: Upstream, *keys: ApiKey, version: int = 1, **options: Any) -> RoutingTable:
    routes = table(revision("rev-a", 100, engine), options=GatewayOptions(**options), version=version)
    return routes.evolve(api_keys=keys)


async def ask(gw: Gateway, name: str, **fields: Any) -> int:
    status_, _, _ = await gw.post(chat(**fields), Authorization=f"Bearer {name}")
    return status_


async def test_a_key_beyond_its_requests_is_told_when_to_come_again(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.push(routed(engine, key("a", requests_per_minute=2), key("b")))
        code, _, headers = await gw.post(chat(), Authorization="Bearer a")
        assert (code, headers["x-ratelimit-limit-requests"]) == (200, "2")
        assert headers["x-ratelimit-remaining-requests"] == "1"
        assert await ask(gw, "a") == 200
        code, body, headers = await gw.post(chat(), Authorization="Bearer a")
        error = json.loads(body)["error"]
        assert (code, error["code"], error["type"]) == (429, "rate_limit_exceeded", "rate_limit_error")
        assert 1 <= int(headers["Retry-After"]) <= 30
        assert headers["x-ratelimit-remaining-requests"] == "0"
        assert await ask(gw, "b") == 200  # others are not touched
        records = await gw.records(3)
    assert len(engine.seen) == len(records) == 3


async def test_tokens_are_reserved_on_arrival_and_settled_by_what_was_used(tmp_path: Path) -> None:
    script = pieces(token_event("x"), FINISH, USAGE, DONE)
    async with gateway(tmp_path) as gw, upstream("e1", script) as engine:
        await gw.push(routed(engine, key("a", tokens_per_minute=1000)))
        remaining = []
        for _ in range(3):
            _, _, headers = await gw.post(chat(max_tokens=900), Authorization="Bearer a")
            remaining.append(int(headers["x-ratelimit-remaining-tokens"]))
        assert await ask(gw, "a", max_tokens=950) == 429
    assert len(engine.seen) == 3  # reserving 900 each time, using 30
    assert all(remaining[number] <= 100 - 30 * number for number in range(3))


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/completions", {"max_completion_tokens": 1, "max_tokens": 995}),
        ("/v1/responses", {"max_tokens": 1, "max_output_tokens": 995}),
        *((CHAT, {"max_tokens": odd}) for odd in ("995", " +995 ", "9_95", "995.0", 995.0)),
    ],
)
async def test_no_spelling_of_a_long_answer_hides_it_from_what_is_reserved(
    tmp_path: Path, path: str, fields: dict[str, Any]
) -> None:
    script = pieces(token_event("x"), FINISH, USAGE, DONE)
    async with gateway(tmp_path) as gw, upstream("e1", script) as engine:
        await gw.push(routed(engine, key("a", tokens_per_day=1000)))
        assert await ask(gw, "a") == 200
        code, _, _ = await gw.post(chat(prompt="x", **fields), path=path, Authorization="Bearer a")
    assert code == 429
    assert len(engine.seen) == 1


async def test_what_fails_gives_its_tokens_back(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1", status(503)) as engine:
        await gw.push(routed(engine, key("a", tokens_per_minute=1000), max_retries=0))
        assert [await ask(gw, "a", max_tokens=900) for _ in range(4)] == [503] * 4


@pytest.mark.parametrize("leaves", [False, True])
async def test_streams_at_once_are_counted_until_they_end_or_their_client_leaves(tmp_path: Path, leaves: bool) -> None:
    gate = asyncio.Event()
    async with gateway(tmp_path) as gw, upstream("e1", held(gate, token_event("x"))) as engine:
        await gw.push(routed(engine, key("a", concurrent=1)))
        first = asyncio.create_task(ask(gw, "a"))
        await gw.until(lambda found: found["replicas"][0]["in_flight"] == 1)
        assert await ask(gw, "a") == 429
        if leaves:
            first.cancel()
        else:
            gate.set()
            assert await first == 200
        await gw.until(lambda found: found["in_flight"] == 0)
        gate.set()
        assert await ask(gw, "a") == 200


async def test_tenants_and_the_model_have_limits_of_their_own(tmp_path: Path) -> None:
    keys = [key("a1", "a"), key("a2", "a"), key("b1", "b"), key("c1", "c")]
    options: dict[str, Any] = {
        "limits": Limits(requests_per_minute=6),
        "tenant_limits": Limits(requests_per_minute=2),
        "limits_of": {"b": Limits(requests_per_minute=3), "c": Limits()},
    }
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.push(routed(engine, *keys, **options))
        assert [await ask(gw, name) for name in ("a1", "a2", "a1", "a2")] == [200, 200, 429, 429]
        assert [await ask(gw, "b1") for _ in range(4)] == [200, 200, 200, 429]
        assert [await ask(gw, "c1") for _ in range(2)] == [200, 429]  # the model's own: 6 altogether


async def test_new_limits_hold_at_once_and_none_is_no_stage(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.push(routed(engine, key("a", requests_per_minute=1)))
        assert [await ask(gw, "a") for _ in range(2)] == [200, 429]
        await gw.push(routed(engine, key("a"), version=2))
        assert [await ask(gw, "a") for _ in range(3)] == [200] * 3
        await gw.push(routed(engine, key("a", requests_per_minute=2), version=3))
        assert [await ask(gw, "a") for _ in range(3)] == [200, 200, 429]


async def test_openais_client_sees_its_own_error(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.push(routed(engine, key("a", requests_per_minute=1)))
        await ask(gw, "a")
        async with openai.AsyncOpenAI(base_url=f"{gw.url}/v1", api_key="a", max_retries=0) as client:
            with pytest.raises(openai.RateLimitError, match="requests per minute"):
                await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x"}])


@pytest.mark.parametrize("counted", ["-900", "-1", "1" + "0" * 400])
@pytest.mark.parametrize("streamed", [True, False])
async def test_what_no_engine_can_have_counted_gives_nothing_back_and_breaks_nothing(
    tmp_path: Path, counted: str, streamed: bool
) -> None:
    usage = f'"usage": {{"prompt_tokens": {counted}, "completion_tokens": {counted}}}'
    whole = f'{{"object": "chat.completion", "model": "{MODEL}", "choices": [], {usage}}}'.encode()
    script = pieces(token_event("x"), FINISH, b"data: %b\n\n" % whole, DONE) if streamed else status(200, whole)
    async with gateway(tmp_path) as gw, upstream("e1", script) as engine:
        await gw.push(routed(engine, key("a", tokens_per_minute=1000, requests_per_minute=2)))
        assert [await ask(gw, "a", stream=streamed, max_tokens=10) for _ in range(3)] == [200, 200, 429]
        records = await gw.records(2)
        async with gw.session.get(f"{gw.running.address.admin_url}/metrics") as response:
            assert response.status == 200
            told = await response.text()
    assert {record.prompt_tokens for record in records} == {None}
    assert 'fleetune_gateway_requests_total{revision="rev-a",service="chat",status="200"} 2.0' in told
