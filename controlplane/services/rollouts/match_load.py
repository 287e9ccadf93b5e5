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
from typing import TYPE_CHECKING

from controlplane.domain.base import RevisionId, RolloutId, ServiceName
from controlplane.domain.door.routing import Backend, GatewayRecord, RevisionRoute, ServiceRoute
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.operations.throttle import Throttle, throttle
from controlplane.domain.owner import ReplicaOwner
from controlplane.domain.rollouts.load_match import (
    LATELY_S,
    STANDS_S,
    Attempts,
    collapses,
    hanging,
    matched_step,
    overdue_s,
    stalled,
    waits,
    wanted_rps,
    window_s,
)
from controlplane.domain.rollouts.replayed import Origin, finished, given_up, given_up_silent
from controlplane.domain.rollouts.rollout import Rollout
from controlplane.domain.serving import Service
from controlplane.ports import Clock
from controlplane.ports.fleet import FleetView
from controlplane.ports.gateways import GatewayOpener, RecordFeed
from controlplane.ports.load import LoadProgress, LoadTester
from controlplane.ports.store import Store
from controlplane.services.capacities import measured_capacity
from controlplane.services.fleet.world import ready_engines
from controlplane.services.rollouts.load_plan import Plan, origin_of, request_of
from controlplane.services.rollouts.manage import active_rollout
from controlplane.services.rollouts.step_users import StepUsers

