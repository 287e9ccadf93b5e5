"""What live traffic looks like against its promises: figures of the last minutes, overall, per revision, over time.

A request counts at the instant it finished, so the newest interval is not short of the requests still running.
An attempt that another replica made good counts against its revision, but not overall: its client never saw it.
Gateway records are wall-clock; figures are in engine time, which for an emulator with a time-lapse is emulated time:
milliseconds are multiplied by the time-lapse and rates divided by it, as in load test reports.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from pydantic import AwareDatetime, Field

from controlplane.domain.base import RevisionId, ServiceName, Value
from controlplane.domain.engine import EngineKind
from controlplane.domain.routing import GatewayRecord
from controlplane.domain.service import ServiceSpec
from controlplane.domain.slo import LatencySlo, SloSet, misses, misses_any

CONFIDENCE = 0.95
RANKS = (50, 90, 95, 99)
SLOWEST_REQUEST = timedelta(minutes=2)
"""Requests that arrived this long before a window are looked at too: they may have finished inside it."""


class Quantiles(Value):
    """Order statistics of one latency over pooled requests, milliseconds. None when nothing was measured."""

    count: int = Field(ge=0)
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None

    def at(self, percentile: int) -> float | None:
        """Return one of the percentiles above. Raises KeyError for another."""
        return {50: self.p50, 90: self.p90, 95: self.p95, 99: self.p99}[percentile]


class Figures(Value):
    """Finished requests of one span of time. Requests whose client hung up are left out."""

    requests: int = Field(ge=0)
    rps: float = Field(ge=0, description="Finished requests per second.")
    output_tps: float = Field(ge=0)
    errors: int = Field(ge=0)
    truncated: int = Field(ge=0)
    error_ratio: float | None = None
    attainment: float | None = Field(default=None, description="Share of requests that met every latency limit.")
    ttft_ms: Quantiles
    tpot_ms: Quantiles
    e2e_ms: Quantiles


class CheckState(StrEnum):
    MET = "met"
    MISSED = "missed"
    FEW = "few"  # too few requests to bound this percentile
    SILENT = "silent"  # no request at all


class LiveCheck(Value):
    """One latency limit against the requests of the window."""

    slo: LatencySlo
    state: CheckState
    measured_ms: float | None
    miss_ratio: float | None
    samples: int
    needed: int = Field(description="Requests that a 95 % bound on this percentile needs.")


class RevisionFigures(Value):
    revision: RevisionId | None
    figures: Figures


class LivePoint(Value):
    """One interval of the series of one revision (None: requests that reached no revision)."""

    at: AwareDatetime = Field(description="End of the interval.")
    revision: RevisionId | None
    figures: Figures


class Live(Value):
    """The last minutes of one service against its target."""

    service: ServiceName
    at: AwareDatetime
    window_s: float
    bucket_s: float
    engine: EngineKind
    gpu: str
    time_lapse: float
    slos: SloSet
    overall: Figures
    checks: tuple[LiveCheck, ...]
    revisions: tuple[RevisionFigures, ...]
    series: tuple[LivePoint, ...]


def live(
    spec: ServiceSpec, records: Sequence[GatewayRecord], *, now: datetime, window_s: float, bucket_s: float
) -> Live:
    """Summarise the requests that finished in the `window_s` before `now`; the series has whole intervals only."""
    lapse = spec.engine.time_lapse
    end_s = now.timestamp()
    known = (_in_engine_time(record, lapse, spec.slos.latency) for record in records if not record.client_gone)
    judged = [request for request in known if end_s - window_s < request.finished_s <= end_s]
    finished = [r for r in judged if not r.retried]
    split = _by_revision(judged)
    return Live(
        service=spec.service,
        at=now,
        window_s=window_s,
        bucket_s=bucket_s,
        engine=spec.engine.kind,
        gpu=spec.gpus.type,
        time_lapse=lapse,
        slos=spec.slos,
        overall=_figures(finished, window_s * lapse),
        checks=tuple(_check(slo, finished) for slo in spec.slos.latency),
        revisions=tuple(
            RevisionFigures(revision=name, figures=_figures(part, window_s * lapse)) for name, part in split
        ),
        series=tuple(_series(split, spec, now=now, window_s=window_s, bucket_s=bucket_s)),
    )


def samples_needed(percentile: float, confidence: float = CONFIDENCE) -> int:
    """Return how many requests bound a percentile from above at `confidence`: the n of 1 - p^n ≥ confidence.

    299 for P99 at 95 % (Wilks 1941, distribution-free one-sided bound by the sample's maximum).
    """
    return math.ceil(math.log(1 - confidence) / math.log(percentile / 100))


class _Request(NamedTuple):
    """A gateway record in engine time, with the end of the request in wall-clock time, seconds since the epoch."""

    revision: RevisionId | None
    finished_s: float
    ok: bool
    truncated: bool
    retried: bool
    output_tokens: int
    ttft_ms: float | None
    tpot_ms: float | None
    e2e_ms: float | None
    missed: bool = False  # at least one limit


def _finished_s(record: GatewayRecord) -> float:
    return record.at.timestamp() + (record.e2e_ms or 0.0) / 1000


def _in_engine_time(record: GatewayRecord, lapse: float, slos: Sequence[LatencySlo]) -> _Request:
    def scaled(value: float | None) -> float | None:
        return None if value is None else value * lapse

    request = _Request(
        revision=record.revision,
        finished_s=_finished_s(record),
        ok=record.ok,
        truncated=record.truncated,
        retried=record.retried,
        output_tokens=record.output_tokens or 0,
        ttft_ms=scaled(record.ttft_ms),
        tpot_ms=scaled(record.tpot_ms),
        e2e_ms=scaled(record.e2e_ms),
    )
    return request._replace(missed=True) if misses_any(request, slos) else request


def _by_revision(requests: Sequence[_Request]) -> list[tuple[RevisionId | None, list[_Request]]]:
    parts: dict[RevisionId | None, list[_Request]] = {}
    for request in requests:
        parts.setdefault(request.revision, []).append(request)
    return sorted(parts.items(), key=lambda part: (part[0] is None, part[0] or ""))


def _figures(requests: Sequence[_Request], seconds: float) -> Figures:
    total = len(requests)
    errors = sum(not r.ok for r in requests)
    missed = sum(r.missed for r in requests)
    return Figures(
        requests=total,
        rps=total / seconds,
        output_tps=sum(r.output_tokens for r in requests) / seconds,
        errors=errors,
        truncated=sum(r.truncated for r in requests),
        error_ratio=errors / total if total else None,
        attainment=1 - missed / total if total else None,
        ttft_ms=_quantiles([r.ttft_ms for r in requests if r.ok]),
        tpot_ms=_quantiles([r.tpot_ms for r in requests if r.ok]),
        e2e_ms=_quantiles([r.e2e_ms for r in requests if r.ok]),
    )


def _quantiles(values: Sequence[float | None]) -> Quantiles:
    known = sorted(v for v in values if v is not None)
    return Quantiles(count=len(known), **{f"p{rank}": _order_statistic(known, rank) for rank in RANKS})


def _order_statistic(ordered: Sequence[float], percentile: float) -> float | None:
    """Return the nearest-rank percentile: the smallest value that at least that share does not exceed."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(percentile / 100 * len(ordered)) - 1)]


def _check(slo: LatencySlo, requests: Sequence[_Request]) -> LiveCheck:
    known = sorted(v for v in (getattr(r, slo.metric.value) for r in requests if r.ok) if v is not None)
    total = len(requests)
    missed = sum(misses(r, slo) for r in requests)
    ratio = missed / total if total else None
    needed = samples_needed(slo.percentile)
    return LiveCheck(
        slo=slo,
        state=_state(ratio, slo, total, needed),
        measured_ms=_order_statistic(known, slo.percentile),
        miss_ratio=ratio,
        samples=total,
        needed=needed,
    )


def _state(miss_ratio: float | None, slo: LatencySlo, samples: int, needed: int) -> CheckState:
    if miss_ratio is None:
        return CheckState.SILENT
    if miss_ratio > slo.allowed_miss_ratio + 1e-12:  # 1 - 99/100 is not exactly 0.01
        return CheckState.MISSED
    return CheckState.MET if samples >= needed else CheckState.FEW


def _series(
    split: Sequence[tuple[RevisionId | None, list[_Request]]],
    spec: ServiceSpec,
    *,
    now: datetime,
    window_s: float,
    bucket_s: float,
) -> list[LivePoint]:
    newest = math.floor(now.timestamp() / bucket_s)
    whole = math.floor((window_s - (now.timestamp() - newest * bucket_s)) / bucket_s)
    points = []
    for revision, requests in split:
        buckets: dict[int, list[_Request]] = {}
        for request in requests:
            buckets.setdefault(math.ceil(request.finished_s / bucket_s), []).append(request)
        for index in range(newest - whole + 1, newest + 1):
            at = datetime.fromtimestamp(index * bucket_s, UTC)
            figures = _figures(buckets.get(index, ()), bucket_s * spec.engine.time_lapse)
            points.append(LivePoint(at=at, revision=revision, figures=figures))
    return points
