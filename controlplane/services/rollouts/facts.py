"""Collect what the rollout policy decides on: engines, exits, shortage, and the judgement of live records."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from controlplane.domain.base import ServiceName
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.errors import Unavailable
from controlplane.domain.revision import Revision
from controlplane.domain.rollouts.analysis import Analysis, LatencyEffect, LoadProof, Promise
from controlplane.domain.rollouts.arm import NO_REQUESTS, Arm
from controlplane.domain.rollouts.comparing import Control, Evidence, Flights
from controlplane.domain.rollouts.counting import NOTHING, add
from controlplane.domain.rollouts.effects import Latencies, effects
from controlplane.domain.rollouts.flights import flights_of
from controlplane.domain.rollouts.guards import Rail, guard
from controlplane.domain.rollouts.judge import could_not_measure, judge, still_reading
from controlplane.domain.rollouts.load_match import Attempts, proof, rate_rps, wanted_rps, window_s
from controlplane.domain.rollouts.pressure import Loads
from controlplane.domain.rollouts.rollout import Rollout, RolloutState, StepRecord
from controlplane.domain.rollouts.rollout_policy import Facts
from controlplane.domain.rollouts.strata import Matching
from controlplane.domain.rollouts.warm_up import WarmUp
from controlplane.domain.slo import SloSet
from controlplane.ports.gateways import FlightView, RecordFeed
from controlplane.ports.metrics import PressureView
from controlplane.ports.store import Store
from controlplane.services.fleet.engines import Trouble
from controlplane.services.fleet.world import World, exits
from controlplane.services.rollouts.answers import read_answers, risk_before_users
from controlplane.services.rollouts.match_load import read_attempts
from controlplane.services.rollouts.promise import promise_of
from controlplane.services.rollouts.reading import StepReader
from controlplane.services.rollouts.strains import StrainWatch

_NEWS = 1.01  # of what was known: sooner, latencies would say the same as at the last look

_NOT_JUDGED = frozenset({RolloutState.PENDING, RolloutState.ABORTING, RolloutState.ABORTED})


class FactFinder:
    """Looks at the world of one service whose rollout is under way."""

    def __init__(
        self,
        *,
        store: Store,
        records: RecordFeed,
        flights: FlightView | None,
        pressures: PressureView | None = None,
    ) -> None:
        self._store = store
        self._strains = None if pressures is None else StrainWatch(pressures)
        self._flights = flights
        self._records = records
        self._watched: dict[ServiceName, _Watched] = {}

    def facts(self, world: World, troubles: Sequence[Trouble], *, unrouted: str | None, now: datetime) -> Facts:
        """Return the facts of this pass; `unrouted` says why gateways do not route as asked, if so."""
        rollout = world.rollout
        assert rollout is not None, "facts are about a rollout"
        ended = exits(world, rollout.canary)
        needed = {rollout.canary, rollout.stable} if rollout.wants_control else {rollout.canary}
        mine = [trouble for trouble in troubles if trouble.revision in needed]
        return Facts(
            canary_ready=len(world.ready(rollout.canary)),
            canary_present=len(world.present(rollout.canary)),
            stable_present=0 if rollout.stable == rollout.canary else len(world.present(rollout.stable)),
            control_ready=tuple(e.spec.engine_id for e in _as_old(world, rollout)),
            exits=len(ended),
            exit_reason=_reason(ended[-1].failure, ended[-1].failure_detail) if ended else "",
            refused=next((t.reason for t in mine if t.for_good and t.revision == rollout.canary), None),
            shortage=next((trouble.reason for trouble in mine if not trouble.for_good), None),
            analysis=self._analysis(world, rollout, unrouted, now),
            answer_risk=(risk := risk_before_users(self._store, rollout)),
            answers=None if risk is None else read_answers(self._store, rollout.rollout_id, world.service.spec),
        )

    def forget_others(self, worlds: Sequence[World]) -> None:
        """Let go of what was counted for rollouts that are over: every arm has the newest 20,000 of a gateway."""
        under_way = {world.service.name for world in worlds if world.rollout is not None}
        self._watched = {name: seen for name, seen in self._watched.items() if name in under_way}

    def _analysis(self, world: World, rollout: Rollout, unrouted: str | None, now: datetime) -> Analysis | None:
        if not rollout.steps or rollout.stable is None or rollout.state in _NOT_JUDGED:
            return None
        step = rollout.steps[-1]
        try:
            seen = self._watch(rollout, step, world.service.spec.slos)
            seen.catch_up(self._records)
        except Unavailable as error:
            return could_not_measure(f"live records cannot be read: {error}", now, step.analysis)
        if seen.reader.behind:
            return self._half_read(world, rollout, seen, now)
        slos, options = world.service.spec.slos, rollout.options
        attempts = read_attempts(self._store, rollout.rollout_id)
        flying = self._flying(seen, slos)
        evidence = _evidence(world, rollout, step, seen, attempts, now).evolve(**flying)
        engines = self._engines(world, rollout, seen, evidence, now)
        hit = guard((seen.canary, seen.replayed), evidence, options, now, beside=seen.beside, engines=engines)
        if unrouted is not None and hit is None:
            return could_not_measure(f"the gateways do not route as asked: {unrouted}", now, step.analysis)
        judged = judge(evidence, slos, options, options.steps[step.index], started_at=step.started_at, now=now)
        return judged if hit is None else judged.evolve(verdict=hit.verdict, reason=hit.reason, guard=hit.guard)

    def _half_read(self, world: World, rollout: Rollout, seen: _Watched, now: datetime) -> Analysis:
        """While there is more to read only what needs no record ends a rollout: requests in flight that hang."""
        flying = self._flying(seen, world.service.spec.slos)
        evidence = Evidence(canary=NOTHING, stable=None, control=Control.LIMITS).evolve(**flying)
        said, hit = still_reading(now, rollout.steps[-1].analysis), guard((), evidence, rollout.options, now)
        return said if hit is None else said.evolve(verdict=hit.verdict, reason=hit.reason, guard=hit.guard)

    def _engines(
        self, world: World, rollout: Rollout, seen: _Watched, evidence: Evidence, now: datetime
    ) -> Sequence[Rail]:
        """Return what the engines say of themselves; nothing where nobody asks them."""
        if self._strains is None:
            return ()
        wanted = evidence.load.wanted_rps if evidence.load else 0.0
        stable_rps = _rps(seen, [seen.stable], len(world.ready(rollout.stable)), now)
        loads = Loads(max(evidence.carried_rps, wanted), stable_rps)
        return self._strains.rails(world, rollout, loads, time_lapse=seen.time_lapse, now=now)

    def _flying(self, seen: _Watched, slos: SloSet) -> dict[str, Flights]:
        """Return what is in flight to both arms; nothing where nobody can tell."""
        if self._flights is None:
            return {}
        try:
            told = self._flights.flights()
        except Unavailable:  # said elsewhere: the gateways do not route as asked either
            return {}
        names = zip(("canary_flights", "stable_flights"), seen.names, strict=True)
        return {name: flights_of(told, revision, slos, seen.time_lapse) for name, revision in names}

    def _watch(self, rollout: Rollout, step: StepRecord, slos: SloSet) -> _Watched:
        """Return what was counted of this very step; a new controller counts it anew, to the same result."""
        known = self._watched.get(rollout.service)
        if known is None or known.began != (rollout.rollout_id, step.started_at) or known.slos != slos:
            assert rollout.stable is not None, "only what can be compared is judged"
            canary, stable = (self._store.get_revision(each) for each in (rollout.canary, rollout.stable))
            known = _Watched(rollout, step, canary=canary, stable=stable, slos=slos)
            known.promise = promise_of(self._store, rollout)
            self._watched[rollout.service] = known
        return known


class _Watched:
    """The requests of one step, counted as they come."""

    def __init__(self, rollout: Rollout, step: StepRecord, *, canary: Revision, stable: Revision, slos: SloSet) -> None:
        self.began = (rollout.rollout_id, step.started_at)
        self.slos = slos
        self.time_lapse = canary.engine.time_lapse
        self._since = step.started_at
        self.reader = StepReader(rollout.service, step.started_at)
        self._control = frozenset(rollout.control)
        self._warm_up = WarmUp(rollout.options.warm_up_requests)
        warm_up = self._warm_up
        self.before = Arm(slos.latency, time_lapse=stable.engine.time_lapse)
        held = step.weight_percent
        self.canary = Arm(slos.latency, time_lapse=canary.engine.time_lapse, warm_up=warm_up, weight_percent=held)
        self.replayed = Arm(slos.latency, time_lapse=canary.engine.time_lapse, warm_up=warm_up)
        self.stable = Arm(slos.latency, time_lapse=stable.engine.time_lapse, weight_percent=100 - held)
        self.beside = self.stable if held < 100 else self.before  # at 100 % stable serves nobody
        self.control = Arm(slos.latency, time_lapse=stable.engine.time_lapse, warm_up=warm_up)
        self._earlier = Arm(slos.latency, time_lapse=canary.engine.time_lapse, warm_up=warm_up)  # it is warm by now
        self.matching = Matching()
        self._slower: tuple[int, tuple[LatencyEffect, ...]] = (0, ())
        self.names = (canary.revision_id, stable.revision_id)
        self.promise: Promise | None = None

    def catch_up(self, records: RecordFeed) -> None:
        """Count what came since the last time, or a part of it. Raises Unavailable."""
        for piece in self.reader.news(records):
            for record in piece.records:
                self._count(record, before=piece.before)

    def _count(self, record: GatewayRecord, *, before: bool) -> None:
        if before and record.revision == self.names[0]:
            self._warm_up.saw_before(record, self._earlier.read(record))
            return
        told = {arm: arm.add(record) for arm in self._arms(record)}
        for arm, of_canary in ((self.canary, True), (self.stable, False)):
            if (missed := told.get(arm)) is not None:
                self.matching.see(record, missed=missed, of_canary=of_canary)

    def effects(self, rollout: Rollout, *, users: bool) -> tuple[LatencyEffect, ...]:
        """Return how much slower the canary is than what it is compared with, as of a hundredth of requests ago."""
        beside = self.control if rollout.control else self.stable
        known = self.canary.latencies + self.replayed.latencies + beside.latencies
        if known < _NEWS * self._slower[0]:
            return self._slower[1]
        self._slower = (known, self._effects(beside, rollout, users=users))
        return self._slower[1]

    def _effects(self, beside: Arm, rollout: Rollout, *, users: bool) -> tuple[LatencyEffect, ...]:
        return effects(
            Latencies(
                users=self.canary.curves() if users else None,
                replayed=self.replayed.curves(),
                stable=beside.curves(),
                before=self.before.curves(),
            ),
            rollout.options,
        )

    def _arms(self, record: GatewayRecord) -> Sequence[Arm]:
        canary, stable = self.names
        if record.version is not None:  # who asks for a version by name was not sent there by the split
            return []
        if record.revision == canary:
            if record.at < self._since:
                return [self._earlier]
            return [self.replayed if record.replayed else self.canary]
        if record.revision != stable or record.replayed:
            return []
        if record.at < self._since:
            return [self.before]
        return [self.stable, self.control] if record.engine_id in self._control else [self.stable]


def _evidence(
    world: World, rollout: Rollout, step: StepRecord, seen: _Watched, attempts: Attempts, now: datetime
) -> Evidence:
    replayed = seen.replayed.counts()
    common = {
        "canary": seen.canary.counts(),
        "users": step.weight_percent > 0,
        "replayed": replayed if replayed != NO_REQUESTS else None,
        "replayed_flights": Flights(in_flight=attempts.overdue, overdue=attempts.overdue),
        "before": seen.before.counts(),
        "load": _load(world, rollout, step, seen, attempts, now),
        "carried_rps": _rps(seen, [seen.canary, seen.replayed], len(world.ready(rollout.canary)), now),
        "promise": seen.promise,
    }
    if step.weight_percent < 100:
        common["strata"] = seen.matching.strata()
        common["effects"] = seen.effects(rollout, users=step.weight_percent > 0)
        stable, weight = seen.stable.counts(), _held_to(world, step)
        if rollout.control:
            asked = {"stable_asked": stable.asked, "weight_percent": weight}
            return Evidence(**common, stable=seen.control.counts(), control=Control.REPLICA, **asked)
        return Evidence(**common, stable=stable, control=Control.CONCURRENT, weight_percent=weight)
    earlier = [past.analysis for past in rollout.steps[:-1] if past.weight_percent < 100]
    pooled = add(analysis.stable for analysis in earlier if analysis and analysis.stable)
    if pooled.requests == 0:
        return Evidence(**common, stable=None, control=Control.LIMITS)
    return Evidence(**common, stable=pooled, control=Control.EARLIER_STEPS)


def _load(
    world: World, rollout: Rollout, step: StepRecord, seen: _Watched, attempts: Attempts, now: datetime
) -> LoadProof | None:
    wanted = wanted_rps(rollout.options.steps[step.index], world.service.spec.slos, rollout.canary_replicas)
    if wanted is None or step.weight_percent == 100:
        return None
    wall_s = window_s(seen.time_lapse)
    return proof(
        wanted,
        users=seen.canary.lately(now, wall_s),
        replayed=seen.replayed.lately(now, wall_s),
        wall_s=wall_s,
        time_lapse=seen.time_lapse,
        replicas=len(world.ready(rollout.canary)),
        options=rollout.options,
        attempts=attempts,
    )


def _rps(seen: _Watched, arms: Sequence[Arm], replicas: int, now: datetime) -> float:
    """Return what a replica finished per second lately, engine time."""
    wall_s = window_s(seen.time_lapse)
    finished = [each for arm in arms for each in arm.lately(now, wall_s)]
    return rate_rps(finished, wall_s, seen.time_lapse) / max(1, replicas)


def _as_old(world: World, rollout: Rollout) -> Sequence[Engine]:
    """Return the stable replicas that were started with the canary's, to be compared with."""
    if not rollout.wants_control:
        return []
    return [e for e in world.ready(rollout.stable) if e.started_at >= rollout.created_at]


def _held_to(world: World, step: StepRecord) -> int | None:
    """A revision without a ready replica gets nothing while the other has one: the split then says nothing.

    Without a share there is none to hold it to either: what came all the same came while stable had no replica.
    """
    rollout = world.rollout
    assert rollout is not None, "evidence is of a rollout"
    both = world.ready(rollout.canary) and world.ready(rollout.stable)
    return step.weight_percent or None if both else None


def _reason(failure: object, detail: str | None) -> str:
    return f"{failure}: {detail}" if detail else str(failure or "unknown")
