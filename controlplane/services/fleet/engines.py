"""Make the engines of a service what its saved state wants: start, replace with backoff, drain, stop, forget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from controlplane.domain.base import EngineId, RevisionId
from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.engines.fleet import Engine, EngineState
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.errors import InvalidInput, NotFound, Unavailable
from controlplane.domain.event import Event
from controlplane.domain.launch import engine_spec
from controlplane.domain.owner import ReplicaOwner
from controlplane.domain.words import counted
from controlplane.ports.fleet import Fleet
from controlplane.ports.store import Store
from controlplane.services.fleet.scaling import ceilings
from controlplane.services.fleet.surplus import kept, reclaimed, surplus
from controlplane.services.fleet.wanted import Want, wants
from controlplane.services.fleet.world import World, revision_served_by

SETTLED_S = 60.0
"""A replacement that was ready for so long lets its failed predecessors be forgotten."""
_KEPT_FAILURES = 8
_FIRST_BACKOFF_S = 5.0
_LONGEST_BACKOFF_S = 300.0


class Trouble(NamedTuple):
    """Why replicas of one revision could not be started in this pass."""

    revision: RevisionId
    reason: str
    for_good: bool  # the specification can never run here


class EngineKeeper:
    """Acts on the fleet for one service after the other."""

    def __init__(self, *, store: Store, fleet: Fleet, may_stop: Callable[[], bool]) -> None:
        self._store = store
        self._fleet = fleet
        self._may_stop = may_stop
        self._told: dict[tuple[str, RevisionId], str] = {}

    def make_true(self, world: World, now: datetime) -> Sequence[Trouble]:
        """Start what is missing and send away what is not wanted; returns why something could not be started."""
        wanted = wants(world)
        troubles = [
            trouble
            for revision, want in wanted.items()
            if (trouble := self._start_missing(world, revision, want, now)) is not None
        ]
        for engine in world.engines:
            self._clear(engine, world, now)
        limit_s = drain_limit_s(world.service.spec.gateway)
        is_short = any(not trouble.for_good for trouble in troubles)  # what serves goes before what is kept
        for engine in [*surplus(world, self._fleet.in_flight), *(kept(world) if is_short else ())]:
            self.send_away(engine, drain_s=limit_s)
        for engine in reclaimed(world):
            left_s = world.reclaimed[engine.spec.engine_id].left_s(now)
            self._stop(engine, drain_s=min(limit_s, left_s))  # again each pass: its drain may have begun longer ago
        return troubles

    def send_away(self, engine: Engine, *, drain_s: float) -> None:
        """Drain and stop an engine that no gateway sends requests to any more."""
        if engine.state is not EngineState.DRAINING:
            self._stop(engine, drain_s=drain_s)

    def _stop(self, engine: Engine, *, drain_s: float) -> None:
        if not self._may_stop():
            return
        try:
            self._fleet.stop(engine.spec.engine_id, drain_s=drain_s)
        except NotFound:  # somebody else was faster
            return

    def _start_missing(self, world: World, revision: RevisionId, want: Want, now: datetime) -> Trouble | None:
        live = world.live(revision)
        firm, there = sum(not engine.spec.spot for engine in live), len(live)
        on_demand = max(0, world.floor(want.replicas) - firm)
        missing = max(want.replicas - there, on_demand)
        if missing <= 0 and want.may_start:
            self._start_warm(world, revision, min(want.warm, want.replicas + want.warm - there), now)
        if missing <= 0 or not want.may_start:
            return None
        if (refused := _refused(world.of(revision))) is not None:
            return self._given_up(world, revision, refused, now)
        not_before = _not_before(world, revision)
        if not_before is not None and now < not_before:
            self._tell_waiting(world, revision, not_before, now)
            return None
        try:
            for number in range(missing):
                self._start_one(world, revision, now, spot=number >= on_demand)
        except Unavailable as error:
            return Trouble(revision, str(error), for_good=False)
        except InvalidInput as error:
            return Trouble(revision, str(error), for_good=True)
        return None

    def _start_warm(self, world: World, revision: RevisionId, missing: int, now: datetime) -> None:
        """Start what the warm pool misses, within the service's limits and free GPUs; lacking them is no trouble."""
        if missing <= 0 or _refused(world.of(revision)) is not None:
            return
        not_before, gpus = _not_before(world, revision), self._store.get_revision(revision).config.gpus_per_replica
        if not_before is not None and now < not_before:
            return
        most, _ = min(ceilings(world.service, gpus))
        room = most - len(world.live(revision))
        for _ in range(min(missing, room, self._fleet.free_gpus(spot=False) // gpus)):
            self._start_one(world, revision, now, why="is kept warm")

    def _given_up(self, world: World, revision: RevisionId, refused: Engine, now: datetime) -> Trouble:
        """The same flags would be refused again: nothing is started until the service is stopped and started."""
        reason = f"{revision} is not started again: its engine refused its flags: {refused.failure_detail}"
        self._tell(world, "revision.given_up", revision, f"{reason}; stop and start the service to try again", now)
        return Trouble(revision, reason, for_good=True)

    def _tell_waiting(self, world: World, revision: RevisionId, until: datetime, now: datetime) -> None:
        failed = [engine for engine in world.of(revision) if engine.state is EngineState.FAILED]
        reason = f"{len(failed)} engines of {revision} failed; the next one is started at {until:%H:%M:%S} UTC"
        self._tell(world, "revision.backing_off", revision, reason, now)

    def _tell(self, world: World, action: str, revision: RevisionId, reason: str, now: datetime) -> None:
        """Say it when it is news, once per controller life: a pass comes every half second."""
        if self._told.get((action, revision)) == reason:
            return
        self._told[action, revision] = reason
        name, subject = world.service.name, f"revision/{revision}"
        self._store.add_event(
            Event(at=now, actor="controller", action=action, subject=subject, service=name, reason=reason)
        )

    def _start_one(
        self,
        world: World,
        revision: RevisionId,
        now: datetime,
        *,
        spot: bool = False,
        why: str = "wants one more replica",
    ) -> None:
        """Start an engine, on spot GPUs where it may and such are free, else on demand."""
        wanted, service = self._store.get_revision(revision), world.service
        gpus = wanted.config.gpus_per_replica
        spot = spot and self._fleet.free_gpus(spot=True) >= gpus
        free = self._fleet.free_gpus(spot=spot)
        shares = service.spec.shares
        if free < gpus and shares is None:
            raise Unavailable(f"a replica of {revision} needs {counted(gpus, 'GPU')}", why=f"{free} free")
        number = self._store.next_number(f"engine/{service.name}/{revision}")
        spec = engine_spec(
            EngineId(f"{service.name}-{revision}-{number}"),
            ReplicaOwner(service.name, revision),
            model=wanted.model,
            engine=wanted.engine,
            gpus=service.spec.gpus,
            config=wanted.config,
            shares_gpus=None if shares is None else shares.pool,
            spot=spot,
            start_budget_s=wanted.start_budget_s,
        )
        self._fleet.start(spec)
        self._store.add_event(
            Event(
                at=now,
                actor="controller",
                action="engine.started",
                subject=f"engine/{spec.engine_id}",
                service=service.name,
                reason=f"{revision} {why}{', on spot GPUs' if spot else ''}",
            )
        )

    def _clear(self, engine: Engine, world: World, now: datetime) -> None:
        """Forget what is gone. Failures are remembered while they tell something: they count, and slow restarts."""
        if engine.state is EngineState.STOPPED or (engine.state is EngineState.FAILED and _is_past(engine, world, now)):
            self._fleet.forget(engine.spec.engine_id)


def drain_limit_s(options: GatewayOptions) -> float:
    """Return how long a serving engine may finish what it has begun: as long as the gateway waits for any answer."""
    streams_s = options.first_token_timeout_s + options.stall_timeout_s
    return max(options.response_timeout_s, streams_s)


def _refused(engines: Sequence[Engine]) -> Engine | None:
    """Return the latest engine if it refused its flags: the one failure that starting again cannot mend."""
    latest = max(engines, key=lambda engine: engine.started_at, default=None)
    is_refused = latest is not None and latest.state is EngineState.FAILED
    return latest if is_refused and latest is not None and latest.failure is StartFailure.REFUSED_FLAG else None


def _not_before(world: World, revision: RevisionId) -> datetime | None:
    """The first replacement at once (None), then after 5 s, 10 s, ... from the last failure, not from its start.

    What was taken away is no failure.
    """
    failed = [e for e in world.of(revision) if e.state is EngineState.FAILED and not world.is_reclaimed(e)]
    if len(failed) < 2:
        return None
    wait_s = min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2 ** (len(failed) - 2))
    return max(engine.ended_at or engine.started_at for engine in failed) + timedelta(seconds=wait_s)


def _is_past(engine: Engine, world: World, now: datetime) -> bool:
    revision = revision_served_by(engine)
    if world.is_reclaimed(engine):
        return True
    if world.rollout is not None and world.rollout.canary == revision:
        return world.rollout.replicas_needed == 0  # while a rollout judges the canary, its exits are counted
    if revision not in wants(world):
        return True
    failed = [each for each in world.of(revision) if each.state is EngineState.FAILED]
    settled = any(e.ready_at and (now - e.ready_at).total_seconds() >= SETTLED_S for e in world.ready(revision))
    return settled or engine not in failed[-_KEPT_FAILURES:]
