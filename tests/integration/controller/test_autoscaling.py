"""Replicas follow the offered load through the whole controller, and stay where they are when nobody knows it."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.domain.door.routing import InFlight
from controlplane.domain.engines.fleet import EngineState
from controlplane.domain.errors import Conflict
from controlplane.domain.operations.autoscale_options import AutoscaleOptions
from controlplane.services.fleet.scaling import read_memory
from controlplane.services.fleet.serving import scale_service
from tests.builders_serving import CHAT
from tests.integration.controller.site import Site

WINDOW_S, IN_AFTER_S = 30, 90
ENOUGH = WINDOW_S + 2 * IN_AFTER_S


def scaling(**changes: Any) -> Site:
    """A service on its own, one replica that sustains 2 requests/s, four GPUs."""
    options = {"enabled": True, "capacity_rps": 2.0, "window_s": WINDOW_S, "scale_in_after_s": IN_AFTER_S}
    site = Site()
    site.serving(autoscale=AutoscaleOptions(**(options | changes)))
    return site


def told(site: Site, action: str) -> list[str]:
    return [event.reason for event in site.store.list_events(service=CHAT) if event.action == action]


def test_replicas_come_with_the_load_and_go_by_drain_when_it_has_gone() -> None:
    site = scaling()
    site.passes(WINDOW_S, requests=1)
    assert site.service.stable_replicas == 1
    site.passes(WINDOW_S + 15, requests=5)
    assert site.service.stable_replicas == 3  # 5 / (2 x 0.85)
    assert len(site.engines()) == 3
    assert len(site.table.services[0].revisions[0].backends) == 3
    site.passes(IN_AFTER_S // 2, requests=1)
    assert site.service.stable_replicas == 3
    site.passes(ENOUGH, requests=1)
    assert site.service.stable_replicas == 1
    assert len([each for each in site.engines() if each.state is not EngineState.DRAINING]) == 1
    assert any("were enough" in reason for reason in told(site, "autoscale.scaled"))


def test_what_waits_and_is_not_served_is_load_too() -> None:
    site = scaling()
    stable = site.service.stable
    for second in range(WINDOW_S + 15):  # three a second come, none is finished
        site.router.in_flight = [InFlight(service=CHAT, revision=stable, requests=3 * second)]
        site.passes(1)
    assert site.service.stable_replicas == 2


@pytest.mark.parametrize("lie", ["gateways are down", "records cannot be read", "flights vanish"])
def test_numbers_that_are_missing_or_lie_change_nothing_and_are_told_once(lie: str) -> None:
    site = scaling()
    site.passes(WINDOW_S + 15, requests=5)
    assert site.service.stable_replicas == 3
    for second in range(ENOUGH):
        match lie:
            case "gateways are down":
                site.router.down = {"gw-1"}
            case "records cannot be read":
                site.records.broken = True
            case _:
                site.router.in_flight = [InFlight(service=CHAT, revision=None, requests=max(0, 9000 - 40 * second))]
        site.passes(1)
    assert site.service.stable_replicas >= 3
    assert len(told(site, "autoscale.held")) == 1
    site.router.down, site.records.broken, site.router.in_flight = set(), False, []
    site.passes(ENOUGH, requests=1)
    assert len(told(site, "autoscale.resumed")) == 1


def test_without_a_known_capacity_nothing_is_scaled_and_it_says_what_to_do() -> None:
    site = scaling(capacity_rps=None)
    site.passes(3 * WINDOW_S, requests=5)
    assert site.service.stable_replicas == 1
    [reason] = told(site, "autoscale.held")
    assert "run a study" in reason


def test_a_controller_that_died_goes_on_where_it_was() -> None:
    site = scaling()
    site.passes(WINDOW_S + 15, requests=5)
    site.passes(IN_AFTER_S - 30, requests=1)
    before = read_memory(site.store, CHAT).value.past
    site.restart()
    site.passes(5, requests=1)
    assert read_memory(site.store, CHAT).value.past[: len(before) - 1] == before[: len(before) - 1]
    assert site.service.stable_replicas == 3
    site.passes(ENOUGH, requests=1)
    assert site.service.stable_replicas == 1
    assert not told(site, "autoscale.held")


def test_while_a_rollout_is_under_way_nobody_goes() -> None:
    site = scaling()
    site.passes(WINDOW_S + 15, requests=3)
    assert site.service.stable_replicas == 2
    site.roll_out(replicas=2)
    for _ in range(ENOUGH):
        if site.rollout.finished_at is not None:
            break
        assert site.service.stable_replicas >= 2
        site.passes(1, requests=1)


def test_a_canary_grows_to_what_the_load_will_need_of_it_as_far_as_gpus_are_free() -> None:
    site = scaling()
    site.passes(WINDOW_S, requests=1)
    site.roll_out(replicas=1)
    site.passes(WINDOW_S, requests=5)
    assert site.service.stable_replicas == 3
    assert site.store.list_rollouts(CHAT)[0].value.canary_replicas == 3


def test_a_dry_run_changes_nothing_and_says_each_thing_once() -> None:
    site = scaling(dry_run=True)
    site.passes(2 * WINDOW_S, requests=5)
    assert site.service.stable_replicas == 1
    wanted = told(site, "autoscale.would_scale")
    assert wanted
    assert len(wanted) == len({reason.split(" replicas")[0] for reason in wanted})
    scale_service(site.store, CHAT, replicas=2, actor="ops", now=site.clock())


def test_what_scales_by_itself_is_not_scaled_by_hand_but_may_be_put_to_nothing() -> None:
    site = scaling()
    with pytest.raises(Conflict, match="min_replicas"):
        scale_service(site.store, CHAT, replicas=2, actor="ops", now=site.clock())
    scale_service(site.store, CHAT, replicas=0, actor="ops", now=site.clock())
    site.passes(2 * WINDOW_S, requests=5)
    assert site.service.stable_replicas == 0


def test_no_more_gpus_are_asked_for_than_there_are() -> None:
    site = scaling()
    site.passes(3 * WINDOW_S, requests=40)
    assert site.service.stable_replicas == 4
    assert any("the service has 4 GPUs" in reason for reason in told(site, "autoscale.scaled"))


def test_misses_under_load_lower_what_a_replica_is_believed_to_sustain() -> None:
    site = scaling(max_replicas=1)
    assert site.service.stable is not None
    site.slow.add(site.service.stable)
    site.passes(400, requests=2)
    memory = read_memory(site.store, CHAT).value
    assert memory.live.missed_rps == pytest.approx(2, rel=0.1)
    assert memory.capacity is not None
    assert memory.capacity.rate_rps.value <= 2


def test_whole_bins_are_kept_for_the_forecast() -> None:
    site = scaling()
    site.passes(1000, requests=1)
    arrivals = read_memory(site.store, CHAT).value.arrivals
    assert len(arrivals.rates_rps) in (2, 3)
    assert all(rate == pytest.approx(1, rel=0.05) for rate in arrivals.rates_rps)


ZERO_AFTER_S = 60
IDLE = WINDOW_S + ZERO_AFTER_S + 15


def sleeping(**changes: Any) -> Site:
    """A service that went to zero because nobody asked."""
    site = scaling(min_replicas=0, zero_after_s=ZERO_AFTER_S, **changes)
    site.passes(IDLE)
    return site


def test_where_nobody_asks_nothing_runs_and_requests_are_held() -> None:
    site = sleeping()
    assert site.service.stable_replicas == 0
    assert not [each for each in site.engines() if each.state is not EngineState.DRAINING]
    (route,) = site.table.services
    assert route.hold is not None
    assert "nobody asked" in told(site, "autoscale.scaled")[0]


def test_a_held_request_starts_the_first_replica_at_once() -> None:
    site = sleeping()
    site.router.in_flight = [InFlight(service=CHAT, revision=None, requests=2)]
    site.passes(3)
    assert site.service.stable_replicas == 1
    assert site.table.services[0].revisions[0].backends
    site.router.in_flight = []
    site.passes(IDLE // 2)
    assert site.service.stable_replicas == 1
    site.passes(IDLE)
    assert site.service.stable_replicas == 0


def test_what_is_awaited_asks_for_the_next_pass_at_once_and_nothing_else_does() -> None:
    site = sleeping()
    assert not site.controller.is_awaited
    site.router.in_flight = [InFlight(service=CHAT, revision=None, requests=2)]
    site.controller.run_pass()
    assert site.controller.is_awaited
    site.controller.run_pass()
    assert len(site.engines()) == 1
    assert not site.controller.is_awaited


def test_one_request_now_and_then_keeps_it_up() -> None:
    site = scaling(min_replicas=0, zero_after_s=ZERO_AFTER_S)
    for _ in range(8):
        site.passes(ZERO_AFTER_S // 2)
        site.passes(1, requests=1)
    assert site.service.stable_replicas == 1


@pytest.mark.parametrize("lie", ["gateways are down", "records cannot be read"])
def test_what_nobody_could_watch_is_not_called_idle(lie: str) -> None:
    site = scaling(min_replicas=0, zero_after_s=ZERO_AFTER_S)
    site.router.down = {"gw-1"} if lie == "gateways are down" else set()
    site.records.broken = lie == "records cannot be read"
    site.passes(2 * IDLE)
    assert site.service.stable_replicas == 1


def test_to_zero_needs_no_known_capacity_and_a_new_controller_remembers_who_asked() -> None:
    site = scaling(min_replicas=0, zero_after_s=ZERO_AFTER_S, capacity_rps=None)
    site.passes(IDLE // 2)
    site.restart()
    site.passes(IDLE)
    assert site.service.stable_replicas == 0


def test_what_a_person_scaled_to_nothing_stays_so() -> None:
    site = scaling()
    scale_service(site.store, CHAT, replicas=0, actor="cli", now=site.clock())
    site.router.in_flight = [InFlight(service=CHAT, revision=None, requests=2)]
    site.passes(5)
    assert site.service.stable_replicas == 0
    assert site.table.services[0].hold is None
