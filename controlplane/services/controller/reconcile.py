"""The controller: one pass makes the saved state true, thinks once, and saves what it decided.

The state decides the world: whatever a crash left half done, the next pass finds by looking and finishes. Order matters
in two places. Traffic is moved before engines are stopped, so no request meets a closed door; and what a decision means
for traffic is made true in the same pass, so an abort takes effect at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from controlplane.domain.base import EngineId, RolloutId, ServiceName
from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.engines.fleet import Engine, EngineState
from controlplane.domain.errors import FleetuneError
from controlplane.domain.event import Event
from controlplane.domain.models import RegisteredModel
from controlplane.domain.operations.spot import Reclaim
from controlplane.domain.rollouts.analysis import Analysis
from controlplane.domain.rollouts.rollout import Rollout, RolloutState
from controlplane.domain.rollouts.rollout_events import events_between
from controlplane.domain.rollouts.rollout_policy import advance
from controlplane.domain.serving import Service
from controlplane.ports import Clock
from controlplane.ports.fleet import Fleet
from controlplane.ports.gateways import FlightView, GatewayNews, JudgedFeed, RecordFeed, ScoreFeed, TrafficRouter
from controlplane.ports.metrics import PressureView
from controlplane.ports.store import Store, Versioned
from controlplane.services.ab_tests.watch import AbWatcher
from controlplane.services.controller.budget import PassBudget
from controlplane.services.controller.claims import ClaimWatch
from controlplane.services.controller.gateway_news import GatewayNewsKeeper
from controlplane.services.controller.jobs import apply_finished, fire_due, reap_shadows, reap_trials
from controlplane.services.fleet.autoscale import Autoscaler
from controlplane.services.fleet.engines import EngineKeeper, Trouble, drain_limit_s
from controlplane.services.fleet.loaded import read_loaded
from controlplane.services.fleet.reclaims import read_reclaims
from controlplane.services.fleet.resting import read_asleep, read_resting, turns_of, write_resting
from controlplane.services.fleet.routing import TableKeeper
from controlplane.services.fleet.serving import roll_out_described
from controlplane.services.fleet.versions import VersionFinder
from controlplane.services.fleet.world import World, by_service, service_of
from controlplane.services.models import follow_aliases, note_promotions
from controlplane.services.operations.drift import CreateStudy, DriftWatcher
from controlplane.services.operations.failures import FAILED
from controlplane.services.operations.savings import SavingsMeter
from controlplane.services.rollouts.facts import FactFinder
from controlplane.services.rollouts.looks import LookBook
from controlplane.services.rollouts.manage import active_rollout, promoted
from controlplane.services.rollouts.outcomes import note_outcomes
from controlplane.services.rollouts.shares import active_ab_test
from controlplane.telemetry.tracing import span

ACTOR = "controller"


class Controller:
    """Holds the ports. One controller per store; `run_pass` every second or so."""

    def __init__(  # noqa: PLR0913 - the ports, each by name
        self,
        *,
        store: Store,
        fleet: Fleet,
        router: TrafficRouter,
        records: RecordFeed,
        clock: Clock,
        create_study: CreateStudy,
        monotonic: Callable[[], float] = time.monotonic,
        flights: FlightView | None = None,
        news: GatewayNews | None = None,
        scores: ScoreFeed | None = None,
        judged: JudgedFeed | None = None,
        pressures: PressureView | None = None,
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._clock = clock
        self._create_study = create_study
        self._versions = VersionFinder(store)
        self._tables = TableKeeper(store=store, router=router)
        self._keeper = EngineKeeper(store=store, fleet=fleet, may_stop=lambda: self._tables.may_stop(clock()))
        self._ab_tests = AbWatcher(store=store, records=records, scores=scores, judged=judged)
        self._finder = FactFinder(store=store, records=records, flights=flights, pressures=pressures)
        self._looks = LookBook(store)
        self._gateway_news = GatewayNewsKeeper(store=store, news=news, monotonic=monotonic)
        self._scaler = (
            None if flights is None else Autoscaler(store=store, fleet=fleet, records=records, flights=flights)
        )
        self._savings = SavingsMeter(store)
        self._drift = DriftWatcher(store=store, records=records, create_study=create_study)
        self._monotonic = monotonic
        self.is_awaited = False  # somebody waits for what the last pass decided: the next one may come at once
        self._claims = ClaimWatch(monotonic)
        self._told: set[str] = set()
        self._poolless: set[ServiceName] = set()
        self._noted: set[RolloutId] = set()
        self._aliased: set[RolloutId] = set()

    def run_pass(self) -> Sequence[str]:
        """Do one pass, traced; returns what could not be done, one message each: the next pass tries again.

        Raises Unavailable when the store or the fleet cannot be asked at all: nothing was changed then.
        """
        with span("controller.pass"):
            return self._pass()

    def _pass(self) -> Sequence[str]:
        now, budget, self.is_awaited = self._clock(), PassBudget(self._monotonic), False
        with budget.part("looking at the engines"):
            engines = self._fleet.list()
        with budget.part("telling the gateways"):
            worlds = self._push(engines, now)
        problems = [] if self._tables.problem is None else [self._tables.problem]
        self._tell_failures(engines, now)
        for world in worlds:
            with budget.part(f"service {world.service.name}"):
                problems += self._tried(lambda w=world: self._reconcile(w, engines, now))  # type: ignore[misc]
        with budget.part("other duties"):
            problems += self._other_duties(worlds, engines, now)
        return [*problems, *filter(None, [budget.overrun()])]

    def _other_duties(self, worlds: Sequence[World], engines: Sequence[Engine], now: datetime) -> Sequence[str]:
        duties: Sequence[Callable[[], None]] = (
            lambda: self._send_strangers_away(worlds, engines),
            lambda: reap_trials(self._store, self._fleet, engines, claims=self._claims),
            lambda: reap_shadows(self._store, self._fleet, engines, now=now),
            lambda: fire_due(self._store, create_study=self._create_study, now=now),
            lambda: apply_finished(self._store, now=now),
            lambda: note_outcomes(self._store, noted=self._noted, now=now),
            lambda: self._gateway_news.keep(now),
            lambda: self._drift.watch(now),
            lambda: self._savings.keep(worlds, now),
            lambda: self._finder.forget_others(worlds),
            lambda: note_promotions(self._store, noted=self._aliased, now=now),
            lambda: follow_aliases(self._store, now=now),
        )
        return [problem for duty in duties for problem in self._tried(duty)]

    def _tried(self, act: Callable[[], Sequence[str] | None]) -> Sequence[str]:
        """One service's trouble must not stop the others."""
        try:
            return act() or ()
        except FleetuneError as error:
            return (str(error),)

    def _world(
        self,
        saved: Versioned[Service],
        mine: Sequence[Engine],
        models: Sequence[RegisteredModel],
        reclaimed: Mapping[EngineId, Reclaim],
        now: datetime,
    ) -> World:
        name = saved.value.name
        active, testing = active_rollout(self._store, name), active_ab_test(self._store, name)
        loaded = read_loaded(self._store, name).engines if saved.value.adapters else {}
        split = [saved.value.stable, *([] if active is None else [active.value.canary])]
        split += [] if testing is None else [arm.revision for arm in testing.value.arms]
        versions = self._versions.find(saved.value, split, models)
        asleep = self._asleep(saved.value)
        return World(
            at=now,
            saved=saved,
            active=active,
            engines=mine,
            testing=testing,
            loaded=loaded,
            versions=versions,
            asleep=asleep,
            turns=turns_of(self._store, saved.value),
            reclaimed=reclaimed,
        )

    def _asleep(self, service: Service) -> frozenset[EngineId]:
        """Return the engines that may be asleep. A service that keeps none warm, nor did, is not asked about again."""
        name, keeps = service.name, service.spec.autoscale.keeps_warm > 0 or service.spec.shares is not None
        if not keeps and name in self._poolless:
            return frozenset()
        asleep = read_asleep(self._store, name)
        if keeps or asleep or read_resting(self._store, name):
            self._poolless.discard(name)
        else:
            self._poolless.add(name)
        return asleep

    def _reconcile(self, world: World, engines: Sequence[Engine], now: datetime) -> Sequence[str]:
        troubles: list[Trouble] = []
        problems = self._tried(lambda: troubles.extend(self._keeper.make_true(world, now)))
        problems = [*problems, *self._tried(lambda: self._rest(world, now))]
        if world.active is not None:  # whatever is wrong with the fleet: a bad canary must lose its traffic
            decided, analysis = self._think(world, world.active, troubles, now)
            weights = self._tables.weights(decided.service, decided.canary)
            if decided.weight_percent != world.active.value.weight_percent:
                # With the engines as seen at the start: looking again may take as long as a hung engine lets it.
                self._push(engines, now)
            problems = [*problems, *self._tried(lambda: self._looks.keep(decided, analysis, weights, now=now))]
        problems = [*problems, *self._tried(lambda: self._test(world, engines, troubles, now))]
        problems = [*problems, *self._tried(lambda: self._scale(world, now))]
        self._tried(lambda: self._roll_out_described(world, now))
        self._point_to_active(world, now)
        return [*problems, *(trouble.reason for trouble in troubles)]

    def _test(self, world: World, engines: Sequence[Engine], troubles: Sequence[Trouble], now: datetime) -> None:
        if world.testing is None:
            return
        before = world.testing.value
        after = self._ab_tests.step(world, world.testing, troubles, unrouted=self._tables.problem, now=now)
        if after.state is not before.state:
            self._push(engines, now)

    def _rest(self, world: World, now: datetime) -> None:
        """Let engines of the warm pool rest once no gateway sends them anything; none that is to serve again."""
        resting = world.resting
        if world.service.name in self._poolless:
            return
        if not self._tables.may_stop(now):
            resting &= read_resting(self._store, world.service.name)
        write_resting(self._store, world.service.name, resting)

    def _scale(self, world: World, now: datetime) -> None:
        """After the rollout was thought about: what it saved just now is newer than this world, so it waits a pass."""
        if self._scaler is not None:
            self.is_awaited |= self._scaler.step(world, now)

    def _think(
        self, world: World, active: Versioned[Rollout], troubles: Sequence[Trouble], now: datetime
    ) -> tuple[Rollout, Analysis | None]:
        facts = self._finder.facts(world, troubles, unrouted=self._tables.problem, now=now)
        before = active.value
        after = advance(before, facts, now)
        if after == before:
            return before, facts.analysis
        told = {"rollout_id": after.rollout_id, "state": after.state.value, "weight_percent": after.weight_percent}
        with span("rollout.step", apart=True, service=world.service.name, **told):
            if after.state is RolloutState.PROMOTED:
                self._make_stable(world, after, now)
            events = events_between(before, after, actor=ACTOR, now=now)
            self._store.save_rollout(after, active.version, events=events)
        return after, facts.analysis

    def _make_stable(self, world: World, rollout: Rollout, now: datetime) -> None:
        """Before the rollout is saved as promoted: a crash in between leaves PROMOTING, which comes here again."""
        service, version = world.saved
        changed = promoted(service, rollout, now)
        if changed is not service:
            self._store.save_service(changed, version)

    def _roll_out_described(self, world: World, now: datetime) -> None:
        if world.service.described is not None:
            roll_out_described(self._store, self._store.get_service(world.service.name), actor=ACTOR, now=now)

    def _push(self, engines: Sequence[Engine], now: datetime) -> Sequence[World]:
        models = [row.value for row in self._store.list_models()]
        reclaimed = read_reclaims(self._store)
        of = by_service(engines)
        worlds = [
            self._world(saved, of.get(saved.value.name, ()), models, reclaimed, now)
            for saved in self._store.list_services()
        ]
        self._tables.push(worlds, now)
        return worlds

    def _point_to_active(self, world: World, now: datetime) -> None:
        """Keep the service's pointer to its rollout: for readers only, the rollouts themselves decide."""
        if world.active is None and world.service.rollout is None and world.service.described is None:
            return  # nor does the store say otherwise: one that starts just now is pointed to in the next pass
        service, version = self._store.get_service(world.service.name)
        active = active_rollout(self._store, service.name)
        pointer = None if active is None else active.value.rollout_id
        if service.rollout != pointer:
            self._store.save_service(service.evolve(rollout=pointer, updated_at=now), version)

    def _send_strangers_away(self, worlds: Sequence[World], engines: Sequence[Engine]) -> None:
        """Engines of services nobody knows any more serve nobody."""
        known = {world.service.name for world in worlds}
        for engine in engines:
            service = service_of(engine)
            if service is None or service in known:
                continue
            if engine.state.is_over:
                self._fleet.forget(engine.spec.engine_id)
            else:
                self._keeper.send_away(engine, drain_s=drain_limit_s(GatewayOptions()))

    def _tell_failures(self, engines: Sequence[Engine], now: datetime) -> None:
        """Once per engine and controller life; a restarted controller may say it again."""
        self._told &= {engine.spec.engine_id for engine in engines}
        for engine in engines:
            service, name = service_of(engine), engine.spec.engine_id
            if engine.state is not EngineState.FAILED or service is None or name in self._told:
                continue
            self._told.add(name)
            reason, subject = f"{engine.failure}: {engine.failure_detail}", f"engine/{name}"
            self._store.add_event(
                Event(at=now, actor=ACTOR, action=FAILED, subject=subject, service=service, reason=reason)
            )
