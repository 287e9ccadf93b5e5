"""Bring a canary's replicas to the load the step is to prove, by replayed requests that nobody is billed for.

They go to the canary's engines, past the gateways of users: no key, no tenant, no cache of answers. Their records are
marked and stand beside the gateways' own, where the judge counts them apart. What is sent ends within a second when
users of either arm suffer, and when the rollout is no longer at the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from controlplane.domain.base import RevisionId, RolloutId, ServiceName
from controlplane.domain.door.routing import Backend, GatewayRecord, RevisionRoute, ServiceRoute
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.owner import ReplicaOwner
from controlplane.domain.rollouts.arm import Arm
from controlplane.domain.rollouts.load_match import (
    LATELY_S,
    STANDS_S,
    Attempts,
    collapses,
    hanging,
    matched_step,
    overdue_s,
    rate_rps,
    stalled,
    suffers,
    waits,
    wanted_rps,
    window_s,
)
from controlplane.domain.rollouts.replayed import Origin, finished, given_up, given_up_silent
from controlplane.domain.rollouts.rollout import Rollout
from controlplane.domain.service import ServiceSpec
from controlplane.domain.serving import Service
from controlplane.ports import Clock
from controlplane.ports.fleet import FleetView
from controlplane.ports.gateways import GatewayOpener, Position, RecordFeed
from controlplane.ports.load import LoadProgress, LoadRequest, LoadTester
from controlplane.ports.store import Store
from controlplane.services.fleet.world import ready_engines
from controlplane.services.rollouts.manage import active_rollout

LEAST_SHARE = 0.1  # of the wanted load: less is not worth a generator
_LOOK_EVERY_S = 0.5
_CHANGED = 0.3  # a rate that is so far from the one that is right now is sent anew
_FIRST_REST_S = 20.0  # engine time; doubled each time users suffered


def read_attempts(store: Store, rollout_id: RolloutId) -> Attempts:
    """Return what came of making up a rollout's load so far."""
    saved = store.read_setting(_setting(rollout_id))
    return Attempts() if saved is None else Attempts.model_validate_json(saved.value)


def _setting(rollout_id: RolloutId) -> str:
    return f"rollout-load/{rollout_id}"


class _Plan(NamedTuple):
    service: Service
    rollout: Rollout
    engines: Sequence[Engine]
    rate_rps: float  # to all canary replicas together, engine time
    time_lapse: float


