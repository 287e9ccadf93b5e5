"""Let the replicas of services follow their offered load: measure, decide, save once. The next pass makes it true."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta

from controlplane.domain.base import ServiceName
from controlplane.domain.engines.fleet import EngineState
from controlplane.domain.errors import Unavailable
from controlplane.domain.event import Event
from controlplane.domain.operations.autoscale import (
    SHORT_S,
    SHORTEST_S,
    Load,
    ScaleDecision,
    ScaleFacts,
    decide,
    offered,
    replicas_needed,
    startup_s,
    to_zero,
)
from controlplane.domain.operations.forecast import BIN_S, bin_of, expected_rps, mean_error, with_bin
from controlplane.domain.operations.replica_capacity import Live, ReplicaCapacity, corrected, seen
from controlplane.domain.serving import Service
from controlplane.ports.fleet import FleetView
from controlplane.ports.gateways import FlightView, RecordFeed
from controlplane.ports.store import Store
from controlplane.services.fleet.offered import LoadMeter
from controlplane.services.fleet.scaling import (
    GROWING,
    ScaleMemory,
    ceilings,
    free_gpus,
    interlock,
    known_capacity,
    memory_setting,
    read_memory,
)
from controlplane.services.fleet.surplus import kept as kept_engines
from controlplane.services.fleet.world import World

ACTOR = "autoscaler"
LOOK_EVERY_S = 5.0
KEEP_EVERY = timedelta(seconds=30)
STARTUP_MARGIN_S = 60.0
LIVE_S = 300.0
LIVE_LASTS = timedelta(days=1)


class Autoscaler:
    """One per controller; `step` once a pass and service."""

    def __init__(self, *, store: Store, fleet: FleetView, records: RecordFeed, flights: FlightView) -> None:
        self._store = store
        self._fleet = fleet
        self._records = records
        self._flights = flights
        self._meters: dict[ServiceName, LoadMeter] = {}
        self._looked: dict[ServiceName, datetime] = {}
        self._began: dict[ServiceName, datetime] = {}
        self._capacities: dict[ServiceName, tuple[datetime, ReplicaCapacity | None]] = {}

    def step(self, world: World, now: datetime) -> bool:
        """Look at one service and change its replicas if that is to be. Raises Unavailable, StaleVersion.

        Returns whether somebody waits for what was changed: the first replica.
        """
        service = world.service
        if not service.spec.autoscale.enabled or service.stopped or service.stable is None:
            self._meters.pop(service.name, None)
            self._began.pop(service.name, None)
            return False
        if service.stable_replicas == 0:
            return self._wake(world, now)
        if not self._is_due(service.name, now):
            return False
        self._looked[service.name] = now
        self._began.setdefault(service.name, now)
        memory, version = read_memory(self._store, service.name)
        load, problem = self._load(world, now)
        memory = self._with_arrivals(service, _with_requests(memory, load, self._meters[service.name], now), now)
        capacity = self._capacity(service, now)
        memory = self._with_live(world, memory, load, capacity, now)
        capacity = None if capacity is None else corrected(capacity, memory.live)
        facts = self._facts(world, memory, load, problem, capacity, now)
        decision, past = decide(service.spec.autoscale, service.spec.tuning.objective, facts, memory.past, now)
        memory = memory.evolve(asked_at=min(memory.asked_at or now, now))  # the clock may have been set back
        decision = to_zero(service.spec.autoscale, decision, facts, memory.asked_at or now, now)
        told = decision.held and (memory.told_held or self._has_looked_long(service, now))
        after = memory.evolve(past=past, decision=decision, capacity=capacity, told_held=told)
        self._save(world, memory, after, version, now)
        if load is not None and not service.spec.autoscale.dry_run:
            self._grow_canary(world, load, now)
        return False

    def _wake(self, world: World, now: datetime) -> bool:
        """Start the first replica where a request is held for it; what a person scaled to nothing stays so."""
        service = world.service
        if not service.spec.autoscale.scales_to_zero:
            return False
        held = sum(each.requests for each in self._flights.flights() if each.service == service.name)
        if held:
            self._scale(world, ScaleDecision(at=now, replicas=1, reason=f"{held} requests wait for the first"), now)
        return held > 0

    def _is_due(self, name: ServiceName, now: datetime) -> bool:
        last = self._looked.get(name)
        return last is None or not timedelta(0) <= now - last < timedelta(seconds=LOOK_EVERY_S)

    def _load(self, world: World, now: datetime) -> tuple[Load | None, str]:
        """Return the load of the window, or of the last seconds where these are certainly higher; else why not."""
        service = world.service
        meter = self._meters.setdefault(service.name, LoadMeter(records=self._records, flights=self._flights))
        ready = len(world.ready(service.stable))
        try:
            meter.look(service.spec, ready=ready, now=now)
            whole = meter.load(service.spec.autoscale.window_s, service.spec)
            short = {SHORT_S: meter.load(SHORT_S, service.spec)}
        except Unavailable as error:
            return None, str(error)
        with suppress(Unavailable):  # a pass was late: so short a while was not watched by itself
            short[SHORTEST_S] = meter.load(SHORTEST_S, service.spec)
        lapse = service.spec.engine.time_lapse
        return offered(whole, {seconds * lapse: load for seconds, load in short.items()}), ""

    def _with_arrivals(self, service: Service, memory: ScaleMemory, now: datetime) -> ScaleMemory:
        """Keep one figure a bin of the forecast, where the whole bin was watched."""
        number = bin_of(now) - 1
        if number < memory.arrivals.end:
            return memory
        try:
            rate_rps = self._meters[service.name].load(BIN_S, service.spec).rate_rps
        except Unavailable:
            return memory
        arrivals = with_bin(memory.arrivals, number, rate_rps)
        return memory.evolve(arrivals=arrivals, forecast_error=mean_error(arrivals, BIN_S))

    def _capacity(self, service: Service, now: datetime) -> ReplicaCapacity | None:
        """Return what a replica of stable sustains by its studies, which are looked through twice a minute."""
        assert service.stable is not None, "only what serves is scaled"
        at, known = self._capacities.get(service.name, (None, None))
        fresh = at is not None and timedelta(0) <= now - at < KEEP_EVERY
        if fresh and known is not None and known.revision == service.stable:
            return known
        found = known_capacity(self._store, service, self._store.get_revision(service.stable))
        self._capacities[service.name] = (now, found)
        return found

    def _with_live(
        self, world: World, memory: ScaleMemory, load: Load | None, capacity: ReplicaCapacity | None, now: datetime
    ) -> ScaleMemory:
        """Learn from the last minutes, where replicas and revision stayed the same; what is a day old is forgotten."""
        stable, meter = world.service.stable, self._meters[world.service.name]
        if memory.live_of != stable or memory.live_since is None or now - memory.live_since > LIVE_LASTS:
            memory = memory.evolve(live=Live(), live_of=stable, live_since=now)
        judged = meter.judged(LIVE_S)
        if load is None or capacity is None or judged is None or world.rollout is not None:
            return memory
        count, missed, replicas = judged
        rate_rps = meter.load(LIVE_S, world.service.spec).rate_rps / replicas
        slos = world.service.spec.slos.latency
        return memory.evolve(
            live=seen(memory.live, capacity, rate_rps=rate_rps, judged=count, missed=missed, slos=slos)
        )

    def _has_looked_long(self, service: Service, now: datetime) -> bool:
        """Say whether a missing load is news: a new controller has to look for a while before it can know any."""
        return now - self._began[service.name] > timedelta(seconds=2 * service.spec.autoscale.window_s)

    def _facts(
        self,
        world: World,
        memory: ScaleMemory,
        load: Load | None,
        problem: str,
        capacity: ReplicaCapacity | None,
        now: datetime,
    ) -> ScaleFacts:
        service, options = world.service, world.service.spec.autoscale
        most, why = self._most(world)
        soon = None
        if options.forecast and load is not None:
            soon = expected_rps(memory.arrivals, now, startup_s(capacity) + STARTUP_MARGIN_S)
        keep, hold = interlock(world.rollout, world.ab_test)
        return ScaleFacts(
            replicas=service.stable_replicas,
            load=load,
            capacity=capacity,
            most=most,
            most_why=why,
            ready=len(world.ready(service.stable)),
            starting_s=_starting_s(world, now),
            time_lapse=service.spec.engine.time_lapse,
            in_flight=self._meters[service.name].in_flight,
            expected_rps=soon,
            problem=problem,
            keep=keep,
            hold=hold,
        )

    def _most(self, world: World) -> tuple[int, str]:
        """Return how many replicas there may be, and what sets the limit."""
        stable = world.service.stable
        assert stable is not None, "only what serves is scaled"
        gpus = self._store.get_revision(stable).config.gpus_per_replica
        reached = max(len(world.present(stable)), world.service.stable_replicas)
        kept = sum(each.spec.gpus for each in kept_engines(world))  # these go where what serves needs them
        free = (reached + (free_gpus(self._fleet, world.service) + kept) // gpus, "no GPU is free")
        limits = [*ceilings(world.service, gpus), free]
        most, why = min(limits)
        return max(1, most), why

    def _save(self, world: World, before: ScaleMemory, after: ScaleMemory, version: int, now: datetime) -> None:
        decision = after.decision
        assert decision is not None, "a step ends with a decision"
        dry = world.service.spec.autoscale.dry_run
        differs = decision.replicas != world.service.stable_replicas
        repeated = before.decision is not None and before.decision.replicas == decision.replicas
        scales, would = differs and not dry, differs and dry and not repeated
        is_news = scales or would or before.told_held != after.told_held
        if not is_news and before.saved_at is not None and timedelta(0) <= now - before.saved_at < KEEP_EVERY:
            return
        # What was decided is kept before it is done: a crash in between decides the same again.
        self._store.write_setting(
            memory_setting(world.service.name), after.evolve(saved_at=now).model_dump_json(), version
        )
        if scales:
            self._scale(world, decision, now)
        elif is_news:
            action = "autoscale.held" if decision.held else "autoscale.would_scale" if would else "autoscale.resumed"
            self._store.add_event(_event(world.service.name, decision, action))

    def _scale(self, world: World, decision: ScaleDecision, now: datetime) -> None:
        service, version = world.saved
        scaled = service.evolve(stable_replicas=decision.replicas, updated_at=now)
        self._store.save_service(scaled, version, events=[_event(service.name, decision, "autoscale.scaled")])

    def _grow_canary(self, world: World, load: Load, now: datetime) -> None:
        """Let the canary's fleet grow to what the load needs of it, so that its promotion does not end in too few.

        As far as GPUs are free: replicas that cannot be started would end the rollout. Never to fewer.
        """
        if world.rollout is None:
            return
        # Read anew: this very pass may have saved what it thought of the rollout.
        rollout, version = self._store.get_rollout(world.rollout.rollout_id)
        if rollout.state not in GROWING:
            return
        canary = self._store.get_revision(rollout.canary)
        capacity = known_capacity(self._store, world.service, canary)
        if capacity is None or capacity.rate_rps.value <= 0:
            return
        spec = world.service.spec
        needed, _ = replicas_needed(load, capacity, spec.autoscale, spec.tuning.objective)
        free = free_gpus(self._fleet, world.service)
        room = len(world.present(rollout.canary)) + free // canary.config.gpus_per_replica
        replicas = min(needed, room)
        if replicas > rollout.canary_replicas:
            self._store.save_rollout(rollout.evolve(canary_replicas=replicas, updated_at=now), version)


def _with_requests(memory: ScaleMemory, load: Load | None, meter: LoadMeter, now: datetime) -> ScaleMemory:
    """Remember when anybody asked last. What was not watched may have been a request."""
    silent = load is not None and load.rate_rps == 0 and not meter.in_flight
    return memory if silent and memory.asked_at is not None else memory.evolve(asked_at=now)


def _starting_s(world: World, now: datetime) -> tuple[float, ...]:
    """Return for how long each engine of stable has been starting."""
    there = (each for each in world.live(world.service.stable) if each.state is EngineState.STARTING)
    return tuple(max(0.0, (now - each.started_at).total_seconds()) for each in there)


def _event(name: ServiceName, decision: ScaleDecision, action: str) -> Event:
    return Event(
        at=decision.at,
        actor=ACTOR,
        action=action,
        subject=f"service/{name}",
        service=name,
        reason=f"{decision.replicas} replicas: {decision.reason}",
    )
