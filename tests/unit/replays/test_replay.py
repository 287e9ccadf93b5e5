"""Continuous replay, on the fake load tester and store."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest

from controlplane.domain.base import ServiceName
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.workload import Lengths, SyntheticWorkload
from controlplane.ports.load import LoadRequest
from controlplane.services.replays.series import (
    Point,
    ReplayLimits,
    allowed_rate,
    list_replays,
    live_rate,
    run_replay,
)
from tests.fakes.load_tester import FakeLoadTester, Target, down, steady
from tests.fakes.record_source import FakeRecordSource
from tests.fakes.store import FakeStore

SERVICE = ServiceName("chat")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WORKLOAD = SyntheticWorkload(prompt_tokens=Lengths(mean=50), output_tokens=Lengths(mean=8))
REQUEST = LoadRequest(workload=WORKLOAD, rate_rps=20, url="http://shadow", model="m", duration_s=60)


def live(at: datetime, *, key: str | None, retried: bool = False) -> GatewayRecord:
    return GatewayRecord(
        id=f"{at}{retried}",
        at=at,
        gateway="g",
        service=SERVICE,
        model="m",
        revision=None,
        engine_id=None,
        path="/v1/completions",
        stream=True,
        status=200,
        key=key,
        retried=retried,
    )


class Replays:
    """Replays against targets one after the other, an hour apart."""

    def __init__(self, out_dir: Path) -> None:
        self.store, self.tester, self.now, self._out = FakeStore(), FakeLoadTester(down), NOON, out_dir

    def run(self, target: Target) -> tuple[str, ...]:
        self.tester.target = target
        self.now += timedelta(hours=1)
        found = run_replay(
            self.store,
            self.tester,
            point=Point(SERVICE, "nightly", self.store.next_number("replay")),
            request=REQUEST,
            out_dir=self._out,
            clock=lambda: self.now,
        )
        return found.regressions

    @property
    def actions(self) -> list[str]:
        return [event.action for event in reversed(self.store.list_events(service=SERVICE))]


@pytest.fixture
def replays(tmp_path: Path) -> Replays:
    return Replays(tmp_path)


def test_a_slower_target_raises_an_event_and_does_not_become_the_baseline(replays: Replays) -> None:
    assert replays.run(steady(50, 10)) == ()
    assert replays.run(steady(52, 10)) == ()  # within the margin
    assert any("P99 TTFT rose from 52.0 to 80.0" in each for each in replays.run(steady(80, 10)))
    assert replays.run(steady(80, 10)) != ()  # still compared with the last good one
    assert replays.run(steady(50, 10)) == ()
    assert replays.actions == [
        "replay.finished",
        "replay.finished",
        "replay.regressed",
        "replay.regressed",
        "replay.finished",
    ]


def test_more_errors_are_a_regression(replays: Replays) -> None:
    replays.run(steady(50, 10))
    assert replays.run(down) == ("errors rose from 0.00 to 100.00 %",)


def test_replays_are_a_time_series(replays: Replays) -> None:
    for ttft_ms in (50, 51, 52):
        replays.run(steady(ttft_ms, 10))
    series = list_replays(replays.store, SERVICE)
    assert [round(each.report.ttft_ms.mean or 0) for each in series] == [52, 51, 50]
    assert [each.at.hour for each in series] == [15, 14, 13]
    assert {each.schedule for each in series} == {"nightly"}


LIMITS = ReplayLimits(capacity_rps=10, headroom=0.3, quiet_from=time(22), quiet_to=time(5))


@pytest.mark.parametrize(
    ("hour", "live", "allowed"), [(23, 2, 4), (3, 2, 4), (23, 5, 2), (23, 9, 0), (12, 0, 0), (5, 0, 0)]
)
def test_replay_beside_live_traffic_keeps_to_quiet_hours_and_headroom(hour: int, live: float, allowed: float) -> None:
    assert allowed_rate(4, live, LIMITS, NOON.replace(hour=hour)) == pytest.approx(allowed)


def test_without_quiet_hours_any_time_will_do() -> None:
    assert allowed_rate(4, 0, ReplayLimits(capacity_rps=10), NOON) == 4


def test_live_rate_leaves_out_our_own_requests_and_failed_attempts() -> None:
    source = FakeRecordSource()
    keys = ["user", "user", None, "top-up", "top-up"]
    for number, key in enumerate(keys):
        source.add(live(NOON - timedelta(seconds=number), key=key))
    source.add(live(NOON - timedelta(seconds=1), key="user", retried=True))
    source.add(live(NOON - timedelta(seconds=60), key="user"))
    assert live_rate(source, SERVICE, revision=None, key="top-up", now=NOON, window_s=10) == pytest.approx(0.3)
