"""Another model instead of a 503, where it is declared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.routing import RoutingTable, ServiceRoute
from controlplane.domain.errors import InvalidInput
from tests.builders_serving import a_spec
from tests.integration.gateway.harness import chat, gateway, revision, table
from tests.integration.gateway.upstream import Upstream, status, upstream


def two(small: Upstream, *replicas: Upstream, fallback: str | None = "small", **more: Any) -> RoutingTable:
    """`llama` falls back to `small`; without replicas it is overloaded whatever comes."""
    options = GatewayOptions(fallback=fallback, max_retries=0)
    big = table(revision("big", 100, *replicas), options=options, **more)
    other = ServiceRoute(service="small", model="small", revisions=(revision("small-1", 100, small),))
    return big.evolve(services=(*big.services, other))


async def test_an_overloaded_model_is_answered_for_by_the_one_that_is_declared(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("s1") as small:
        await gw.push(two(small))
        code, body, headers = await gw.post(chat(temperature=0.5))
        assert (code, headers["X-Fleetune-Fallback"], headers["X-Fleetune-Revision"]) == (200, "small", "small-1")
        assert b"[DONE]" in body
        asked = json.loads(small.bodies[0])
        assert (asked["model"], asked["temperature"]) == ("small", 0.5)
        refused, answered = sorted(await gw.records(2), key=lambda record: record.status, reverse=True)
        assert (refused.service, refused.error, answered.service, answered.error) == (
            "chat",
            "no_replica",
            "small",
            None,
        )


async def test_nothing_else_than_overload_falls_back(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("s1") as small, upstream("b1", status(500)) as broken:
        await gw.push(two(small, broken))
        assert (await gw.post(chat()))[0] == 500
        await gw.push(two(small, fallback=None, version=2))
        assert (await gw.post(chat()))[0] == 503
        await gw.push(two(small, fallback="nobody", version=3))
        assert (await gw.post(chat()))[0] == 503
        assert not small.bodies


async def test_a_key_falls_back_only_to_what_it_may_ask(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("s1") as small:
        plain = two(small, keys={"team": "secret-key"})
        limited = plain.api_keys[0].evolve(models=("llama",))
        await gw.push(plain.evolve(api_keys=(limited,)))
        assert (await gw.post(chat(), Authorization="Bearer secret-key"))[0] == 503
        assert not small.bodies


def test_a_model_is_no_fallback_of_itself() -> None:
    with pytest.raises((InvalidInput, ValueError), match="the model itself"):
        a_spec(gateway=GatewayOptions(fallback="llama-8b"))
