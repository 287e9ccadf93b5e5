"""What the autoscaler of a service remembers, and the limits that everybody who changes replicas keeps to."""

from __future__ import annotations

import math
from datetime import datetime

from pydantic import AwareDatetime, Field

from controlplane.domain.ab_tests.ab_test import AbTest
from controlplane.domain.base import RevisionId, ServiceName, Value
from controlplane.domain.errors import Conflict, InvalidInput
from controlplane.domain.event import Event
from controlplane.domain.operations.autoscale import ScaleDecision, WantedAt
from controlplane.domain.operations.forecast import Arrivals
from controlplane.domain.operations.replica_capacity import Estimate, Live, ReplicaCapacity, declared
from controlplane.domain.revision import Revision
from controlplane.domain.rollouts.rollout import Rollout, RolloutState
from controlplane.domain.serving import Service
from controlplane.ports.fleet import FleetView
from controlplane.ports.store import Store, Versioned
from controlplane.services.capacities import measured_capacity
from controlplane.services.kept import read_kept
from controlplane.services.rollouts.manage import active_rollout
from controlplane.services.rollouts.shares import active_ab_test

GROWING = frozenset({RolloutState.PENDING, RolloutState.PROGRESSING, RolloutState.PAUSED})
"""States of a rollout in which the canary's fleet may still grow."""


class ScaleMemory(Value):
    """What the autoscaler of one service must not forget when the controller dies."""

    past: tuple[WantedAt, ...] = ()
    arrivals: Arrivals = Arrivals()
    decision: ScaleDecision | None = None
    capacity: ReplicaCapacity | None = Field(default=None, description="As it was read last.")
    live: Live = Live()
    live_of: RevisionId | None = None
    live_since: AwareDatetime | None = None
    told_held: bool = False
    asked_at: AwareDatetime | None = Field(default=None, description="When a request was there, or may have been.")
    forecast_error: float | None = Field(default=None, description="Mean error over the last day, as a share.")
    saved_at: AwareDatetime | None = None


def read_memory(store: Store, name: ServiceName) -> Versioned[ScaleMemory]:
    """Return what is remembered of a service; nothing at version 0, or when this version cannot read it."""
    return read_kept(store, memory_setting(name), ScaleMemory.model_validate_json, ScaleMemory())


def memory_setting(name: ServiceName) -> str:
    """Return the name of the store's setting that holds the memory."""
    return f"autoscale/{name}"


def nudge(store: Store, name: ServiceName, *, actor: str, reason: str, now: datetime) -> int:
    """Want one replica more of stable, for as long as the autoscaler's window where one runs; return how many.

    Raises NotFound, InvalidInput beyond the GPUs, max_replicas or max_usd_per_hour, Conflict while a promotion replaces
    replicas, StaleVersion.
    """
    service, version = store.get_service(name)
    replicas = service.stable_replicas + 1
    if service.stable is None or service.stopped or service.stable_replicas < 1:
        raise Conflict(f"{name} cannot get a replica more", why="it does not serve")
    active, testing = active_rollout(store, name), active_ab_test(store, name)
    _, hold = interlock(None if active is None else active.value, None if testing is None else testing.value)
    if hold:
        raise Conflict(f"{name} cannot get a replica more now", why=hold)
    most, why = min(ceilings(service, store.get_revision(service.stable).config.gpus_per_replica))
    if replicas > most:
        raise InvalidInput(f"{name} cannot get a replica more", why=why, allowed=f"{most} replicas")
    memory, at = read_memory(store, name)
    past = (*memory.past, WantedAt(at=now, replicas=replicas))
    store.write_setting(memory_setting(name), memory.evolve(past=past).model_dump_json(), at)
    event = Event(at=now, actor=actor, action="service.scaled", subject=f"service/{name}", service=name, reason=reason)
    store.save_service(service.evolve(stable_replicas=replicas, updated_at=now), version, events=[event])
    return replicas


def ceilings(service: Service, gpus: int) -> list[tuple[int, str]]:
    """Return how many replicas of `gpus` GPUs each there may be, by each of a service's limits, and their names."""
    spec = service.spec
    limits = [(spec.gpus.count // gpus, f"the service has {spec.gpus.count} GPUs")]
    if spec.autoscale.max_replicas is not None:
        limits.append((spec.autoscale.max_replicas, "max_replicas"))
    price, ceiling = spec.gpus.price_usd_per_gpu_hour * gpus, spec.slos.max_usd_per_hour
    if ceiling is not None and price > 0:
        limits.append((math.floor(ceiling / price + 1e-9), f"max_usd_per_hour is {ceiling:g}"))
    return limits


def free_gpus(fleet: FleetView, service: Service) -> int:
    """Return the GPUs that replicas of a service may still get. Raises Unavailable."""
    return fleet.free_gpus(spot=False if service.spec.spot is None else None)


def known_capacity(store: Store, service: Service, revision: Revision) -> ReplicaCapacity | None:
    """Return what a replica of a revision sustains: as declared, else as studies measured it; None: nobody knows."""
    options = service.spec.autoscale
    found = measured_capacity(store, revision)
    if options.capacity_rps is not None:
        said = declared(options.capacity_rps, startup_s=options.startup_s).evolve(revision=revision.revision_id)
        return said if found is None or options.startup_s is not None else said.evolve(startup_s=found.startup_s)
    if found is not None and options.startup_s is not None:
        startup = Estimate(value=options.startup_s, low=options.startup_s, high=options.startup_s)
        return found.evolve(startup_s=startup)
    return found


def interlock(rollout: Rollout | None, test: AbTest | None) -> tuple[str, str]:
    """Return why no replica may go, and why nothing may change: a canary is judged, or a promotion replaces all.

    In an A/B test nothing may: an arm that grew would not be the one that was asked about.
    """
    if test is not None:
        return "", f"A/B test {test.test_id} is {test.state}"
    if rollout is None:
        return "", ""
    if rollout.state in GROWING:
        return f"rollout {rollout.rollout_id} is judged", ""
    return "", f"rollout {rollout.rollout_id} is {rollout.state}"
