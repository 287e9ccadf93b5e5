"""Tokens and money of days and months, kept over restarts, and limits that four gateways share in a Redis."""

from __future__ import annotations

import asyncio
import hashlib
import json
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from controlplane.domain.door.gateway_options import GatewayOptions, TokenPrice
from controlplane.domain.door.identity import ApiKey, Limits
from controlplane.host.clock import steady_clock
from tests.integration.gateway.harness import chat, gateway, revision, table
from tests.integration.gateway.upstream import DONE, FINISH, held, pieces, token_event, upstream
from tests.redis import OwnRedis, own_redis

USED_30 = pieces(
    token_event("x"), FINISH, b'data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":20}}\n\n', DONE
)
PRICE = TokenPrice(usd_per_million_prompt_tokens=1_000, usd_per_million_output_tokens=2_000)  # 5 cents a request


def at_noon(folder: Path) -> Path:
    """Let a gateway of this folder live at noon in the middle of a month: no test may end another day than it began."""
    steady_clock(folder, wall=lambda: datetime(2026, 5, 15, 12, tzinfo=UTC))
    return folder


def patient(redis: OwnRedis) -> dict[str, Any]:
    """Settings with which a busy machine is no lost Redis, and no lost gateway."""
    return {"limits_redis_url": redis.url, "limits_answer_within_s": 240, "limits_gone_after_s": 3600}


def key(name: str, **limits: Any) -> ApiKey:
    return ApiKey(name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), limits=Limits(**limits))


@pytest.mark.parametrize(
    "limits", [{"tokens_per_day": 100}, {"tokens_per_month": 100}, {"usd_per_day": 0.16}, {"usd_per_month": 0.16}]
)
async def test_a_budget_is_spent_by_real_usage_and_remembered_over_a_restart(
    tmp_path: Path, limits: dict[str, Any]
) -> None:
    async with upstream("e1", USED_30) as engine:
        routes = table(revision("rev-a", 100, engine), options=GatewayOptions(price=PRICE))
        routes = routes.evolve(api_keys=(key("a", **limits),))
        for asked, code in ((2, 200), (1, 200), (1, 429)):  # 30 tokens each time; two lives, the third is refused
            async with gateway(at_noon(tmp_path)) as gw:
                await gw.push(routes)
                for _ in range(asked):
                    status, body, headers = await gw.post(chat(max_tokens=20), Authorization="Bearer a")
                    assert status == code, body
        assert json.loads(body)["error"]["code"] == "insufficient_quota"
        assert int(headers["Retry-After"]) > 0
        assert len(engine.seen) == 3


async def test_money_without_a_price_is_refused_and_said(tmp_path: Path) -> None:
    async with gateway(at_noon(tmp_path)) as gw, upstream("e1", USED_30) as engine:
        await gw.push(table(revision("rev-a", 100, engine)).evolve(api_keys=(key("a", usd_per_day=1),)))
        status, body, _ = await gw.post(chat(), Authorization="Bearer a")
        assert (status, json.loads(body)["error"]["code"]) == (403, "price_unknown")
    with pytest.raises(ValueError, match="price"):
        GatewayOptions(limits=Limits(usd_per_day=1))


async def test_sums_that_cannot_be_read_begin_anew(tmp_path: Path) -> None:
    broken = tmp_path / "gateways" / "sums" / "gw-1.json"
    broken.parent.mkdir(parents=True)
    broken.write_text('["no sums"]')
    async with gateway(at_noon(tmp_path)) as gw, upstream("e1", USED_30) as engine:
        await gw.push(table(revision("rev-a", 100, engine)).evolve(api_keys=(key("a", tokens_per_day=100),)))
        assert (await gw.post(chat(max_tokens=20), Authorization="Bearer a"))[0] == 200
    assert json.loads(broken.read_text()).popitem()[1] == 30


