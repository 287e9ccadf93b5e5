"""A request that meets no replica on purpose waits for the first one: so long, so many, and nothing is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from controlplane.adapters.gateway.traffic import GatewayTraffic
from controlplane.domain.door.hold_options import HoldOptions
from controlplane.domain.door.routing import RoutingTable
from controlplane.domain.errors import Unavailable
from tests.integration.gateway.harness import chat, gateway, revision, table
from tests.integration.gateway.upstream import Upstream, upstream


def holding(*engines: Upstream, version: int = 1, wait_s: float = 60, most: int = 10) -> RoutingTable:
    routes = table(revision("rev-a", 100, *engines), version=version)
    (service,) = routes.services
    return routes.evolve(services=(service.evolve(hold=HoldOptions(wait_s=wait_s, most=most)),))


async def test_what_was_held_is_answered_by_the_first_replica_and_its_wait_is_recorded(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.push(holding())
        asked = [asyncio.create_task(gw.post(chat())) for _ in range(3)]
        await gw.until(lambda status: status["in_flight"] == 3)
        async with gw.session.get(f"{gw.running.address.admin_url}/admin/flights") as flights:
            (part,) = await flights.json()
        assert (part["service"], part["revision"], part["requests"]) == ("chat", None, 3)
        await gw.push(holding(engine, version=2))
        assert [(await each)[0] for each in asked] == [200] * 3
        records = await gw.records(3)
    assert all(record.queue_ms > 0 for record in records)
    assert {record.engine_id for record in records} == {"e1"}


async def test_one_that_waited_too_long_is_told_when_to_come_again(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw:
        await gw.push(holding(wait_s=0.05))
        status, _, headers = await gw.post(chat())
        (record,) = await gw.records(1)
    assert (status, record.error) == (503, "start_timeout")
    assert int(headers["Retry-After"]) > 0


async def test_more_than_may_wait_are_not_held(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.push(holding(most=1))
        first = asyncio.create_task(gw.post(chat()))
        await gw.until(lambda status: status["in_flight"] == 1)
        status, _, headers = await gw.post(chat())
        assert status == 503
        assert "Retry-After" in headers
        await gw.push(holding(engine, version=2))
        assert (await first)[0] == 200


async def test_a_client_that_left_gives_its_place_to_the_next(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.push(holding(most=1))
        gone = asyncio.create_task(gw.post(chat()))
        await gw.until(lambda status: status["in_flight"] == 1)
        gone.cancel()
        await gw.until(lambda status: status["in_flight"] == 0)
        stays = asyncio.create_task(gw.post(chat()))
        await gw.until(lambda status: status["in_flight"] == 1)
        await gw.push(holding(engine, version=2))
        assert (await stays)[0] == 200
        assert len(engine.seen) == 1


async def test_who_waits_for_a_held_request_is_told_at_once(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.push(holding())
        address = gw.running.address
        traffic = GatewayTraffic(lambda: [address])
        waits = asyncio.create_task(asyncio.to_thread(traffic.await_held))
        asked = asyncio.create_task(gw.post(chat()))
        assert await waits
        assert await asyncio.to_thread(traffic.await_held), "it is held still"
        await gw.push(holding(engine, version=2))
        assert (await asked)[0] == 200
        traffic.close()


def test_without_a_gateway_nobody_can_say_whether_a_request_is_held() -> None:
    with pytest.raises(Unavailable, match="no gateway answers"):
        GatewayTraffic(lambda: []).await_held()
