"""What the controller knows of one service at one moment, and how its traffic is split by it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from controlplane.domain.ab_tests.ab_test import AbState, AbTest
from controlplane.domain.adapters import ServedAdapter
from controlplane.domain.base import EngineId, RevisionId, ServiceName
from controlplane.domain.door.hold_options import HoldOptions
from controlplane.domain.door.judging import Sampling
from controlplane.domain.door.routing import AdapterPart, AdapterRoute, Backend, RevisionRoute, ServiceRoute
from controlplane.domain.engines.flags import canonical_flag
from controlplane.domain.engines.fleet import Engine, EngineState
from controlplane.domain.operations.spot import Reclaim
from controlplane.domain.operations.turns import Turns
from controlplane.domain.owner import Owner, ReplicaOwner
from controlplane.domain.rollouts.rollout import Rollout, RolloutState
from controlplane.domain.serving import Former, Service
from controlplane.ports.fleet import FleetView
from controlplane.ports.store import Versioned
from controlplane.services.fleet.versions import ServedVersions, version_routes

PRESENT = frozenset({EngineState.STARTING, EngineState.READY, EngineState.DRAINING})
WANTED = frozenset({EngineState.STARTING, EngineState.READY})


@dataclass(frozen=True)
class World:
    """One service, its rollout or A/B test under way and its engines as just observed."""

    at: datetime
    saved: Versioned[Service]
    active: Versioned[Rollout] | None
    engines: Sequence[Engine]
    testing: Versioned[AbTest] | None = None
    loaded: Mapping[EngineId, tuple[str, ...]] = field(default_factory=dict)  # adapters, by engine
    versions: ServedVersions = field(default_factory=ServedVersions)
    asleep: frozenset[EngineId] = frozenset()  # engines that may be
    turns: Turns | None = None  # of the services with which this one shares its GPUs
    reclaimed: Mapping[EngineId, Reclaim] = field(default_factory=dict)  # what they run on is taken back

    @property
    def service(self) -> Service:
        return self.saved.value

    @property
    def rollout(self) -> Rollout | None:
        return None if self.active is None else self.active.value

    @property
    def ab_test(self) -> AbTest | None:
        """The test whose arms are to have engines: none beside a rollout, which always goes first."""
        test = None if self.testing is None or self.active is not None else self.testing.value
        against_stable = test is not None and test.control.revision == self.service.stable
        return test if test is not None and against_stable and not test.is_over else None

    def of(self, revision: RevisionId | None) -> Sequence[Engine]:
        """Engines of one revision, oldest first."""
        mine = [engine for engine in self.engines if revision_served_by(engine) == revision]
        return sorted(mine, key=lambda engine: engine.started_at)

    def ready(self, revision: RevisionId | None) -> Sequence[Engine]:
        """Those that can be given traffic: ready, not hanging, and neither resting nor asleep.

        One that is reclaimed is given none, unless there is no other.
        """
        apart = self.resting | self.asleep
        there = [each for each in self.of(revision) if each.takes_traffic and each.spec.engine_id not in apart]
        staying = [each for each in there if not self.is_reclaimed(each)]
        return staying or [each for each in there if self.reclaimed[each.spec.engine_id].is_let_in(self.at)]

    def is_reclaimed(self, engine: Engine) -> bool:
        return engine.spec.engine_id in self.reclaimed

    def live(self, revision: RevisionId | None) -> Sequence[Engine]:
        """Those that count as replicas: they start or are ready, and stay."""
        return [each for each in self.of(revision) if each.state in WANTED and not self.is_reclaimed(each)]

    def floor(self, replicas: int) -> int:
        """Return how many of so many replicas of a revision are to run on demand at least."""
        options = self.service.spec.spot
        return replicas if options is None else options.floor(replicas)

    @property
    def keeps_warm(self) -> int:
        """How many engines are kept warm: none beside a rollout or A/B test, which need the GPUs and equal arms."""
        is_calm = self.rollout is None and self.ab_test is None and not self.service.stopped
        return self.service.spec.autoscale.keeps_warm if is_calm and self.service.stable else 0

    @property
    def resting(self) -> frozenset[EngineId]:
        """Engines of stable beyond its replicas that are kept without traffic: the sleepers, else the newest.

        Of a service that shares its GPUs all of them, while others have their turn.
        """
        if self.turns is not None:
            apart = () if self.has_turn else self.engines
            return frozenset(each.spec.engine_id for each in apart if each.takes_traffic)
        if not self.keeps_warm:
            return frozenset()
        there = [each for each in self.live(self.service.stable) if each.takes_traffic]
        awake_first = sorted(there, key=lambda each: (each.spec.engine_id in self.asleep, each.started_at))
        return frozenset(each.spec.engine_id for each in awake_first[self.service.stable_replicas :])

    @property
    def former(self) -> Former | None:
        """The revision before stable while its engines are kept for a roll-back; None beside what needs their GPUs.

        A roll-back to it keeps them for as long as it takes.
        """
        kept, rollout = self.service.former, self.rollout
        if kept is None or self.service.stopped or not self.service.stable_replicas or self.ab_test is not None:
            return None
        if rollout is None:
            return kept if self.at < kept.until else None
        return kept if rollout.canary in (kept.revision, self.service.stable) else None

    @property
    def has_turn(self) -> bool:
        """Say whether its engines may be awake: always, where it shares its GPUs with nobody."""
        return self.turns is None or self.turns.has(self.service.name)

    def present(self, revision: RevisionId | None) -> Sequence[Engine]:
        return [engine for engine in self.of(revision) if engine.state in PRESENT]


def service_of(engine: Engine) -> ServiceName | None:
    """Return the service an engine serves, None for a trial's or a shadow."""
    owner = engine.spec.owner
    return owner.service if isinstance(owner, ReplicaOwner) else None


