"""A worker's part of continuous replay: take a due replay, start its shadow, send, compare, clear up.

A replay is taken by a guarded save of its schedule, and never run again: one whose worker died is lost and said to be,
because half of it may have been sent. The next firing makes the next point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from controlplane.domain.base import EngineId, RevisionId
from controlplane.domain.engines.driver import Dialect
from controlplane.domain.engines.fleet import EngineState
from controlplane.domain.errors import FleetuneError, NotFound, StaleVersion, Unavailable
from controlplane.domain.event import Event
from controlplane.domain.launch import engine_spec
from controlplane.domain.owner import ReplayOwner, ReplicaOwner
from controlplane.domain.schedule import ReplayRun, ReplaySpec, ReplayTarget, Schedule
from controlplane.domain.serving import Service
from controlplane.ports import Clock
from controlplane.ports.fleet import Fleet
from controlplane.ports.gateways import RecordSource
from controlplane.ports.load import LoadProgress, LoadRequest, LoadTester
from controlplane.ports.store import Store
from controlplane.services.fleet.world import ready_engines
from controlplane.services.replays.series import Point, ReplayLimits, allowed_rate, is_quiet, live_rate, run_replay
from controlplane.services.studies.trial_engine import Interrupted, remove_engine

_POLL_S = 0.2
_LOOK_EVERY_S = 2.0
_LIVE_WINDOW_S = 30.0
_RATE_STEPS = 10  # a capped rate is a whole number of tenths of the wanted one, so that points can be compared


class _Target(NamedTuple):
    url: str
    rate_rps: float


class _Skipped(Exception):
    """Why nothing may be sent now."""


@dataclass(frozen=True)
class ReplayRunner:
    """Runs due replays on this host's engines. `should_stop` is asked every two seconds."""

    store: Store
    fleet: Fleet
    load_tester: LoadTester
    records: RecordSource
    clock: Clock
    sleep: Callable[[float], None]
    worker_name: str
    out_dir: Path
    should_stop: Callable[[], bool]

    def run_next(self) -> Schedule | None:
        """Run the first replay that is due; None when there is none."""
        for schedule, version in self.store.list_schedules():
            run = schedule.replay_run
            if run is None or run.worker is not None or schedule.spec.replay is None:
                continue
            taken = self._taken(schedule, run, schedule.spec.replay, version)
            if taken is not None:
                self._run(taken, schedule.spec.replay)
                return taken
        return None

    def _taken(self, schedule: Schedule, run: ReplayRun, spec: ReplaySpec, version: int) -> Schedule | None:
        shadow = EngineId(f"replay-{schedule.service}-{run.number}") if spec.target is ReplayTarget.SHADOW else None
        mine = run.evolve(worker=self.worker_name, heartbeat_at=self.clock(), engine_id=shadow)
        taken = schedule.evolve(replay_run=mine)
        try:
            self.store.save_schedule(taken, version)
        except StaleVersion:  # another worker was faster
            return None
        return taken

    def _run(self, schedule: Schedule, spec: ReplaySpec) -> None:
        run = schedule.replay_run
        assert run is not None, "only taken replays are run"
        action, reason = None, ""
        try:
            self._send(schedule, run, spec)
        except _Skipped as skipped:
            action, reason = "replay.skipped", str(skipped)
        except Interrupted as why:
            action, reason = "replay.stopped", str(why)
        except FleetuneError as error:
            action, reason = "replay.failed", str(error)
        finally:
            self.load_tester.rest()
            if run.engine_id is not None:
                remove_engine(self.fleet, run.engine_id, sleep=self.sleep)
            self._clear(schedule, action, reason)

    def _send(self, schedule: Schedule, run: ReplayRun, spec: ReplaySpec) -> None:
        service = self.store.get_service(schedule.service).value
        limits = _limits(spec)
        if not is_quiet(limits, self.clock()):
            raise _Skipped(f"outside the quiet hours {spec.quiet_from} to {spec.quiet_to} UTC")
        watch = _Watch(self, schedule, service, limits)
        target = self._shadow(service, run, spec, watch) if run.engine_id else self._stable(service, spec, limits)
        run_replay(
            self.store,
            self.load_tester,
            point=Point(schedule.service, schedule.spec.name, run.number),
            request=_request(service, spec, target, self.store.get_revision(_stable_of(service)).engine.driver.dialect),
            out_dir=self.out_dir / f"replay-{schedule.service}-{run.number}",
            clock=self.clock,
            watch=watch.during(target.rate_rps if spec.target is ReplayTarget.STABLE else None),
        )

    def _shadow(self, service: Service, run: ReplayRun, spec: ReplaySpec, watch: _Watch) -> _Target:
        assert run.engine_id is not None
        revision = self.store.get_revision(_stable_of(service))
        owner = ReplayOwner(service.name, run.number)
        wanted = engine_spec(
            run.engine_id,
            owner,
            model=revision.model,
            engine=revision.engine,
            gpus=service.spec.gpus,
            config=revision.config,
        )
        engine = self.fleet.start(wanted)
        while engine.state is EngineState.STARTING:
            watch.look()
            self.sleep(_POLL_S)
            engine = self.fleet.observe(run.engine_id)
        if engine.state is not EngineState.READY or engine.url is None:
            raise Unavailable("the shadow did not start", why=engine.failure_detail or str(engine.failure))
        return _Target(engine.url, spec.rate_rps)

    def _stable(self, service: Service, spec: ReplaySpec, limits: ReplayLimits) -> _Target:
        ready = ready_engines(self.fleet, ReplicaOwner(service.name, _stable_of(service)))
        if not ready:
            raise _Skipped("no replica of stable is ready")
        rate = allowed_rate(spec.rate_rps, self.live_rps(service, len(ready)), limits, self.clock())
        tenths = int(_RATE_STEPS * rate / spec.rate_rps)
        if tenths == 0:
            raise _Skipped(f"live traffic leaves no room within {1 - limits.headroom:.0%} of {limits.capacity_rps:g}/s")
        return _Target(str(ready[0].url), spec.rate_rps * tenths / _RATE_STEPS)

    def live_rps(self, service: Service, replicas: int) -> float:
        """Live requests per second of engine time to one replica of stable. Raises Unavailable."""
        found = live_rate(
            self.records,
            service.name,
            revision=service.stable,
            key="",  # replays go to the engine itself: none of the gateways' records is ours
            now=self.clock(),
            window_s=_LIVE_WINDOW_S,
        )
        return found / replicas / service.spec.engine.time_lapse

    def beat(self, schedule: Schedule) -> None:
        """Renew the claim. Raises Interrupted when the replay is not to go on."""
        if self.should_stop():
            raise Interrupted("the worker was stopped")
        found = self._saved(schedule)
        if found is None or found[0].spec.paused:
            raise Interrupted("the schedule was paused or deleted")
        saved, version = found
        if saved.replay_run is None or saved.replay_run.worker != self.worker_name:
            raise Interrupted("the claim was lost")
        try:
            self.store.save_schedule(
                saved.evolve(replay_run=saved.replay_run.evolve(heartbeat_at=self.clock())), version
            )
        except StaleVersion:  # somebody changed the schedule just now: the next look renews it
            return

    def _clear(self, schedule: Schedule, action: str | None, reason: str) -> None:
        events = [] if action is None else [_event(schedule, action, reason, self.clock())]
        while (found := self._saved(schedule)) is not None:
            saved, version = found
            mine = saved.replay_run is not None and saved.replay_run.worker == self.worker_name
            try:
                self.store.save_schedule(saved.evolve(replay_run=None) if mine else saved, version, events=events)
            except (StaleVersion, NotFound):
                continue
            return

    def _saved(self, schedule: Schedule) -> tuple[Schedule, int] | None:
        rows = self.store.list_schedules(schedule.service)
        return next(((s, v) for s, v in rows if s.spec.name == schedule.spec.name), None)


