"""What gateways are told for their queues: how many requests a replica takes, and whether it heeds priorities."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.queue_options import QueueOptions
from controlplane.domain.engines.drivers import driver_of
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.ports.store import Versioned
from controlplane.services.fleet.limits import MeasuredLimits
from controlplane.services.fleet.world import World, route
from tests.builders_serving import NOW, a_revision, a_spec, a_study, a_trial, after
from tests.fakes.store import FakeStore
from tests.unit.domain.test_replica_capacity import TEN, a_level
from tests.unit.fleet.test_reconcile_world import STABLE, a_world


def queueing(world: World, **options: object) -> World:
    """The same world, whose service queues."""
    queue = QueueOptions.model_validate({"enabled": True, **options})
    service = world.service.evolve(spec=a_spec(gateway=GatewayOptions(queue=queue)))
    return replace(world, saved=Versioned(service, 1))


@pytest.mark.parametrize(("declared", "told"), [({"concurrency_limit": 40}, 40), ({}, 12)])
def test_a_declared_limit_goes_before_a_measured_one(declared: dict[str, int], told: int) -> None:
    (revision,) = route(queueing(a_world(), **declared), {STABLE: 12}).revisions
    assert revision.concurrency_limit == told


def test_without_a_queue_nothing_is_told() -> None:
    (revision,) = route(a_world(), {STABLE: 12}).revisions
    assert revision.concurrency_limit is None


@pytest.mark.parametrize(
    ("flags", "heeds"),
    [({}, False), ({"scheduling-policy": "priority"}, True), ({"scheduling_policy": "fcfs"}, False)],
)
def test_engines_that_schedule_by_priority_are_named(flags: dict[str, str], heeds: bool) -> None:
    world = a_world()
    config = EngineConfig.model_validate({"flags": flags})
    engines = [each.evolve(spec=each.spec.evolve(config=config)) for each in world.engines]
    (revision,) = route(replace(world, engines=engines)).revisions
    assert [each.by_priority for each in revision.backends] == [heeds]


@pytest.mark.parametrize("kind", EngineKind)
def test_engines_that_keep_prefixes_apart_by_a_salt_are_named_and_no_others(kind: EngineKind) -> None:
    """Others would refuse a field they do not know, or read it and share nevertheless."""
    world, mapping = a_world(), driver_of(EngineKind.COMMAND) if kind is EngineKind.COMMAND else None
    engines = [each.evolve(spec=each.spec.evolve(kind=kind, mapping=mapping)) for each in world.engines]
    (revision,) = route(replace(world, engines=engines)).revisions
    assert {each.by_salt for each in revision.backends} == {kind in (EngineKind.VLLM, EngineKind.EMULATOR)}


def test_what_studies_measured_is_looked_up_once_a_minute_and_only_where_it_is_asked_for() -> None:
    revision, store = a_revision(), FakeStore()
    store.add_revision(revision)
    limits, world = MeasuredLimits(store), a_world(serves=revision.revision_id)
    assert limits.of(world, NOW) == {}
    assert limits.of(queueing(world, concurrency_limit=3), NOW) == {}
    assert limits.of(queueing(world), NOW) == {}  # nobody measured it
    store.save_study(a_study(), 0)
    store.save_trial(a_trial(config=revision.config, capacity=TEN, levels=(a_level(10),)), 0)
    assert limits.of(queueing(world), after(59)) == {}
    assert limits.of(queueing(world), after(61)) == {revision.revision_id: 37}


def test_a_revision_that_the_store_does_not_know_has_no_limit() -> None:
    assert MeasuredLimits(FakeStore()).of(queueing(a_world()), NOW) == {}
