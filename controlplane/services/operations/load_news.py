"""Read what the newest load tests of a service say of it and of their generator."""

from __future__ import annotations

from datetime import datetime

from controlplane.domain.base import ServiceName
from controlplane.domain.operations.load_news import GENERATOR_TELLS, REPLAY_TELLS, LoadNews
from controlplane.domain.report import LoadTestReport, Validity
from controlplane.ports.store import Store

_LOOKED_AT = 50
"""Newest replays of a service: what the series shown are bounded by."""


def load_news(store: Store, service: ServiceName, now: datetime) -> LoadNews:
    """Return what is to be told. Raises Unavailable."""
    replays = _replays(store, service, now)
    reports = store.list_load_reports(service, limit=1)
    if not reports or now - reports[0][1] > GENERATOR_TELLS:
        return LoadNews(replays)
    report = reports[0][2]
    behind = None if report.validity is Validity.VALID else report.invalid_reason or "the generator was behind"
    return LoadNews(replays, _lag_s(report), behind, tested=True)


def _replays(store: Store, service: ServiceName, now: datetime) -> dict[str, bool]:
    found = dict[str, bool]()
    for each in store.list_replays(service, limit=_LOOKED_AT):
        if each.report.validity is Validity.VALID and now - each.at <= REPLAY_TELLS:
            found.setdefault(each.point.schedule, each.point.regressed)
    return found


def _lag_s(report: LoadTestReport) -> float | None:
    """Return the P99 in wall clock: a report's milliseconds are of emulated time."""
    found = report.lag_ms.at(99.0)
    return None if found is None else found.value / 1000 / report.time_lapse
