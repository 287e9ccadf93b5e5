"""What a service costs: of the GPUs it holds, by the tokens of its tenants, nothing counted that nobody counted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.fleet import Engine, EngineSpec, EngineState
from controlplane.domain.operations.cost import NOBODY, Cost, cost
from tests.builders_serving import CHAT, NOW, a_spec

HOUR_S = 3600.0


def an_engine(gpus: int = 1, state: EngineState = EngineState.READY, seconds_ago: float = 9000) -> Engine:
    spec = EngineSpec(
        engine_id="e",
        owner="rollout/chat/rev-1",
        kind=EngineKind.EMULATOR,
        model="m",
        served_name="m",
        config=EngineConfig(),
        gpus=gpus,
    )
    return Engine(spec=spec, state=state, started_at=NOW - timedelta(seconds=seconds_ago))


def a_record(prompt: int | None = 900, output: int | None = 100, **changes: Any) -> GatewayRecord:
    record = GatewayRecord(
        id="r",
        at=NOW - timedelta(seconds=60),
        gateway="gw-1",
        service=CHAT,
        model="m",
        revision="rev-1",
        engine_id="e",
        path="/v1/chat/completions",
        stream=True,
        status=200,
        prompt_tokens=prompt,
        output_tokens=output,
        e2e_ms=500,
        tenant="acme",
    )
    return record.evolve(**changes)


def of(*records: GatewayRecord, engines: tuple[Engine, ...] = (an_engine(2),), **spec: Any) -> Cost:
    return cost(a_spec(**spec), engines, records, now=NOW, window_s=HOUR_S)


def test_money_is_of_gpus_held_now() -> None:
    gone = an_engine(4, EngineState.STOPPED)
    found = of(engines=(an_engine(2), an_engine(1, EngineState.STARTING, seconds_ago=30), gone))
    assert (found.gpus, found.usd_per_hour, found.since_s) == (3, 9.0, 30)
    assert (found.usd_per_million_tokens, found.tenants) == (None, ())


def test_a_million_tokens_cost_what_the_hour_cost_over_its_tokens() -> None:
    found = of(*[a_record()] * 3600)  # a thousand tokens a second for 6 USD an hour
    assert found.tokens_per_s == pytest.approx(1000)
    assert found.usd_per_million_tokens == pytest.approx(6 / 3.6)


def test_what_is_not_the_tenants_or_not_of_the_window_is_not_counted() -> None:
    others = [
        a_record(retried=True),
        a_record(replayed=True),
        a_record(at=NOW - timedelta(hours=2)),
        a_record(at=NOW, e2e_ms=5000.0),
    ]
    assert of(*others).tenants == ()


def test_requests_without_a_count_are_told_and_not_guessed() -> None:
    found = of(a_record(output=None), a_record(prompt=None), a_record())
    assert (found.untold, found.tenants[0].requests) == (2, 1)


@pytest.mark.parametrize(
    ("changes", "billed"),
    [
        ({"ttft_ms": 1e6}, True),  # late is served
        ({"client_gone": True, "status": 499}, True),  # the engine did that much for it
        ({"status": 502, "error": "upstream_disconnected"}, False),
        ({"error": "truncated", "truncated": True}, False),
        ({"status": 400, "error": "upstream_4xx"}, False),
        ({"error": "gateway_stopped"}, False),
    ],
)
def test_what_was_not_served_is_nobodys_bill(changes: dict[str, Any], billed: bool) -> None:
    found = of(a_record(tenant="a"), a_record(tenant="b").evolve(**changes))
    assert {each.tenant for each in found.tenants} == ({"a", "b"} if billed else {"a"})
    assert (found.unserved, found.untold) == (0 if billed else 1, 0)
    assert sum(each.usd_per_hour for each in found.tenants) == pytest.approx(found.usd_per_hour)


def test_a_ceiling_that_is_exceeded_is_said() -> None:
    slos = a_spec().slos
    assert of(slos=slos.evolve(max_usd_per_hour=5)).is_beyond
    assert not of(slos=slos.evolve(max_usd_per_hour=6)).is_beyond
    assert not of().is_beyond


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 5000), st.integers(0, 900)), max_size=30))
def test_the_parts_of_all_tenants_are_the_whole(requests: list[tuple[str | None, int, int]]) -> None:
    found = of(*(a_record(prompt, output, tenant=tenant) for tenant, prompt, output in requests))
    if sum(prompt + output for _, prompt, output in requests):
        assert sum(each.usd_per_hour for each in found.tenants) == pytest.approx(found.usd_per_hour)
    assert {each.tenant for each in found.tenants} == {tenant or NOBODY for tenant, _, _ in requests}
    assert sum(each.requests for each in found.tenants) == len(requests)