@dataclass
class LoadMatcher:
    """One for a service (`senders`); `keep` appends records where the feed finds them, `should_stop` ends it soon."""

    service: ServiceName
    store: Store
    fleet: FleetView
    load_tester: LoadTester
    gateways: GatewayOpener
    feed: RecordFeed
    keep: Callable[[ServiceName, Sequence[GatewayRecord]], None]
    clock: Clock
    out_dir: Path
    should_stop: Callable[[], bool]
    _rests: dict[RolloutId, tuple[datetime, float]] = field(default_factory=dict)
    _users: dict[RolloutId, _Users] = field(default_factory=dict)

    def run_next(self) -> bool:
        """Send what the canary misses until something changes; False when it misses nothing. Raises NotFound."""
        plan = self._plan(self.store.get_service(self.service).value)
        if plan is not None:
            self._send(plan)
        return plan is not None

    def _plan(self, service: Service) -> _Plan | None:
        active = active_rollout(self.store, service.name)
        if active is None or matched_step(active.value) is None or self._rests_still(active.value.rollout_id):
            return None
        rollout = active.value
        engines = self._ready(service.name, rollout.canary)
        wanted = wanted_rps(rollout.options.steps[rollout.step_index], service.spec.slos, rollout.canary_replicas)
        if wanted is None or not engines:
            return None
        users = self._watched(service, rollout)
        rate = wanted * len(engines) - users.canary_rps(self.clock())
        if rate < LEAST_SHARE * wanted * len(engines):
            return None
        return _Plan(service, rollout, engines, rate, users.time_lapse)

    def _send(self, plan: _Plan) -> None:
        """Raises Unavailable when the generator broke; what was sent until then is kept and judged."""
        name = plan.rollout.rollout_id
        self._note(name, read_attempts(self.store, name).evolve(note=""))
        watch = _Watch(self, plan)
        folder = self.out_dir / f"load-{plan.rollout.rollout_id}-{plan.rollout.step_index}"
        with self._target(plan, folder) as url:
            request = _request(plan, url, seed=int(self.clock().timestamp()))
            self.load_tester.run(request, out_dir=folder, watch=watch.look)

    @contextmanager
    def _target(self, plan: _Plan, folder: Path) -> Iterator[str]:
        """One engine as it is, several behind a gateway of their own that balances as users' gateways do."""
        backends = tuple(Backend(engine_id=e.spec.engine_id, url=str(e.url)) for e in plan.engines)
        if len(backends) == 1:
            yield backends[0].url
            return
        spec = plan.service.spec
        revision = RevisionRoute(revision=plan.rollout.canary, weight_percent=100, backends=backends)
        route = ServiceRoute(service=spec.name, model=spec.model.name, revisions=(revision,), options=spec.gateway.bare)
        with self.gateways.open(route, folder=folder / "gateway") as gateway:
            yield gateway.url

    def still(self, plan: _Plan, progress: LoadProgress, answered_to_s: float) -> str | None:
        """Say why sending must end now; None to go on. `answered_to_s`: when the latest of the answered was due."""
        if self.should_stop():
            return "told to stop"
        active = active_rollout(self.store, plan.service.name)
        step, planned = None if active is None else matched_step(active.value), plan.rollout.steps[-1]
        if step is None or (step.index, step.started_at) != (planned.index, planned.started_at):
            return "the rollout is no longer at this step"
        users = self._watched(plan.service, plan.rollout)
        attempts = read_attempts(self.store, plan.rollout.rollout_id)
        if progress.elapsed_s >= STANDS_S and attempts.collapses:
            attempts = self._note(plan.rollout.rollout_id, attempts.evolve(collapses=0, note=""))
        slos = plan.service.spec.slos
        seen = waits(progress.waiting_s, progress.elapsed_s, answered_to_s, slos)
        hung = hanging(seen.overtaken_s, slos, plan.rollout.options, begun=progress.begun_s)
        collapse = collapses(seen.queued_s, slos)
        hurt = (f"{hung} hang" if hung else collapse) or users.suffering(self.clock(), plan.service.spec, plan.rollout)
        if hurt is not None:
            came = attempts.evolve(collapses=attempts.collapses + (collapse is not None), hanging=hung)
            self._rest(plan, hurt, came)
            return hurt
        return self._changed(plan, users)

    def _changed(self, plan: _Plan, users: _Users) -> str | None:
        wanted = wanted_rps(
            plan.rollout.options.steps[plan.rollout.step_index], plan.service.spec.slos, plan.rollout.canary_replicas
        )
        right = (wanted or 0.0) * len(plan.engines) - users.canary_rps(self.clock())
        present = {engine.spec.engine_id for engine in self._ready(plan.service.name, plan.rollout.canary)}
        if present != {engine.spec.engine_id for engine in plan.engines}:
            return "the canary's replicas changed"
        return "users' rate changed" if abs(right - plan.rate_rps) > _CHANGED * plan.rate_rps else None

    def _note(self, name: RolloutId, attempts: Attempts) -> Attempts:
        saved = self.store.read_setting(_setting(name))
        self.store.write_setting(_setting(name), attempts.model_dump_json(), 0 if saved is None else saved.version)
        return attempts

    def _rest(self, plan: _Plan, why: str, came: Attempts) -> None:
        """Users come first: nothing is sent for a while, each time twice as long."""
        name = plan.rollout.rollout_id
        rest_s = 2 * self._rests[name][1] if name in self._rests else _FIRST_REST_S / plan.time_lapse
        self._rests[name] = (self.clock() + timedelta(seconds=rest_s), rest_s)
        said = f"stopped at {plan.rate_rps / len(plan.engines):.2f} replayed requests/s a replica: {why}"
        self._note(name, came.evolve(note=said))

    def _rests_still(self, rollout_id: RolloutId) -> bool:
        return rollout_id in self._rests and self.clock() < self._rests[rollout_id][0]

    def _ready(self, service: ServiceName, revision: RevisionId) -> Sequence[Engine]:
        return ready_engines(self.fleet, ReplicaOwner(service, revision))

    def _watched(self, service: Service, rollout: Rollout) -> _Users:
        known = self._users.get(rollout.rollout_id)
        if known is None or known.since != rollout.steps[-1].started_at:
            lapse = self.store.get_revision(rollout.canary).engine.time_lapse
            known = self._users[rollout.rollout_id] = _Users(service, rollout, lapse)
        known.catch_up(self.feed)
        return known


