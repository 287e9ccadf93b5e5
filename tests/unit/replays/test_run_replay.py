"""A worker's replay: its shadow, its room beside live traffic, and what becomes of it when somebody dies."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from datetime import time, timedelta
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.base import EngineId, StudyId
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.launch import engine_spec
from controlplane.domain.owner import ReplicaOwner
from controlplane.domain.schedule import (
    REPLAY_LEASE_S,
    ReplaySpec,
    ReplayTarget,
    Schedule,
    ScheduledAction,
    ScheduleSpec,
)
from controlplane.services.controller.jobs import fire_due, reap_shadows
from controlplane.services.replays.run_replay import ReplayRunner
from controlplane.services.replays.series import list_replays
from controlplane.services.studies.manage import create_study
from controlplane.settings import Settings
from controlplane.wiring import work
from tests.builders_serving import CHAT, NOW, a_revision, a_service, a_spec
from tests.fakes.fleet import FakeClock, FakeFleet
from tests.fakes.killing import Killed, Killer, Moment
from tests.fakes.load_tester import FakeLoadTester, steady
from tests.fakes.record_source import FakeRecordSource
from tests.fakes.store import FakeStore
from tests.unit.replays.test_replay import live

REVISION = a_revision()
SHADOW = ReplaySpec(rate_rps=10, duration_s=40, warmup_s=0)
STABLE = SHADOW.evolve(target=ReplayTarget.STABLE, capacity_rps=20)


class Site:
    """One service with a stable revision, a schedule, and a worker."""

    def __init__(self, folder: Path, replay: ReplaySpec, *, gpus: int = 2) -> None:
        self.clock = FakeClock(NOW)
        self.store, self.fleet = FakeStore(), FakeFleet(gpus=gpus, clock=self.clock)
        self.records, self.tester = FakeRecordSource(), FakeLoadTester(steady(50, 10))
        self.stopping = False
        self._folder = folder
        self.store.add_revision(REVISION)
        self.store.save_service(a_service(stable=REVISION.revision_id, stable_replicas=1), 0)
        spec = ScheduleSpec(name="nightly", cron="0 3 * * *", action=ScheduledAction.REPLAY, replay=replay)
        self.store.save_schedule(Schedule(service=CHAT, spec=spec, next_at=NOW), 0)

    @property
    def schedule(self) -> Schedule:
        return self.store.list_schedules()[0].value

    @property
    def actions(self) -> list[str]:
        return [event.action for event in reversed(self.store.list_events(service=CHAT))]

    def controller(self) -> None:
        fire_due(self.store, create_study=create_study, now=self.clock())
        reap_shadows(self.store, self.fleet, self.fleet.list(), now=self.clock())

    def due(self) -> None:
        """Let the next firing come."""
        self.clock.now = max(self.clock.now, self.schedule.next_at)
        self.controller()

    def worker(self, name: str = "w1") -> ReplayRunner:
        return ReplayRunner(
            store=self.store,
            fleet=self.fleet,
            load_tester=self.tester,
            records=self.records,
            clock=self.clock,
            sleep=self.clock.go_on,
            worker_name=name,
            out_dir=self._folder,
            should_stop=lambda: self.stopping,
        )

    def killed(self, killer: Killer) -> bool:
        """Run a worker that is killed; False when it got through."""
        ports = {name: killer.wrap(getattr(self.worker(), name)) for name in ("store", "fleet", "load_tester")}
        try:
            replace(self.worker(), **ports).run_next()
        except Killed:
            return True
        return False

    def recover(self) -> None:
        """Let the lease end and everybody else do their duty."""
        self.clock.go_on(REPLAY_LEASE_S + 1)
        for _ in range(3):
            self.controller()
            self.worker("w2").run_next()

    def serve(self) -> Engine:
        """Run a replica of stable."""
        config, service = EngineConfig(), a_spec()
        owner = ReplicaOwner(CHAT, REVISION.revision_id)
        spec = engine_spec(
            EngineId("chat-1"), owner, model=service.model, engine=service.engine, gpus=service.gpus, config=config
        )
        self.fleet.start(spec)
        return self.fleet.observe(spec.engine_id)

    def live(self, rate_rps: float) -> None:
        """Let stable have had live traffic for half a minute."""
        for number in range(int(30 * rate_rps)):
            at = NOW - timedelta(seconds=number / rate_rps)
            self.records.add(live(at, key=None).evolve(revision=REVISION.revision_id, id=f"r{number}"))


def test_a_due_replay_runs_once_on_a_shadow_that_is_gone_afterwards(tmp_path: Path) -> None:
    site = Site(tmp_path, SHADOW)
    site.due()
    assert site.worker().run_next() is not None
    assert site.worker().run_next() is None
    assert [each.schedule for each in list_replays(site.store, CHAT)] == ["nightly"]
    assert site.fleet.list() == []
    assert site.schedule.replay_run is None
    assert site.actions == ["schedule.fired", "replay.finished"]


def test_a_slower_service_raises_an_event_at_its_next_firing(tmp_path: Path) -> None:
    site = Site(tmp_path, SHADOW)
    for ttft_ms in (50, 90):
        site.tester.target = steady(ttft_ms, 10)
        site.due()
        site.worker().run_next()
    assert [each.regressed for each in list_replays(site.store, CHAT)] == [True, False]
    assert site.actions[-1] == "replay.regressed"


def test_two_workers_never_run_the_same_replay(tmp_path: Path) -> None:
    site = Site(tmp_path, SHADOW)
    site.due()
    seen: list[Any] = []

    def during(*_: Any) -> Any:
        seen.append(site.worker("w2").run_next())
        return steady(50, 10)(*_)

    site.tester.target = during
    site.worker("w1").run_next()
    assert set(seen) == {None}
    assert len(list_replays(site.store, CHAT)) == 1


@pytest.mark.parametrize("moment", list(Moment))
def test_wherever_its_worker_is_killed_a_replay_is_sent_once_at_most_and_no_shadow_is_left(
    tmp_path: Path, moment: Moment
) -> None:
    ends = []
    for call in range(1, 100):
        site = Site(tmp_path, SHADOW)
        site.due()
        killer = Killer(at=call, moment=moment)
        if not site.killed(killer):
            break
        site.recover()
        assert site.fleet.list() == []
        assert site.schedule.replay_run is None
        assert len(site.tester.requests) <= 1
        assert len(list_replays(site.store, CHAT)) <= 1
        ends.append(site.actions[-1])
    assert call > 10
    assert {"replay.lost", "replay.finished"} <= set(ends)


def test_a_firing_while_the_last_replay_waits_is_left_out(tmp_path: Path) -> None:
    site = Site(tmp_path, SHADOW)
    site.due()
    site.due()
    assert site.actions == ["schedule.fired", "schedule.failed"]
    assert site.schedule.replay_run is not None


def test_what_a_due_replay_does_or_waits_for_is_told(tmp_path: Path) -> None:
    site = Site(tmp_path, SHADOW)
    assert site.schedule.replay_progress([]) is None
    site.due()
    due = f"replay 1 of chat/nightly is due since {NOW:%Y-%m-%d %H:%M} UTC and waits: "
    assert site.schedule.replay_progress([]) == due + "no worker has taken it yet"
    assert "ends its study first, and chat-2 is running" in str(site.schedule.replay_progress([StudyId("chat-2")]))
    seen: list[str | None] = []

    def during(*_: Any) -> Any:
        seen.append(site.schedule.replay_progress([]))
        return steady(50, 10)(*_)

    site.tester.target = during
    site.worker("w1@host:7").run_next()
    assert set(seen) == {"replay 1 of chat/nightly runs on w1@host:7"}


def test_workers_called_alike_on_two_hosts_are_two(tmp_path: Path) -> None:
    """Their claims carry host and process, as those of studies do."""
    made = work.replay_runner(
        Settings(data_dir=tmp_path), "worker-1", FakeLoadTester(steady(50, 10)), should_stop=lambda: False
    )
    assert made.worker_name == f"worker-1@{socket.gethostname()}:{os.getpid()}"


def test_without_a_free_gpu_nothing_is_sent(tmp_path: Path) -> None:
    site = Site(tmp_path, SHADOW, gpus=1)
    site.serve()
    site.due()
    site.worker().run_next()
    assert site.tester.requests == []
    assert site.actions == ["schedule.fired", "replay.failed"]
    assert site.schedule.replay_run is None


@pytest.mark.parametrize(("live_rps", "sent"), [(0, 10.0), (6, 8.0), (13.5, None)])
def test_beside_live_traffic_a_replay_keeps_the_headroom(tmp_path: Path, live_rps: float, sent: float | None) -> None:
    """Capacity 20/s, of which 14/s may be used."""
    site = Site(tmp_path, STABLE)
    url = site.serve().url
    if live_rps:
        site.live(live_rps)
    site.due()
    site.worker().run_next()
    assert [(r.url, r.rate_rps) for r in site.tester.requests] == ([] if sent is None else [(url, sent)])
    assert site.actions[-1] == ("replay.skipped" if sent is None else "replay.finished")
    assert len(site.fleet.list()) == 1, "stable is not touched"


def test_nothing_is_sent_outside_the_quiet_hours(tmp_path: Path) -> None:
    site = Site(tmp_path, SHADOW.evolve(quiet_from=time(1), quiet_to=time(5)))  # it is noon
    site.due()
    site.worker().run_next()
    assert (site.tester.requests, site.actions[-1]) == ([], "replay.skipped")


def test_a_stopped_worker_leaves_no_shadow(tmp_path: Path) -> None:
    site = Site(tmp_path, SHADOW)
    site.due()
    site.stopping = True
    site.worker().run_next()
    assert site.fleet.list() == []
    assert site.actions[-1] == "replay.stopped"


@pytest.mark.parametrize(
    "fields",
    [
        {"action": "replay"},
        {"action": "tune", "replay": {"rate_rps": 1}},
        {"action": "replay", "replay": {"rate_rps": 1, "target": "stable"}},
        {"action": "replay", "replay": {"rate_rps": 1, "quiet_from": "01:00"}},
    ],
)
def test_a_half_described_replay_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"belong together|needs capacity_rps"):
        ScheduleSpec.model_validate({"name": "nightly", "cron": "0 3 * * *"} | fields)