async def test_four_gateways_of_one_redis_keep_a_limit_and_their_shares_when_it_is_killed(tmp_path: Path) -> None:
    """The sum of a day needs no clock: what passes is exact."""
    with TemporaryDirectory() as folder, own_redis(Path(folder)) as redis:
        shared = patient(redis)
        async with AsyncExitStack() as stack:
            engine = await stack.enter_async_context(upstream("e1", USED_30))
            routes = table(revision("rev-a", 100, engine)).evolve(api_keys=(key("a", tokens_per_day=1200),))
            gateways = []
            for number in range(4):
                gateways.append(await stack.enter_async_context(gateway(at_noon(tmp_path / str(number)), **shared)))
                await gateways[-1].push(routes)

            async def passed(rounds: int) -> int:
                """Ask for 30 tokens, which are used, of one gateway after the other."""
                asked = [await gw.post(chat(max_tokens=26), Authorization="Bearer a") for gw in gateways * rounds]
                return sum(status == 200 for status, _, _ in asked)

            assert await passed(3) == 12  # 360 of 1200
            redis.kill()
            assert await passed(8) == 28  # each keeps a quarter of what it last saw: 930, 900, 870 and 840
            status = await gateways[0].status()
            assert "Redis" in status["troubles"][0]
            async with gateways[0].session.get(gateways[0].running.address.admin_url + "/metrics") as response:
                assert "fleetune_gateway_limits_alone 1.0" in await response.text()


async def test_streams_at_once_are_counted_over_gateways(tmp_path: Path) -> None:
    gate = asyncio.Event()
    with TemporaryDirectory() as folder, own_redis(Path(folder)) as redis:
        shared = patient(redis)
        async with (
            upstream("e1", held(gate, token_event("x"))) as engine,
            gateway(tmp_path / "1", **shared) as one,
            gateway(tmp_path / "2", **shared) as two,
        ):
            for gw in (one, two):
                await gw.push(table(revision("rev-a", 100, engine)).evolve(api_keys=(key("a", concurrent=1),)))
            streaming = asyncio.create_task(one.post(chat(), Authorization="Bearer a"))
            await one.until(lambda status: status["replicas"][0]["in_flight"] == 1)
            assert (await two.post(chat(), Authorization="Bearer a"))[0] == 429
            gate.set()
            assert (await streaming)[0] == 200
            async with asyncio.timeout(240):
                while (await two.post(chat(), Authorization="Bearer a"))[0] == 429:  # noqa: ASYNC110 - settled beside
                    await asyncio.sleep(0.01)


async def test_four_gateways_let_pass_what_the_limit_says_under_a_crowd(tmp_path: Path) -> None:
    """More than twice what is allowed, at once: exactly what is allowed passes."""
    with TemporaryDirectory() as folder, own_redis(Path(folder)) as redis:
        shared = patient(redis)
        async with AsyncExitStack() as stack:
            engine = await stack.enter_async_context(upstream("e1", USED_30))
            routes = table(revision("rev-a", 100, engine)).evolve(api_keys=(key("a", tokens_per_day=3000),))
            gateways = [
                await stack.enter_async_context(gateway(at_noon(tmp_path / str(n)), **shared)) for n in range(4)
            ]
            for gw in gateways:
                await gw.push(routes)
            asked = [gw.post(chat(max_tokens=26), Authorization="Bearer a") for gw in gateways * 60]
            answers = await asyncio.gather(*asked)
    assert sum(status == 200 for status, _, _ in answers) == 100


async def test_a_redis_that_is_killed_under_a_crowd_fails_no_request_and_opens_no_gate(tmp_path: Path) -> None:
    """Of 100 requests a day, whoever had one when Redis died keeps a quarter of what it last saw: at most 25 each."""
    with TemporaryDirectory() as folder, own_redis(Path(folder)) as redis:
        shared = patient(redis)
        async with AsyncExitStack() as stack:
            engine = await stack.enter_async_context(upstream("e1", USED_30))
            routes = table(revision("rev-a", 100, engine)).evolve(api_keys=(key("a", tokens_per_day=3000),))
            gateways = [
                await stack.enter_async_context(gateway(at_noon(tmp_path / str(n)), **shared)) for n in range(4)
            ]
            for gw in gateways:
                await gw.push(routes)
                assert (await gw.post(chat(max_tokens=26), Authorization="Bearer a"))[0] == 200
            asked = [
                asyncio.create_task(gw.post(chat(max_tokens=26), Authorization="Bearer a")) for gw in gateways * 60
            ]
            while len(engine.seen) < 40:  # noqa: ASYNC110  # the engine tells nobody
                await asyncio.sleep(0.001)
            redis.kill()
            answers = await asyncio.gather(*asked)
            troubles = [(await gw.status())["troubles"] for gw in gateways]
    statuses = [status for status, _, _ in answers]
    assert set(statuses) == {200, 429}
    assert 36 <= statuses.count(200) <= 100 + 4 * 25
    assert len(engine.seen) == 4 + statuses.count(200)
    assert all("Redis" in " ".join(each) for each in troubles)