class _Users:
    """Users' requests of both arms since the step began."""

    def __init__(self, service: Service, rollout: Rollout, time_lapse: float) -> None:
        self.since, self.time_lapse = rollout.steps[-1].started_at, time_lapse
        self._service = service.name
        arms = (rollout.canary, rollout.stable)
        self._arms = {name: Arm(service.spec.slos.latency, time_lapse=time_lapse) for name in arms}
        self._canary, self._stable = arms
        self._position: Position = {}

    def catch_up(self, feed: RecordFeed) -> None:
        for news in feed.follow(self._service, since=self.since, position=self._position):
            for record in news.records:
                if record.revision in self._arms and not record.replayed:
                    self._arms[record.revision].add(record)
            self._position = news.position

    def canary_rps(self, now: datetime) -> float:
        """Return users' requests per second to the canary, engine time, over the step so far or the last window."""
        wall_s = window_s(self.time_lapse)
        past_s = max(1.0, min(wall_s, (now - self.since).total_seconds()))
        return rate_rps(self._arms[self._canary].lately(now, wall_s), past_s, self.time_lapse)

    def suffering(self, now: datetime, spec: ServiceSpec, rollout: Rollout) -> str | None:
        wall_s = window_s(self.time_lapse, LATELY_S)
        for said, name in (("canary", self._canary), ("stable revision", self._stable)):
            hurt = suffers(said, self._arms[name].lately(now, wall_s), spec.slos, rollout.options)
            if hurt is not None:
                return hurt
        return None


class _Watch:
    """Keeps what was answered, and looks at users, rollout and our own queue twice a second."""

    def __init__(self, matcher: LoadMatcher, plan: _Plan) -> None:
        self._matcher = matcher
        self._plan = plan
        self._kept = 0
        self._answered_to_s = 0.0
        self._looked_at: datetime | None = None
        self._origin: Origin | None = None

    def look(self, progress: LoadProgress) -> str | None:
        now = self._matcher.clock()
        origin = self._origin = self._origin or _origin(self._plan, now, progress.elapsed_s)
        new = progress.records[self._kept :]
        self._keep([finished(record, origin) for record in new])
        answered_s = [record.scheduled_s for record in new if record.ttft_ms is not None]
        self._answered_to_s = max([self._answered_to_s, *answered_s])
        self._kept = len(progress.records)
        if self._looked_at is not None and (now - self._looked_at).total_seconds() < _LOOK_EVERY_S:
            return None
        self._looked_at = now
        reason = self._matcher.still(self._plan, progress, self._answered_to_s)
        if reason is not None:  # what has waited too long by now has missed its limit, whenever it would have come
            slos, now_s = self._plan.service.spec.slos, progress.elapsed_s
            late, silent = overdue_s(progress.waiting_s, slos), stalled(progress.begun_s, slos)
            self._keep([given_up(each, now_s, n, origin) for n, each in enumerate(late)])
            self._keep([given_up_silent(each, now_s, n, origin) for n, each in enumerate(silent)])
        return reason

    def _keep(self, records: Sequence[GatewayRecord]) -> None:
        if records:
            self._matcher.keep(self._plan.service.name, records)


def _origin(plan: _Plan, now: datetime, elapsed_s: float) -> Origin:
    return Origin(
        rollout_id=plan.rollout.rollout_id,
        service=plan.service.name,
        model=plan.service.spec.model.name,
        revision=plan.rollout.canary,
        engine_id=plan.engines[0].spec.engine_id if len(plan.engines) == 1 else None,
        began=now - timedelta(seconds=elapsed_s / plan.time_lapse),
        time_lapse=plan.time_lapse,
        api=plan.engines[0].spec.driver.dialect.apis[0],
    )


def _request(plan: _Plan, url: str, *, seed: int) -> LoadRequest:
    spec, step = plan.service.spec, plan.rollout.options.steps[plan.rollout.step_index]
    engine = plan.engines[0].spec  # an alternative's may be of another kind than the service's own
    return LoadRequest(
        workload=spec.workload,
        rate_rps=plan.rate_rps,
        url=url,
        model=spec.model.name,
        duration_s=step.max_s * plan.time_lapse,
        time_lapse=plan.time_lapse,
        seed=seed,
        slos=spec.slos.latency,
        api_key=engine.api_key,
        dialect=engine.driver.dialect,
    )