def by_service(engines: Sequence[Engine]) -> Mapping[ServiceName, Sequence[Engine]]:
    """Return the engines of each service that has any."""
    found: dict[ServiceName, list[Engine]] = {}
    for engine in engines:
        if (service := service_of(engine)) is not None:
            found.setdefault(service, []).append(engine)
    return found


def ready_engines(fleet: FleetView, owner: Owner) -> list[Engine]:
    """Return the engines of an owner that can be asked. Raises Unavailable."""
    return [each for each in fleet.list() if each.spec.owner == owner and each.state is EngineState.READY and each.url]


def revision_served_by(engine: Engine) -> RevisionId | None:
    """Return the revision of a serving engine, None for a trial's or a shadow."""
    owner = engine.spec.owner
    return owner.revision if isinstance(owner, ReplicaOwner) else None


def route(world: World, measured: Mapping[RevisionId, int] | None = None) -> ServiceRoute:
    """Return how the service's traffic is split now. A revision without a ready replica gets none if the other has.

    `measured` is how many requests a replica takes at once, for services that queue and do not say so themselves.
    """
    service = world.service
    weights = {} if service.stopped else _weights(world)
    routes = tuple(
        RevisionRoute(
            revision=revision,
            weight_percent=weight,
            backends=_backends(world, revision),
            concurrency_limit=_concurrency_limit(world, revision, measured or {}),
        )
        for revision, weight in weights.items()
        if weight
    )
    return ServiceRoute(
        service=service.name,
        model=service.spec.model.name,
        revisions=routes,
        options=service.spec.gateway,
        adapters=_adapters(world),
        versions=version_routes(service.spec.model.name, world.versions, routes),
        hold=_hold(service),
        split_by=None if (test := _split(world)) is None else test.test_id,
        sampling=_sampling(world),
    )


def _adapters(world: World) -> tuple[AdapterRoute, ...]:
    """Return the adapters that some replica has loaded."""
    found = ((each.name, _parts(world, each)) for each in world.service.adapters)
    return tuple(AdapterRoute(name=name, parts=parts) for name, parts in found if parts)


