"""A gateway that lives long tells of the revisions that are, and of the latest that were; not of all that ever were."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controlplane.domain.base import RevisionId
from controlplane.domain.door.identity import ApiKey
from controlplane.domain.door.routing import Backend, GatewayRecord, RevisionRoute, RoutingTable, ServiceRoute
from controlplane.gateway.answers.collecting import Room
from controlplane.gateway.certificates import Certificates
from controlplane.gateway.counts.local import LocalCounts
from controlplane.gateway.metrics import MOST_REVISIONS, Metrics
from controlplane.gateway.routing import Routing
from controlplane.gateway.settings import GatewaySettings
from controlplane.gateway.spool import RecordSpool
from tests.builders_serving import a_gateway_record

AT = datetime(2026, 11, 30, tzinfo=UTC)


def routed_to(revision: str, version: int = 1, *keys: str) -> RoutingTable:
    backends = (Backend(engine_id="e1", url="http://127.0.0.1:9"),)
    route = RevisionRoute(revision=RevisionId(revision), weight_percent=100, backends=backends)
    service = ServiceRoute(service="chat", model="chat", revisions=(route,))
    of_keys = tuple(ApiKey(name=name, sha256=hashlib.sha256(name.encode()).hexdigest()) for name in keys)
    return RoutingTable(version=version, services=(service,), api_keys=of_keys)


@pytest.fixture
def metrics(tmp_path: Path) -> Metrics:
    routing = Routing()
    routing.take(routed_to("rev-0"))
    spool = RecordSpool(tmp_path, "gw-1", clock=lambda: AT, retention_h=1)
    counts = LocalCounts(time.monotonic)
    return Metrics(routing, spool, counts, {}, Certificates(GatewaySettings(data_dir=tmp_path)), Room(0))


def a_record(revision: int, **changes: object) -> GatewayRecord:
    named = {"at": AT, "revision": RevisionId(f"rev-{revision}"), "engine_id": "e1"}
    times = {"ttft_ms": 90, "tpot_ms": 9, "e2e_ms": 140, "output_tokens": 3}
    return a_gateway_record(**named | times | changes)


def lines(metrics: Metrics) -> list[str]:
    body = metrics.page().body
    assert isinstance(body, bytes)
    return body.decode().splitlines()


def test_revisions_that_are_no_longer_routed_are_told_of_up_to_a_number(metrics: Metrics) -> None:
    told = []
    for number in range(3 * MOST_REVISIONS):
        metrics.observe(a_record(number))
        metrics.observe(a_record(number, status=502, error="upstream_connect", ttft_ms=None, tpot_ms=None))
        metrics.observe(a_record(number, retried=True))
        if number in (MOST_REVISIONS - 1, 3 * MOST_REVISIONS - 1):
            told.append(lines(metrics))
    assert len(told[0]) == len(told[1])
    assert {line for line in told[1] if f'revision="rev-{MOST_REVISIONS}"' in line} == set()
    for revision in (0, 3 * MOST_REVISIONS - 1):  # the one that serves, and the latest
        mine = [line for line in told[1] if f'revision="rev-{revision}",service="chat"' in line]
        assert f'fleetune_gateway_retries_total{{revision="rev-{revision}",service="chat"}} 1.0' in mine
        assert sum("fleetune_gateway_requests_total" in line for line in mine) == 2


def test_uses_of_keys_that_are_gone_are_forgotten() -> None:
    routing = Routing()
    for version in range(1, 50):
        routing.take(routed_to("rev-0", version, "ops", f"app-{version}"))
        routing.key_uses |= {"ops": AT, f"app-{version}": AT}
    routing.take(routed_to("rev-0", 50, "ops"))
    assert routing.key_uses == {"ops": AT}
