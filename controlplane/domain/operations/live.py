"""What live traffic looks like against its promises: figures of the last minutes, overall, per revision, over time.

A request counts at the instant it finished, so the newest interval is not short of the requests still running; what its
record says is `outcomes`' business. Left out are clients that hung up while every limit could still be met.
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
from controlplane.domain.door.outcomes import REFUSED, Outcome, finished_at, read_outcome, slowest_s
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.engines.engine import EngineKind
from controlplane.domain.enough import samples_needed
from controlplane.domain.service import ServiceSpec
from controlplane.domain.slo import LatencySlo, SloSet

RANKS = (50, 90, 95, 99)

_NOT_COUNTED = REFUSED | {Outcome.LEFT_EARLY}


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
    """Finished requests of one span of time, refused ones and clients that hung up in time left out."""

    requests: int = Field(ge=0)
    rps: float = Field(ge=0, description="Finished requests per second.")
    output_tps: float = Field(ge=0)
    errors: int = Field(ge=0, description="Requests that got no answer: the engines' failures and our own.")
    truncated: int = Field(ge=0)
    refused: int = Field(default=0, ge=0, description="Answered with 4xx, by an engine or the gateway.")
    left_early: int = Field(default=0, ge=0, description="Clients that hung up while every limit could still be met.")
    error_ratio: float | None = None
    attainment: float | None = Field(
        default=None, description="Share that met every latency limit, of the requests that can tell."
    )
    ttft_ms: Quantiles
    tpot_ms: Quantiles
    e2e_ms: Quantiles


class CheckState(StrEnum):
    MET = "met"
    MISSED = "missed"
    FEW = "few"  # too few requests to be sure that the limit is met
    UNMEASURED = "unmeasured"  # requests, but none that can tell: nothing was streamed
    SILENT = "silent"  # no request at all


class LiveCheck(Value):
    """One latency limit against the requests of the window."""

    slo: LatencySlo
    state: CheckState
    measured_ms: float | None
    miss_ratio: float | None
    samples: int = Field(description="Requests that can tell whether they met the limit.")
    needed: int = Field(description="Requests with so many misses from which on the limit is met for 95 % certain.")


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
    ended = ((record, finished_at(record).timestamp()) for record in records)  # most of them before the window
    inside = ((record, at_s) for record, at_s in ended if end_s - window_s < at_s <= end_s)
    judged = [_in_engine_time(record, at_s, lapse, spec.slos.latency) for record, at_s in inside]
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


def reach(spec: ServiceSpec) -> timedelta:
    """Return how long before a window a request may have arrived that finished inside it."""
    return timedelta(seconds=slowest_s(spec.gateway))


class _Request(NamedTuple):
    """A gateway record in engine time, with the end of the request in wall-clock time, seconds since the epoch."""

    revision: RevisionId | None
    finished_s: float
    outcome: Outcome
    counts: bool
    ok: bool
    missed: tuple[LatencySlo, ...]
    untold: tuple[LatencySlo, ...]
    truncated: bool
    retried: bool
    output_tokens: int
    ttft_ms: float | None
    tpot_ms: float | None
    e2e_ms: float | None


def _in_engine_time(record: GatewayRecord, finished_s: float, lapse: float, slos: Sequence[LatencySlo]) -> _Request:
    reading = read_outcome(record, slos, time_lapse=lapse)
    return _Request(
        revision=record.revision,
        finished_s=finished_s,
        outcome=reading.outcome,
        counts=reading.outcome not in _NOT_COUNTED,
        ok=reading.ok,
        missed=reading.missed,
        untold=reading.untold,
        truncated=record.truncated,
        retried=record.retried,
        output_tokens=record.output_tokens or 0,
        ttft_ms=reading.ttft_ms,
        tpot_ms=reading.tpot_ms,
        e2e_ms=reading.e2e_ms,
    )


def _by_revision(requests: Sequence[_Request]) -> list[tuple[RevisionId | None, list[_Request]]]:
    parts: dict[RevisionId | None, list[_Request]] = {}
    for request in requests:
        parts.setdefault(request.revision, []).append(request)
    return sorted(parts.items(), key=lambda part: (part[0] is None, part[0] or ""))


def _figures(requests: Sequence[_Request], seconds: float) -> Figures:
    counted = [r for r in requests if r.counts]
    total = len(counted)
    errors = sum(r.outcome in (Outcome.FAILED, Outcome.INFRASTRUCTURE) for r in counted)
    telling = [r for r in counted if r.missed or not r.untold]
    met = sum(not r.missed for r in telling)
    answered = [r for r in counted if r.ok]
    return Figures(
        requests=total,
        rps=total / seconds,
        output_tps=sum(r.output_tokens for r in requests) / seconds,
        errors=errors,
        truncated=sum(r.truncated for r in counted),
        refused=sum(r.outcome in REFUSED for r in requests),
        left_early=sum(r.outcome is Outcome.LEFT_EARLY for r in requests),
        error_ratio=errors / total if total else None,
        attainment=met / len(telling) if telling else None,
        ttft_ms=_quantiles([r.ttft_ms for r in answered]),
        tpot_ms=_quantiles([r.tpot_ms for r in answered]),
        e2e_ms=_quantiles([r.e2e_ms for r in answered]),
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
    counted = [r for r in requests if r.counts]
    known = sorted(v for v in (getattr(r, slo.metric.value) for r in counted if r.ok) if v is not None)
    missed = sum(slo in r.missed for r in counted)
    samples = sum(slo not in r.untold for r in counted)
    needed = samples_needed(slo.percentile, missed)
    return LiveCheck(
        slo=slo,
        state=_state(missed, slo, samples, needed) if samples or not counted else CheckState.UNMEASURED,
        measured_ms=_order_statistic(known, slo.percentile),
        miss_ratio=missed / samples if samples else None,
        samples=samples,
        needed=needed,
    )


def _state(missed: int, slo: LatencySlo, samples: int, needed: int) -> CheckState:
    if samples == 0:
        return CheckState.SILENT
    if missed > samples * slo.allowed_miss_ratio + 1e-9:  # 1 - 99/100 is not exactly 0.01
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
