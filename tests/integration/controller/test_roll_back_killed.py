"""kill -9 on the way back to an earlier revision whose replicas are gone, and of whoever asks for it."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from controlplane.domain.errors import Conflict
from controlplane.domain.models import CANDIDATE
from controlplane.domain.rollouts.rollout import Rollout, RolloutState
from controlplane.ports.store import Store
from controlplane.services.models import NewVersion, last_good, move_alias, register_version
from controlplane.services.rollouts.manage import halt_rollout, roll_back
from tests.builders_serving import CHAT
from tests.fakes.killing import Killed, Killer, Moment
from tests.integration.controller.site import Site
from tests.integration.controller.test_crashes import (
    NEVER,
    REQUESTS,
    assert_nothing_is_left_over,
    changes_of,
    to_the_end,
)
from tests.integration.controller.test_following import NEW, OLD, following, moved, stable_version


def served_anew() -> Site:
    """A service whose followed alias was moved to a new version, which was promoted; nothing of the old one runs."""
    site = following()
    moved(site, Killer(at=NEVER, moment=Moment.BEFORE))
    register_version(site.store, "llama", NewVersion("llama-70b"), actor="ann", now=site.clock())
    return site


def asked_back(site: Site, killer: Killer, *, at_once: bool) -> Rollout:
    """Ask for the version before and go on to the end, with a controller that dies once."""
    revision = last_good(site.store, CHAT).revision_id
    rollout = roll_back(site.store, service=CHAT, revision=revision, at_once=at_once, actor="ann", now=site.clock())
    return to_the_end(site, killer, rollout)


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("moment", Moment)
def test_a_controller_killed_at_any_change_goes_back_once_and_takes_the_alias_along(
    moment: Moment, at_once: bool
) -> None:
    story = partial(asked_back, at_once=at_once)
    for at in changes_of(story, served_anew)[::2]:  # after one of them is before the next
        site = served_anew()
        rollout = story(site, Killer(at=at, moment=moment))
        assert rollout.state is RolloutState.PROMOTED, f"killed {moment} call {at}: {rollout.reason}"
        assert site.store.get_revision(rollout.canary).model.path == OLD
        assert_nothing_is_left_over(site, rollout.canary, replicas=1)
        assert stable_version(site) == 1
        assert len(site.store.list_rollouts(CHAT)) == 2, "what is followed is not tried again"
        by = Counter(event.actor for event in site.store.list_events(subject="model/llama"))
        assert by["controller"] == 2, "stable moved there and back"


def halted() -> Site:
    """A service whose promotion was stopped midway: whoever goes back has two things to save."""
    site = served_anew()
    move_alias(site.store, "llama", CANDIDATE, "3", seen=2, actor="ann", now=site.clock())
    site.passes(1)
    site.passes_until(RolloutState.PROMOTING, requests=REQUESTS)
    halt_rollout(site.store, site.rollout.rollout_id, actor="ann", now=site.clock())
    site.passes(1)
    return site


def ask(site: Site, store: Store) -> Rollout:
    revision = last_good(store, CHAT).revision_id
    return roll_back(store, service=CHAT, revision=revision, actor="ann", now=site.clock())


def test_from_a_halted_promotion_the_way_back_leads_to_what_served_before_it_and_no_further() -> None:
    site = halted()
    assert last_good(site.store, CHAT).model.path == NEW
    rollout = to_the_end(site, None, ask(site, site.store))
    assert rollout.state is RolloutState.PROMOTED
    assert_nothing_is_left_over(site, rollout.canary, replicas=1)
    assert stable_version(site) == 2


@pytest.mark.parametrize("moment", Moment)
def test_who_is_killed_while_asking_asks_again_and_there_is_one_way_back(moment: Moment) -> None:
    unharmed = Killer(at=NEVER, moment=moment)
    site = halted()
    ask(site, unharmed.wrap(site.store))
    for at in unharmed.changes:
        site = halted()
        with pytest.raises(Killed):
            ask(site, Killer(at=at, moment=moment).wrap(site.store))
        again = refusal(ask, site)
        assert again is None or "has a rollout under way" in again, f"killed {moment} call {at}"
        rollout = to_the_end(site, None, site.rollout)
        assert rollout.state is RolloutState.PROMOTED, f"killed {moment} call {at}: {rollout.reason}"
        assert site.store.get_revision(rollout.canary).model.path == NEW, f"killed {moment} call {at}"
        assert len(site.store.list_rollouts(CHAT)) == 3
        assert_nothing_is_left_over(site, rollout.canary, replicas=1)


@pytest.mark.parametrize("moment", Moment)
def test_who_is_killed_while_moving_an_alias_moves_it_once(moment: Moment) -> None:
    for at in range(1, 4):
        site = following()
        killer = Killer(at=at, moment=moment)
        with contextlib.suppress(Killed):
            move(site, killer.wrap(site.store))
        again = refusal(move, site)
        assert again is None or "was moved to version 2 by ann" in again
        assert site.store.get_model("llama").value.aliases[CANDIDATE].version == 2
        said = [each.reason for each in site.store.list_events(subject="model/llama")]
        assert said.count("candidate: 1 → 2") == 1, f"killed {moment} call {at}"
        assert to_the_end(site, None, first_rollout(site)).state is RolloutState.PROMOTED
        assert len(site.store.list_rollouts(CHAT)) == 1


def move(site: Site, store: Store) -> object:
    return move_alias(store, "llama", CANDIDATE, "2", seen=1, actor="ann", now=site.clock())


def refusal(act: Callable[[Site, Store], object], site: Site) -> str | None:
    """Do it; return what was said against it."""
    try:
        act(site, site.store)
    except Conflict as told:
        return str(told)
    return None


def first_rollout(site: Site) -> Rollout:
    site.passes(1)
    return site.rollout
