"""The controller looks again at what it once found in order, and does not do for ever what cannot work."""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.fleet import Engine, EngineState
from controlplane.domain.studies.study import STUDY_LEASE_S
from controlplane.services.fleet.engines import drain_limit_s
from controlplane.services.fleet.serving import stop_service
from tests.builders_serving import CHAT, a_revision, a_service, a_study
from tests.fakes.fleet import HUNG_S, SILENT_S, FakeFleet
from tests.integration.controller.site import Site

REFUSED = EngineConfig(flags={"no-such-flag": 1})


def backends(site: Site) -> set[str]:
    return {each.engine_id for route in site.table.services[0].revisions for each in route.backends}


def actions(site: Site) -> list[str]:
    return [event.action for event in reversed(site.store.list_events())]


def test_a_replica_that_hangs_gets_no_traffic_and_is_replaced_when_it_does_not_come_back() -> None:
    site = Site()
    site.serving(initial_replicas=3)
    hung = site.fleet.list()[0].spec.engine_id
    site.fleet.hang(hung)
    site.passes(int(SILENT_S) + 2)
    assert backends(site) == {engine.spec.engine_id for engine in site.engines()} - {hung}
    assert len(site.engines()) == 3  # it may come back: nobody took its place yet
    site.passes(int(HUNG_S))
    assert hung not in backends(site)
    assert len(backends(site)) == 3
    assert "engine.failed" in actions(site)


def test_a_replica_that_wakes_up_gets_traffic_again() -> None:
    site = Site()
    site.serving(initial_replicas=2)
    every = backends(site)
    sleeper = site.fleet.list()[0].spec.engine_id
    site.fleet.hang(sleeper)
    site.passes(int(SILENT_S) + 2)
    assert backends(site) == every - {sleeper}
    site.fleet.wake(sleeper)
    site.passes(2)
    assert backends(site) == every


def test_flags_that_were_refused_are_not_tried_for_ever_and_an_event_says_so_once() -> None:
    site = Site()
    revision = a_revision(REFUSED)
    site.store.add_revision(revision)
    site.store.save_service(a_service(stable=revision.revision_id, stable_replicas=1), 0)
    site.passes(300)
    assert site.store.next_number(f"engine/{CHAT}/{revision.revision_id}") == 2  # one engine was ever started
    told = [event for event in site.store.list_events() if event.action == "revision.given_up"]
    assert len(told) == 1
    assert "refused its flags" in told[0].reason
    stop_service(site.store, CHAT, stopped=True, actor="ops", now=site.clock())
    site.passes(3)
    stop_service(site.store, CHAT, stopped=False, actor="ops", now=site.clock())
    site.passes(3)
    assert site.store.next_number(f"engine/{CHAT}/{revision.revision_id}") == 4  # tried once more


def test_engines_that_fail_for_another_reason_are_started_again_later_each_time_and_it_is_said() -> None:
    site = Site()
    site.serving()
    for _ in range(60):
        for engine in site.engines():
            site.fleet.crash(engine.spec.engine_id)
        site.passes(1)
    site.passes(60)
    waiting = [event.reason for event in site.store.list_events() if event.action == "revision.backing_off"]
    assert len(waiting) == len(set(waiting)) >= 2
    assert site.engines()[0].state is EngineState.READY


def test_an_engine_that_fails_after_a_long_start_is_not_started_again_at_once() -> None:
    site = Site()
    site.serving()
    for _ in range(2):
        site.clock.go_on(600)  # longer than any back-off, were it counted from the start
        site.fleet.crash(site.engines()[0].spec.engine_id)
        site.passes(1)
    assert not site.engines()
    site.passes(10)
    assert site.engines()[0].state is EngineState.READY


def test_a_drained_engine_may_take_as_long_as_the_gateway_waits_for_an_answer() -> None:
    options = GatewayOptions(first_token_timeout_s=700, stall_timeout_s=200, response_timeout_s=800)
    assert drain_limit_s(options) == 900
    assert drain_limit_s(options.evolve(response_timeout_s=1800)) == 1800


def test_a_set_clock_stops_no_trial() -> None:
    site = Site()
    site.serving()
    site.store.save_study(a_study(), 0)
    claimed = site.store.claim_study("w1", now=site.clock(), lease_s=STUDY_LEASE_S)
    assert claimed is not None
    engine = site.trial_engine(claimed.value.study_id)
    site.passes(2)
    for step in (35, -90, 7200):
        site.clock.step(step)
        site.passes(1)
        site.store.heartbeat(claimed.value.study_id, "w1", now=site.clock())
        site.passes(1)
        assert site.fleet.observe(engine.spec.engine_id).state is EngineState.READY


class SlowFleet(FakeFleet):
    """Takes a while to look at its engines."""

    def list(self) -> Sequence[Engine]:
        self.clock.go_on(6.3)
        return super().list()


def test_a_pass_over_its_budget_says_by_how_much_and_why() -> None:
    site = Site()
    assert site.controller.run_pass() == []
    slow = SlowFleet(gpus=1, clock=site.clock)
    site.restart(fleet=slow)
    (said,) = site.controller.run_pass()
    assert "took 6.3 s, over its budget of 2 s: looking at the engines 6.3 s" in said
