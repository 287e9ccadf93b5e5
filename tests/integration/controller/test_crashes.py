"""kill -9 of the controller before and after every call that changes something, and a new controller afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from controlplane.domain.rollouts.rollout import ROLLOUT_FINAL, Rollout, RolloutState
from tests.builders_serving import CHAT, an_applicable_study, some_options
from tests.fakes.killing import Killed, Killer, Moment
from tests.integration.controller.site import Site

REQUESTS = 80  # a second: with the wide margins below one second decides a step, for the stories are told often
NEVER = 0


def serving_site() -> Site:
    site = Site()
    site.serving(rollout=some_options(50, 100, miss_ratio_margin=0.4, error_ratio_margin=0.4))
    return site


def under(killer: Killer, site: Site) -> None:
    """Give the site a controller that the killer watches."""
    site.restart(
        store=killer.wrap(site.store),
        fleet=killer.wrap(site.fleet),
        router=killer.wrap(site.router),
        records=killer.wrap(site.records),
    )


def promote(site: Site, killer: Killer) -> Rollout:
    rollout = site.roll_out(replicas=2)
    return to_the_end(site, killer, rollout)


def abort(site: Site, killer: Killer) -> Rollout:
    rollout = site.roll_out(replicas=2)
    site.slow.add(rollout.canary)
    return to_the_end(site, killer, rollout)


def apply_a_study(site: Site, killer: Killer) -> Rollout:
    site.store.save_study(an_applicable_study(), 0)
    under(killer, site)
    while not site.store.list_rollouts(CHAT):
        one_pass(site)
    return to_the_end(site, None, site.rollout)


def to_the_end(site: Site, killer: Killer | None, rollout: Rollout) -> Rollout:
    """Run passes until the rollout is over and a few more; a killed controller is replaced by one that lives."""
    if killer is not None:
        under(killer, site)
    for _ in range(60):
        one_pass(site)
        if site.store.get_rollout(rollout.rollout_id).value.state in ROLLOUT_FINAL:
            break
    for _ in range(3):
        one_pass(site)
    return site.store.get_rollout(rollout.rollout_id).value


def one_pass(site: Site) -> None:
    try:
        site.passes(1, requests=REQUESTS)
    except Killed:
        site.restart()


def changes_of(story: Callable[[Site, Killer], Rollout], site: Callable[[], Site]) -> Sequence[int]:
    """Return the numbers of the calls by which the story changes something when nobody is killed."""
    killer = Killer(at=NEVER, moment=Moment.BEFORE)
    story(site(), killer)
    assert 10 < len(killer.changes) < killer.calls
    return killer.changes


def test_a_killer_that_never_kills_sees_a_story_to_its_end() -> None:
    killer = Killer(at=NEVER, moment=Moment.BEFORE)
    assert promote(serving_site(), killer).state is RolloutState.PROMOTED
    assert killer.calls > 100


def assert_nothing_is_left_over(site: Site, stable: str | None, replicas: int) -> None:
    assert site.service.stable == stable
    assert site.service.rollout is None
    assert site.weights == {stable: 100}
    assert [str(engine.spec.owner) for engine in site.fleet.list()] == [f"rollout/chat/{stable}"] * replicas
    assert site.fleet.free_gpus() == site.gpus - replicas


@pytest.mark.slow
@pytest.mark.parametrize("moment", Moment)
def test_a_controller_killed_at_any_change_still_promotes_and_leaves_no_engine_behind(moment: Moment) -> None:
    for at in changes_of(promote, serving_site):
        site = serving_site()
        rollout = promote(site, Killer(at=at, moment=moment))
        assert rollout.state is RolloutState.PROMOTED, f"killed {moment} call {at}: {rollout.reason}"
        assert_nothing_is_left_over(site, rollout.canary, replicas=2)
        assert_audited_once(site, rollout)


@pytest.mark.slow
@pytest.mark.parametrize("moment", Moment)
def test_a_controller_killed_at_any_change_still_aborts_and_leaves_no_engine_behind(moment: Moment) -> None:
    for at in changes_of(abort, serving_site):
        site = serving_site()
        rollout = abort(site, Killer(at=at, moment=moment))
        assert rollout.state is RolloutState.ABORTED, f"killed {moment} call {at}: {rollout.reason}"
        assert_nothing_is_left_over(site, rollout.stable, replicas=1)
        assert_audited_once(site, rollout)


@pytest.mark.slow
@pytest.mark.parametrize("moment", Moment)
def test_a_controller_killed_while_it_applies_a_study_applies_it_exactly_once(moment: Moment) -> None:
    for at in changes_of(apply_a_study, serving_site):
        site = serving_site()
        rollout = apply_a_study(site, Killer(at=at, moment=moment))
        assert rollout.state is RolloutState.PROMOTED
        assert len(site.store.list_rollouts(CHAT)) == 1
        assert not site.store.studies_to_apply()


def assert_audited_once(site: Site, rollout: Rollout) -> None:
    """Every transition stands in the audit, and stands there once."""
    said = Counter(event.action for event in site.store.list_events(subject=f"rollout/{rollout.rollout_id}"))
    assert said["rollout.pending"] == said[f"rollout.{rollout.state.value}"] == 1
    assert said["rollout.step"] == len(rollout.steps)
