"""Live traffic that never ends: a RecordSource whose requests follow from the clock, the same for every reader."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from controlplane.domain.base import RevisionId, ServiceName
from controlplane.domain.door.routing import GatewayRecord
from controlplane.ports import Clock


class Traffic(NamedTuple):
    """How one service is asked: wall-clock rate, the canary's share, and typical wall-clock milliseconds."""

    rate_rps: float
    stable: RevisionId
    canary: RevisionId | None = None
    canary_share: float = 0.0
    ttft_ms: float = 150.0
    tpot_ms: float = 12.0
    error_ratio: float = 0.0


class SeededTraffic:
    """Implements `ports.RecordSource`; every second of the clock has its own seed."""

    def __init__(self, traffic: Mapping[str, Traffic], clock: Clock) -> None:
        self._traffic = traffic
        self._clock = clock

    def read(
        self, service: ServiceName, *, since: datetime, revision: RevisionId | None = None
    ) -> Sequence[GatewayRecord]:
        traffic = self._traffic.get(service)
        if traffic is None:
            return []
        first, last = int(since.timestamp()) + 1, int(self._clock().timestamp())
        records = [record for second in range(first, last) for record in _second(service, second, traffic)]
        return [record for record in records if revision in (None, record.revision)]


@lru_cache(maxsize=2500)
def _second(service: str, second: int, traffic: Traffic) -> Sequence[GatewayRecord]:
    """Make a second's records once: a page reads the last quarter of an hour again every three seconds."""
    return tuple(_records(service, second, traffic))


def _records(service: str, second: int, traffic: Traffic) -> Iterator[GatewayRecord]:
    rng = random.Random(f"{service}/{second}")
    at = rng.expovariate(traffic.rate_rps)
    while at < 1:
        yield _record(service, datetime.fromtimestamp(second + at, UTC), traffic, rng)
        at += rng.expovariate(traffic.rate_rps)


def _record(service: str, at: datetime, traffic: Traffic, rng: random.Random) -> GatewayRecord:
    is_canary = traffic.canary is not None and rng.random() < traffic.canary_share
    speed = 0.8 if is_canary else 1.0
    failed = rng.random() < traffic.error_ratio
    output_tokens = max(1, int(rng.lognormvariate(5, 0.6)))
    ttft_ms = traffic.ttft_ms * speed * rng.lognormvariate(0, 0.35)
    tpot_ms = traffic.tpot_ms * speed * rng.lognormvariate(0, 0.12)
    return GatewayRecord(
        id=f"{at.timestamp():.6f}",
        at=at,
        gateway="gw-1",
        service=service,
        model="llama",
        revision=traffic.canary if is_canary else traffic.stable,
        engine_id="e-1",
        path="/v1/chat/completions",
        stream=True,
        status=502 if failed else 200,
        error="upstream_5xx" if failed else None,
        prompt_tokens=int(rng.lognormvariate(6.5, 0.8)),
        output_tokens=None if failed else output_tokens,
        ttft_ms=None if failed else ttft_ms,
        tpot_ms=None if failed else tpot_ms,
        e2e_ms=30.0 if failed else ttft_ms + tpot_ms * (output_tokens - 1),
    )
