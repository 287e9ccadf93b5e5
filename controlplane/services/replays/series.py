"""Continuous replay: a service's profile sent again and again, kept as a time series; a regression raises an event."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import NamedTuple

from pydantic import AwareDatetime, Field

from controlplane.domain.base import RevisionId, ServiceName, Value
from controlplane.domain.event import Event
from controlplane.domain.replay import ReplayPoint
from controlplane.domain.report import Distribution, LoadTestReport, Percentile, Validity
from controlplane.domain.schedule import within_hours
from controlplane.ports import Clock
from controlplane.ports.gateways import RecordSource
from controlplane.ports.load import LoadRequest, LoadTester, Watch
from controlplane.ports.store import Store, StoredReplay

PREFIX = "replay."
"""Reports that replays keep are named so; no other report may be."""
_COMPARED = (("ttft_ms", "TTFT"), ("tpot_ms", "TPOT"), ("e2e_ms", "E2E"))
_RANKS = (50.0, 95.0, 99.0)
_LOOKED_AT = 500  # newest replays among which a baseline is found


class ReplayLimits(Value):
    """When and how hard a replay may load what also serves live traffic. Against a shadow replica: no limits needed."""

    capacity_rps: float = Field(gt=0, description="What the target sustains, as the tuner measured it.")
    headroom: float = Field(default=0.3, ge=0, lt=1, description="Share of the capacity that stays free.")
    quiet_from: time | None = Field(default=None, description="UTC; only within these hours, which may span midnight.")
    quiet_to: time | None = None


class Replayed(NamedTuple):
    """One replay and what it showed against the baseline; `regressions` is empty when nothing got worse."""

    report_id: str
    report: LoadTestReport
    regressions: tuple[str, ...]


class Point(NamedTuple):
    """Names one replay: the number is unique within the service."""

    service: ServiceName
    schedule: str
    number: int


class Replay(Value):
    """One point of a schedule's series."""

    report_id: str
    service: ServiceName
    schedule: str
    at: AwareDatetime
    regressed: bool = Field(description="Worse than the baseline, the last valid replay of this rate that was not.")
    report: LoadTestReport


def allowed_rate(wanted_rps: float, live_rps: float, limits: ReplayLimits, now: datetime) -> float:
    """Return the rate a replay may send beside the live traffic now; 0 outside the quiet hours or without room."""
    if not is_quiet(limits, now):
        return 0.0
    return max(0.0, min(wanted_rps, limits.capacity_rps * (1 - limits.headroom) - live_rps))


def is_quiet(limits: ReplayLimits, now: datetime) -> bool:
    """Say whether `now` lies within the quiet hours; always, when none are set."""
    return within_hours(now.time(), limits.quiet_from, limits.quiet_to)


def regressions(baseline: LoadTestReport, latest: LoadTestReport, *, margin: float = 0.1) -> tuple[str, ...]:
    """Return what got worse for certain and by more than `margin`: the 95 % intervals are apart.

    Stricter than a test at 5 %: two intervals that merely touch already differ at about 0.6 %.
    """
    found = [
        _worse(f"P{rank:g} {label}", before, after, margin)
        for name, label in _COMPARED
        for rank in _RANKS
        if (before := _at(getattr(baseline, name), rank)) and (after := _at(getattr(latest, name), rank))
    ]
    return tuple(each for each in (*found, _more_errors(baseline, latest)) if each)


def run_replay(
    store: Store,
    tester: LoadTester,
    *,
    point: Point,
    request: LoadRequest,
    out_dir: Path,
    clock: Clock,
    watch: Watch | None = None,
) -> Replayed:
    """Replay once, keep the report, compare it with the baseline and say so as an event.

    The baseline is the newest valid replay of the schedule that offered the same rate and was no regression itself.
    Raises Unavailable when the generator broke; an invalid run is kept and said to be invalid, never compared.
    """
    report = tester.run(request, out_dir=out_dir, watch=watch).report
    baseline = baseline_of(store, point, report)
    worse = regressions(baseline, report) if baseline and report.validity is Validity.VALID else ()
    report_id, now = f"{PREFIX}{point.service}.{point.schedule}.{point.number}", clock()
    kept = ReplayPoint(service=point.service, schedule=point.schedule, number=point.number, regressed=bool(worse))
    store.add_load_report(report_id, point.service, report, now, replay=kept)
    store.add_event(_event(point.service, report_id, report, worse, now))
    return Replayed(report_id, report, worse)


def list_replays(store: Store, service: ServiceName | None = None, *, limit: int = 100) -> Sequence[Replay]:
    """Return the replays of a service or of all, newest first."""
    return [_shown(found) for found in store.list_replays(service, limit=limit)]


def baseline_of(store: Store, point: Point, latest: LoadTestReport) -> LoadTestReport | None:
    """Return what the latest replay is compared with; None for the first of its kind."""
    for past in list_replays(store, point.service, limit=_LOOKED_AT):
        same = past.schedule == point.schedule and past.report.rate_rps == latest.rate_rps
        if same and not past.regressed and past.report.validity is Validity.VALID:
            return past.report
    return None


def _shown(found: StoredReplay) -> Replay:
    point = found.point
    return Replay(
        report_id=found.report_id,
        service=point.service,
        schedule=point.schedule,
        at=found.at,
        regressed=point.regressed,
        report=found.report,
    )


def live_rate(
    records: RecordSource,
    service: ServiceName,
    *,
    revision: RevisionId | None,
    key: str,
    now: datetime,
    window_s: float,
) -> float:
    """Return live requests per second over the last `window_s`, without those sent under our own key."""
    found = records.read(service, since=now - timedelta(seconds=window_s), revision=revision)
    return sum(record.key != key and not record.retried for record in found) / window_s


def _at(values: Distribution, rank: float) -> Percentile | None:
    found = values.at(rank)
    return found if found is not None and found.high is not None else None


def _worse(name: str, before: Percentile, after: Percentile, margin: float) -> str | None:
    if before.high is None or after.low <= before.high or after.value <= before.value * (1 + margin):
        return None
    return f"{name} rose from {before.value:.1f} to {after.value:.1f} ms"


def _more_errors(baseline: LoadTestReport, latest: LoadTestReport) -> str | None:
    from loadtests.measure.intervals import ratio_interval  # scipy: the api only lists replays

    _, most_before = ratio_interval(baseline.errors, baseline.requests)
    fewest_now, _ = ratio_interval(latest.errors, latest.requests)
    if fewest_now <= most_before:
        return None
    return f"errors rose from {100 * baseline.error_ratio:.2f} to {100 * latest.error_ratio:.2f} %"


def _event(
    service: ServiceName, report_id: str, report: LoadTestReport, worse: tuple[str, ...], now: datetime
) -> Event:
    if report.validity is Validity.INVALID:
        action, reason = "replay.invalid", report.invalid_reason or ""
    elif worse:
        action, reason = "replay.regressed", "; ".join(worse)
    else:
        action, reason = "replay.finished", ""
    return Event(
        at=now, actor="replay", action=action, subject=f"load-report/{report_id}", service=service, reason=reason
    )