if TYPE_CHECKING:  # it reads traces: who only asks what came of a load needs no numpy
    from controlplane.services.rollouts.recording import Recorder, Replayable

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
    recorder: Recorder
    _steps: dict[RolloutId, _Step] = field(default_factory=dict)
    _rests: dict[RolloutId, tuple[datetime, float]] = field(default_factory=dict)
    _users: dict[RolloutId, StepUsers] = field(default_factory=dict)
    _ended: dict[RolloutId, datetime] = field(default_factory=dict)
    _anyhow: set[RolloutId] = field(default_factory=set)  # stable's users suffer, sent or not

    def run_next(self) -> bool:
        """Send what the canary misses until something changes; False when it misses nothing. Raises NotFound."""
        plan = self._plan(self.store.get_service(self.service).value)
        if plan is not None:
            self._send(plan)
        return plan is not None

    def _plan(self, service: Service) -> Plan | None:
        active = active_rollout(self.store, service.name)
        if active is None or matched_step(active.value) is None or self._rests_still(active.value.rollout_id):
            return None
        rollout = active.value
        engines = self._ready(service.name, rollout.canary)
        wanted = wanted_rps(rollout.options.steps[rollout.step_index], service.spec.slos, rollout.canary_replicas)
        if wanted is None or not engines:
            return None
        users = self._watched(service, rollout)
        rate = self._missing_rps(rollout, wanted, engines, users)
        if rate < LEAST_SHARE * wanted * len(engines):
            self._say_why_not(rollout, wanted)
            return None
        return Plan(service, rollout, engines, rate, users.time_lapse)

    def _missing_rps(self, rollout: Rollout, wanted: float, engines: Sequence[Engine], users: StepUsers) -> float:
        """Return what users leave to be replayed to all of its replicas, as far as they are known to sustain it."""
        limit = self._step(rollout).throttle
        most = wanted if limit is None else min(wanted, limit.most_rps)
        return most * len(engines) - users.canary_rps(self.clock())

    def _say_why_not(self, rollout: Rollout, wanted: float) -> None:
        said, attempts = self._throttled(rollout, wanted), read_attempts(self.store, rollout.rollout_id)
        if said and not attempts.note:
            self._note(rollout.rollout_id, attempts.evolve(note=said))

    def _throttled(self, rollout: Rollout, wanted: float | None) -> str:
        limit = self._step(rollout).throttle
        return "" if limit is None or wanted is None else limit.note(wanted)

    def _step(self, rollout: Rollout) -> _Step:
        """Return what is settled once for the step under way."""
        known, since = self._steps.get(rollout.rollout_id), rollout.steps[-1].started_at
        if known is None or known.since != since:
            capacity = measured_capacity(self.store, self.store.get_revision(rollout.canary))
            known = self._steps[rollout.rollout_id] = _Step(since, throttle(capacity, rollout))
        return known

    def _send(self, plan: Plan) -> None:
        """Raises Unavailable when the generator broke; what was sent until then is kept and judged."""
        name, step = plan.rollout.rollout_id, self._step(plan.rollout)
        sent = step.sent = step.sent or self.recorder.of_step(plan.service, plan.rollout, plan.time_lapse)
        said = self._throttled(plan.rollout, self._wanted(plan))
        most_rps = step.throttle.most_rps if said and step.throttle else None
        before = read_attempts(self.store, name).of_step(plan.rollout.steps[-1].started_at)
        self._note(name, before.evolve(note=said, source=sent.source, most_rps=most_rps))
        self._begins(plan)
        watch = _Watch(self, plan)
        folder = self.out_dir / f"load-{plan.rollout.rollout_id}-{plan.rollout.step_index}"
        with self._target(plan, folder) as url:
            request = request_of(plan, url, sent, seed=int(self.clock().timestamp()))
            self.load_tester.run(request, out_dir=folder, watch=watch.look)
        self._ended[name] = self.clock()
        self._in_flight(name, read_attempts(self.store, name), 0)  # what was given up has records now

    def _begins(self, plan: Plan) -> None:
        """Note whether stable's users suffer although nothing was sent for as long as they are looked at."""
        name, now = plan.rollout.rollout_id, self.clock()
        ended, quiet_s = self._ended.get(name), window_s(plan.time_lapse, LATELY_S)
        if ended is not None and (now - ended).total_seconds() < quiet_s:
            return
        self._anyhow.discard(name)
        if self._watched(plan.service, plan.rollout).stable_suffers(now, plan.service.spec, plan.rollout) is not None:
            self._anyhow.add(name)

    def _suffering(self, plan: Plan, users: StepUsers) -> str | None:
        """Say which users suffer. Of stable's who did with nothing sent we are not the cause, until they stop."""
        place = self.clock(), plan.service.spec, plan.rollout
        theirs = users.stable_suffers(*place)
        if theirs is None:
            self._anyhow.discard(plan.rollout.rollout_id)
        ours = None if plan.rollout.rollout_id in self._anyhow else theirs
        return users.canary_suffers(*place) or ours

    @contextmanager
    def _target(self, plan: Plan, folder: Path) -> Iterator[str]:
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

    def still(self, plan: Plan, progress: LoadProgress, answered_to_s: float) -> str | None:
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
            said = self._throttled(plan.rollout, self._wanted(plan))
            attempts = self._note(plan.rollout.rollout_id, attempts.evolve(collapses=0, note=said))
        slos = plan.service.spec.slos
        seen = waits(progress.waiting_s, progress.elapsed_s, answered_to_s, slos)
        late = len(overdue_s(seen.overtaken_s, slos)) + len(stalled(progress.begun_s, slos))
        attempts = self._in_flight(plan.rollout.rollout_id, attempts, late)
        hung = hanging(seen.overtaken_s, slos, plan.rollout.options, begun=progress.begun_s)
        collapse = collapses(seen.queued_s, slos)
        hurt = (f"{hung} hang" if hung else collapse) or self._suffering(plan, users)
        if hurt is not None:
            came = attempts.evolve(collapses=attempts.collapses + (collapse is not None), hanging=hung)
            self._rest(plan, hurt, came)
            return hurt
        return self._changed(plan, users)

    @staticmethod
    def _wanted(plan: Plan) -> float | None:
        step = plan.rollout.options.steps[plan.rollout.step_index]
        return wanted_rps(step, plan.service.spec.slos, plan.rollout.canary_replicas)

    def _changed(self, plan: Plan, users: StepUsers) -> str | None:
        right = self._missing_rps(plan.rollout, self._wanted(plan) or 0.0, plan.engines, users)
        present = {engine.spec.engine_id for engine in self._ready(plan.service.name, plan.rollout.canary)}
        if present != {engine.spec.engine_id for engine in plan.engines}:
            return "the canary's replicas changed"
        return "users' rate changed" if abs(right - plan.rate_rps) > _CHANGED * plan.rate_rps else None

    def _in_flight(self, name: RolloutId, attempts: Attempts, late: int) -> Attempts:
        """Tell the judge of misses that are certain although they have no record yet."""
        return attempts if attempts.overdue == late else self._note(name, attempts.evolve(overdue=late))

    def _note(self, name: RolloutId, attempts: Attempts) -> Attempts:
        saved = self.store.read_setting(_setting(name))
        self.store.write_setting(_setting(name), attempts.model_dump_json(), 0 if saved is None else saved.version)
        return attempts

    def _rest(self, plan: Plan, why: str, came: Attempts) -> None:
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

    def _watched(self, service: Service, rollout: Rollout) -> StepUsers:
        known = self._users.get(rollout.rollout_id)
        if known is None or known.since != rollout.steps[-1].started_at:
            lapse = self.store.get_revision(rollout.canary).engine.time_lapse
            known = self._users[rollout.rollout_id] = StepUsers(service, rollout, lapse)
        known.catch_up(self.feed)
        return known


@dataclass
class _Step:
    since: datetime
    throttle: Throttle | None
    sent: Replayable | None = None  # None: nothing was sent yet


class _Watch:
    """Keeps what was answered, and looks at users, rollout and our own queue twice a second."""

    def __init__(self, matcher: LoadMatcher, plan: Plan) -> None:
        self._matcher = matcher
        self._plan = plan
        self._kept = 0
        self._answered_to_s = 0.0
        self._looked_at: datetime | None = None
        self._origin: Origin | None = None

    def look(self, progress: LoadProgress) -> str | None:
        now = self._matcher.clock()
        origin = self._origin = self._origin or origin_of(self._plan, now, progress.elapsed_s)
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