class _Watch:
    """Looks at the claim, and beside live traffic at the room it leaves, every two seconds."""

    def __init__(self, runner: ReplayRunner, schedule: Schedule, service: Service, limits: ReplayLimits) -> None:
        self._runner = runner
        self._schedule = schedule
        self._service = service
        self._limits = limits
        self._looked_at: datetime | None = None
        self._rate_rps: float | None = None

    def during(self, beside_live_rps: float | None) -> Callable[[LoadProgress], None]:
        """Return the watch of a load test; with a rate, that which is sent beside live traffic."""
        self._rate_rps = beside_live_rps
        return lambda _: self.look()

    def look(self) -> None:
        """Raise Interrupted when the replay is to end at once."""
        now = self._runner.clock()
        if self._looked_at is not None and (now - self._looked_at).total_seconds() < _LOOK_EVERY_S:
            return
        self._looked_at = now
        self._runner.beat(self._schedule)
        if self._rate_rps is None:
            return
        live_rps = self._runner.live_rps(self._service, max(1, self._service.stable_replicas))
        if allowed_rate(self._rate_rps, live_rps, self._limits, now) < self._rate_rps:
            raise Interrupted(f"live traffic of {live_rps:.1f}/s a replica needs the room")


def _stable_of(service: Service) -> RevisionId:
    if service.stable is None or service.stopped:
        raise _Skipped("no stable revision serves")
    return service.stable


def _limits(spec: ReplaySpec) -> ReplayLimits:
    """A shadow has nobody beside it: only the quiet hours count."""
    return ReplayLimits(
        capacity_rps=spec.capacity_rps or spec.rate_rps,
        headroom=spec.headroom,
        quiet_from=spec.quiet_from,
        quiet_to=spec.quiet_to,
    )


def _request(service: Service, spec: ReplaySpec, target: _Target, dialect: Dialect) -> LoadRequest:
    return LoadRequest(
        workload=spec.workload or service.spec.workload,
        rate_rps=target.rate_rps,
        url=target.url,
        model=service.spec.model.name,
        duration_s=spec.duration_s,
        warmup_s=spec.warmup_s,
        time_lapse=service.spec.engine.time_lapse,
        seed=spec.seed,
        slos=service.spec.slos.latency,
        dialect=dialect,
    )


def _event(schedule: Schedule, action: str, reason: str, now: datetime) -> Event:
    subject = f"schedule/{schedule.service}/{schedule.spec.name}"
    return Event(at=now, actor="replay", action=action, subject=subject, service=schedule.service, reason=reason)