def _parts(world: World, adapter: ServedAdapter) -> tuple[AdapterPart, ...]:
    """Return an adapter's versions that some replica has; one that none has yet leaves its share to the other."""
    named = [(adapter.loaded_as(number), share) for number, share in adapter.shares]
    there = [(name, share) for name, share in named if _engines_with(world, name)]
    alone = len(there) == 1
    return tuple(
        AdapterPart(loaded_as=name, share_percent=100 if alone else share, engines=_engines_with(world, name))
        for name, share in there
    )


def _engines_with(world: World, name: str) -> tuple[str, ...]:
    there = (each.spec.engine_id for each in world.engines if each.takes_traffic)
    return tuple(sorted(engine for engine in there if name in world.loaded.get(engine, ())))


def _hold(service: Service) -> HoldOptions | None:
    """Return how requests are held while none of the replicas is ready, where that may be on purpose."""
    scale, shares = service.spec.autoscale, service.spec.shares
    if shares is not None and not service.stopped and service.stable_replicas:
        return HoldOptions(wait_s=shares.hold_s, most=shares.most_held)
    if not scale.scales_to_zero or service.stopped:
        return None
    return HoldOptions(wait_s=scale.hold_s, most=scale.most_held)


def _split(world: World) -> AbTest | None:
    """Return the test that splits the traffic now."""
    test = world.ab_test
    return test if test is not None and test.state is AbState.RUNNING and not world.service.stopped else None


def _sampling(world: World) -> Sampling | None:
    """Return which answers gateways keep for the judge that the test began with."""
    test, judge = _split(world), world.service.spec.ab_judge
    if test is None or judge is None or judge.digest != test.judge or not judge.tenants:
        return None
    return Sampling(tenants=judge.tenants, sample_percent=judge.sample_percent, longest_bytes=judge.longest_bytes)


def _weights(world: World) -> Mapping[RevisionId, int]:
    test = _split(world)
    if test is not None:
        return {arm.revision: arm.share_percent for arm in test.arms}
    stable, rollout = world.service.stable, world.rollout
    weight = 0 if rollout is None else _canary_weight(world, rollout)
    canary = {rollout.canary: weight} if rollout is not None else {}
    return {**({stable: 100 - weight} if stable else {}), **canary} if weight < 100 else canary


def _canary_weight(world: World, rollout: Rollout) -> int:
    canary, stable = world.ready(rollout.canary), world.ready(world.service.stable)
    if rollout.canary == world.service.stable:  # promoted in the service already, not yet in the rollout
        return 100
    weight = rollout.weight_percent
    growing = rollout.state in (RolloutState.PROMOTING, RolloutState.HALTED) and len(canary) < rollout.canary_replicas
    if growing and stable:
        weight = rollout.steps[-1].weight_percent if rollout.steps else 0
    if not canary and world.service.stable:
        return 0
    return 100 if weight and canary and not stable else weight


def _backends(world: World, revision: RevisionId) -> tuple[Backend, ...]:
    return tuple(_backend(engine, engine.url) for engine in world.ready(revision) if engine.url is not None)


def _backend(engine: Engine, url: str) -> Backend:
    spec, heeds = engine.spec, {"by_priority": _by_priority(engine), "by_salt": engine.spec.driver.dialect.cache_salt}
    return Backend(engine_id=spec.engine_id, url=url, api_key=spec.api_key, **heeds)


def _by_priority(engine: Engine) -> bool:
    flags = {canonical_flag(name): value for name, value in engine.spec.config.flags.items()}
    return flags.get("scheduling-policy") == "priority"


def _concurrency_limit(world: World, revision: RevisionId, measured: Mapping[RevisionId, int]) -> int | None:
    queue = world.service.spec.gateway.queue
    return (queue.concurrency_limit or measured.get(revision)) if queue.enabled else None


def exits(world: World, revision: RevisionId | None) -> Sequence[Engine]:
    """Return the engines whose end counts against their revision: a taken port, node or GPU is not its fault."""
    failed = (e for e in world.of(revision) if e.state is EngineState.FAILED and not world.is_reclaimed(e))
    return [e for e in failed if not (e.failure and e.failure.is_of_the_world)]
