"""What served before is kept for a while: a roll-back starts no engine, and what serves goes before what is kept."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.rollouts.rollout import ROLLOUT_FINAL, Rollout, RolloutState
from controlplane.services.fleet.serving import service_status, stop_service
from controlplane.services.rollouts.manage import abort_rollout, roll_back
from tests.builders_serving import CHAT, some_options
from tests.fakes.killing import Killer, Moment
from tests.integration.controller.site import Site
from tests.integration.controller.test_crashes import changes_of, one_pass, under

BUSY = 80  # a second: below the wide margins one second decides a step
KEEP_S = 600
QUICK = some_options(50, 100, miss_ratio_margin=0.4, error_ratio_margin=0.4)
OTHER = EngineConfig(flags={"max-num-seqs": 32})


def a_site(*, gpus: int = 8, keep_s: float = KEEP_S, **changes: Any) -> Site:
    """A service whose better flags were just promoted over its base flags."""
    site = Site(gpus=gpus)
    site.serving(initial_replicas=2, rollout=QUICK.evolve(keep_former_s=keep_s), **changes)
    site.roll_out()
    site.passes_until(RolloutState.PROMOTED, requests=BUSY)
    return site


def back(site: Site, *, at_once: bool = False) -> None:
    assert site.service.former is not None
    to = site.service.former.revision
    roll_back(site.store, service=CHAT, revision=to, at_once=at_once, actor="cli", now=site.clock())


def routed(site: Site) -> set[str]:
    return {each.engine_id for part in site.table.services[0].revisions for each in part.backends}


def test_the_former_replicas_stay_without_traffic_for_the_time_that_is_declared() -> None:
    site = a_site()
    former = site.rollout.stable
    site.passes(5, requests=10)
    kept = {each.spec.engine_id for each in site.engines(former)}
    assert len(kept) == 2
    assert kept.isdisjoint(routed(site))
    status = service_status(site.store, site.fleet, CHAT, now=site.clock())
    assert status.kept is not None
    assert (status.kept.revision, status.kept.replicas) == (former, 2)
    assert former not in status.desired_replicas
    site.clock.go_on(KEEP_S)
    site.passes(3)
    assert not site.engines(former)
    assert len(site.engines()) == 2
    assert service_status(site.store, site.fleet, CHAT, now=site.clock()).kept is None


def test_nothing_is_kept_unless_it_is_declared() -> None:
    site = a_site(keep_s=0)
    site.passes(3)
    assert site.service.former is None
    assert len(site.engines()) == 2


def test_a_roll_back_at_once_needs_two_passes_and_no_new_engine_and_what_it_left_goes() -> None:
    site = a_site()
    bad, former = site.service.stable, site.rollout.stable
    before = {each.spec.engine_id for each in site.engines(former)}
    back(site, at_once=True)
    site.passes(2)
    assert site.weights == {former: 100}
    assert routed(site) == before
    site.passes_until(RolloutState.PROMOTED)
    site.passes(3)
    assert site.rollout.steps == ()
    assert site.service.stable == former
    assert {each.spec.engine_id for each in site.engines()} == before
    assert not site.engines(bad)


def test_a_judged_roll_back_uses_the_kept_replicas_too() -> None:
    site = a_site()
    former = site.rollout.stable
    before = {each.spec.engine_id for each in site.engines(former)}
    back(site)
    site.clock.go_on(KEEP_S)  # a roll-back that has begun keeps them for as long as it takes
    site.passes_until(RolloutState.PROMOTED, requests=BUSY)
    assert {each.spec.engine_id for each in site.engines(former)} == before


def test_a_roll_back_that_is_aborted_ends_and_leaves_nothing_over() -> None:
    site = a_site()
    better, former = site.service.stable, site.rollout.stable
    back(site)
    site.passes(2)
    abort_rollout(site.store, site.rollout.rollout_id, actor="cli", now=site.clock())
    site.passes_until(RolloutState.ABORTED)
    site.passes(1)
    assert site.weights == {better: 100}
    assert not site.engines(former)


def test_at_once_without_kept_replicas_waits_for_them_and_stable_serves_meanwhile() -> None:
    site = a_site()
    better, former = site.service.stable, site.rollout.stable
    site.clock.go_on(KEEP_S)
    site.passes(3)
    back(site, at_once=True)
    site.clock.go_on(1)
    site.controller.run_pass()
    assert site.weights == {better: 100}
    site.passes_until(RolloutState.PROMOTED)
    assert site.weights == {former: 100}


def test_another_rollout_has_the_gpus_of_what_is_kept() -> None:
    site = a_site(gpus=4)
    former = site.rollout.stable
    site.roll_out(OTHER)
    site.passes(3)
    assert not site.engines(former)
    site.passes_until(RolloutState.PROMOTED, requests=BUSY)


def test_a_replica_that_stable_lacks_has_the_gpus_of_what_is_kept() -> None:
    site = a_site(gpus=4)
    former = site.rollout.stable
    service, version = site.store.get_service(CHAT)
    site.store.save_service(service.evolve(stable_replicas=3), version)
    site.passes(6)
    assert not site.engines(former)
    assert len(routed(site)) == 3


def test_a_crash_of_stable_costs_nothing_that_is_kept_while_gpus_are_free() -> None:
    site = a_site()
    former = site.rollout.stable
    site.fleet.crash(site.engines(site.service.stable)[0].spec.engine_id)
    site.passes(4)
    assert len(site.engines(former)) == 2
    assert len(routed(site)) == 2


def test_what_is_kept_and_dies_is_not_started_again() -> None:
    site = a_site()
    former = site.rollout.stable
    site.fleet.crash(site.engines(former)[0].spec.engine_id)
    site.passes(4)
    assert len(site.engines(former)) == 1


def test_a_stopped_service_keeps_nothing() -> None:
    site = a_site()
    stop_service(site.store, CHAT, stopped=True, actor="cli", now=site.clock())
    site.passes(4)
    assert not site.engines()


@pytest.mark.parametrize("restart_every", [1, 2, 3])
def test_a_controller_that_dies_keeps_and_lets_go_the_same(restart_every: int) -> None:
    site = a_site()
    former = site.rollout.stable
    for _ in range(6):
        site.restart()
        site.passes(restart_every)
    assert len(site.engines(former)) == 2
    site.clock.go_on(KEEP_S)
    site.restart()
    site.passes(3)
    assert not site.engines(former)


def promoted_and_back(site: Site, killer: Killer, *, at_once: bool) -> Rollout:
    """Promote better flags, keep what was before, and go back to it, with a controller that dies once."""
    under(killer, site)
    site.roll_out()
    while site.rollout.state not in ROLLOUT_FINAL:
        one_pass(site)
    former = site.rollout.stable
    assert former is not None
    roll_back(site.store, service=CHAT, revision=former, at_once=at_once, actor="cli", now=site.clock())
    while site.rollout.state not in ROLLOUT_FINAL:
        one_pass(site)
    for _ in range(3):
        one_pass(site)
    return site.rollout


def a_quick_site() -> Site:
    site = Site()
    site.serving(initial_replicas=2, rollout=QUICK.evolve(keep_former_s=KEEP_S))
    return site


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("moment", Moment)
def test_a_controller_killed_at_any_change_goes_back_to_the_very_engines_that_were_kept(
    moment: Moment, at_once: bool
) -> None:
    story = partial(promoted_and_back, at_once=at_once)
    for at in changes_of(story, a_quick_site)[::2]:  # after one of them is before the next
        site = a_quick_site()
        before = {each.spec.engine_id for each in site.engines()}
        rollout = story(site, Killer(at=at, moment=moment))
        assert rollout.state is RolloutState.PROMOTED, f"killed {moment} call {at}: {rollout.reason}"
        assert {each.spec.engine_id for each in site.engines()} == before, f"killed {moment} call {at}"
        assert site.weights == {rollout.canary: 100}
        assert len(site.store.list_rollouts(CHAT)) == 2
