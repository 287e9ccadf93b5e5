"""Requests beyond what a replica takes wait at the gateway; engines that schedule by priority are told the class."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.identity import ApiKey, PriorityClass
from controlplane.domain.door.queue_options import QueueOptions
from controlplane.domain.door.routing import RoutingTable
from controlplane.gateway.for_engine import with_fields
from tests.integration.gateway.harness import Gateway, chat, gateway, revision, table
from tests.integration.gateway.upstream import Upstream, held, token_event, upstream

KEYS = tuple(
    ApiKey(name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), tenant=name, priority=priority)
    for name, priority in (("gold", PriorityClass.VIP), ("a", None), ("b", None), ("night", PriorityClass.BATCH))
)


def queued(engine: Upstream, limit: int, **options: Any) -> RoutingTable:
    patient = {"max_wait_s": 3600, "batch_max_wait_s": 3600, "vip_beyond_percent": 0}
    queue = QueueOptions(**({"enabled": True} | patient | options))
    route = revision("rev-a", 100, engine).evolve(concurrency_limit=limit)
    return table(route, options=GatewayOptions(queue=queue)).evolve(api_keys=KEYS)


def asking(gw: Gateway, name: str, **headers: str) -> asyncio.Task[tuple[int, bytes, Any]]:
    return asyncio.create_task(gw.post(chat(), Authorization=f"Bearer {name}", **headers))


async def test_vips_pass_those_who_wait_and_the_wait_is_recorded(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with gateway(tmp_path) as gw, upstream("e1", held(gate, token_event("x"))) as engine:
        await gw.push(queued(engine, 1))
        first = asking(gw, "a")
        await gw.until(lambda status: status["replicas"][0]["in_flight"] == 1)
        waiting = []
        for name in ("night", "a", "gold"):
            waiting.append(asking(gw, name))
            await gw.until(lambda status: status["in_flight"] == 1 + len(waiting))
        assert len(engine.seen) == 1
        gate.set()
        assert {(await each)[0] for each in (first, *waiting)} == {200}
        records = await gw.records(4)
    assert [record.tenant for record in records] == ["a", "gold", "a", "night"]
    assert records[0].queue_ms < records[-1].queue_ms


async def test_no_room_is_a_503_that_says_when_to_come_again_and_blames_no_engine(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with gateway(tmp_path) as gw, upstream("e1", held(gate, token_event("x"))) as engine:
        await gw.push(queued(engine, 1, most_waiting=1))
        first = asking(gw, "a")
        await gw.until(lambda status: status["replicas"][0]["in_flight"] == 1)
        second = asking(gw, "b")
        await gw.until(lambda status: status["in_flight"] == 2)
        status, body, headers = await gw.post(chat(), Authorization="Bearer night")
        assert (status, json.loads(body)["error"]["code"]) == (503, "queue_full")
        assert int(headers["Retry-After"]) >= 1
        gate.set()
        assert [(await each)[0] for each in (first, second)] == [200, 200]
        records = await gw.records(3)
    assert [(each.error, each.revision) for each in records if not each.ok] == [("queue_full", None)]


async def test_a_client_that_leaves_the_queue_leaves_nothing_behind(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with gateway(tmp_path) as gw, upstream("e1", held(gate, token_event("x"))) as engine:
        await gw.push(queued(engine, 1))
        first = asking(gw, "a")
        await gw.until(lambda status: status["replicas"][0]["in_flight"] == 1)
        leaver = asking(gw, "b")
        await gw.until(lambda status: status["in_flight"] == 2)
        leaver.cancel()
        await gw.until(lambda status: status["in_flight"] == 1)
        gate.set()
        assert (await first)[0] == 200
        assert (await asking(gw, "b"))[0] == 200
        assert len(engine.seen) == 2


@pytest.mark.parametrize(
    ("name", "wish", "given_to_engine"),
    [("gold", None, -10), ("a", None, 0), ("a", "vip", 0), ("gold", "batch", 10), ("night", "vip", 10)],
)
async def test_an_engine_that_schedules_by_priority_is_given_the_granted_class(
    tmp_path: Path, name: str, wish: str | None, given_to_engine: int
) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        routes = table(revision("rev-a", 100, engine)).evolve(api_keys=KEYS)
        (service,) = routes.services
        (route,) = service.revisions
        backend = route.backends[0].evolve(by_priority=True)
        by_priority = service.evolve(revisions=(route.evolve(backends=(backend,)),))
        await gw.push(routes.evolve(services=(by_priority,)))
        headers = {"Authorization": f"Bearer {name}"} | ({"X-Priority": wish} if wish else {})
        assert (await gw.post(chat(priority=-99), **headers))[0] == 200
        assert json.loads(engine.bodies[0]) == chat(priority=given_to_engine)
        status, body, _ = await gw.post(chat(), Authorization="Bearer a", **{"X-Priority": "first"})
        assert (status, json.loads(body)["error"]["code"]) == (400, "invalid_priority")


@pytest.mark.parametrize("path", ["/invocations", "/v1/embeddings", "/v1/score"])
async def test_nobody_takes_a_better_place_at_the_engine_by_another_path(tmp_path: Path, path: str) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        routes = table(revision("rev-a", 100, engine)).evolve(api_keys=KEYS)
        (service,) = routes.services
        (route,) = service.revisions
        by_priority = route.evolve(backends=(route.backends[0].evolve(by_priority=True),))
        await gw.push(routes.evolve(services=(service.evolve(revisions=(by_priority,)),)))
        assert (await gw.post(chat(priority=-99), path=path, Authorization="Bearer a"))[0] == 200
        assert json.loads(engine.bodies[0])["priority"] == 0


ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32-le"])


@given(
    st.dictionaries(st.text(max_size=9), st.integers() | st.text() | st.lists(st.none())),
    st.sampled_from(" \n\t"),
    ENCODINGS,
)
def test_the_priority_of_a_body_is_ours_and_nothing_else_changes(
    fields: dict[str, Any], space: str, encoding: str
) -> None:
    body = (json.dumps(fields) + space).encode(encoding)
    assert json.loads(with_fields(body, {"priority": -10})) == {**fields, "priority": -10}
