"""A service that follows an alias of the registry: the whole way from a moved alias to `stable`, killed anywhere."""

from __future__ import annotations

from collections import Counter

import pytest

from controlplane.domain.models import CANDIDATE, STABLE
from controlplane.domain.rollouts.rollout import Rollout, RolloutState
from controlplane.services.models import NewVersion, last_good, move_alias, register_version
from controlplane.services.rollouts.manage import roll_back
from tests.builders_serving import CHAT, a_spec, some_options
from tests.fakes.killing import Killer, Moment
from tests.integration.controller.site import Site
from tests.integration.controller.test_crashes import NEVER, REQUESTS, changes_of, one_pass, to_the_end, under

OLD, NEW = a_spec().model.path, "llama-1b"


def following() -> Site:
    site = Site()
    for source in (OLD, NEW):
        register_version(site.store, "llama", NewVersion(source), actor="ann", now=site.clock())
    move_alias(site.store, "llama", STABLE, "1", seen=None, actor="ann", now=site.clock())
    move_alias(site.store, "llama", CANDIDATE, "1", seen=None, actor="ann", now=site.clock())
    options = some_options(50, 100, miss_ratio_margin=0.4, error_ratio_margin=0.4)
    site.serving(rollout=options, follows="llama@candidate")
    return site


def moved(site: Site, killer: Killer) -> Rollout:
    """Move the alias, let a controller find it, and go on to the end of the rollout it starts."""
    move_alias(site.store, "llama", CANDIDATE, "2", seen=1, actor="ann", now=site.clock())
    under(killer, site)
    while not site.store.list_rollouts(CHAT):
        one_pass(site)
    return to_the_end(site, None, site.rollout)


def stable_version(site: Site) -> int:
    return site.store.get_model("llama").value.aliases[STABLE].version


@pytest.mark.parametrize("moment", Moment)
def test_a_controller_killed_at_any_change_still_starts_one_canary_and_moves_stable_once(moment: Moment) -> None:
    for at in changes_of(moved, following)[::2]:  # after one of them is before the next
        site = following()
        rollout = moved(site, Killer(at=at, moment=moment))
        assert rollout.state is RolloutState.PROMOTED, f"killed {moment} call {at}: {rollout.reason}"
        assert len(site.store.list_rollouts(CHAT)) == 1
        assert site.store.get_revision(rollout.canary).model.path == NEW
        assert stable_version(site) == 2
        by = Counter(event.actor for event in site.store.list_events(subject="model/llama"))
        assert by["controller"] == 1


def test_a_version_that_is_rolled_back_leaves_stable_where_it_is_and_is_not_tried_again() -> None:
    site = following()
    move_alias(site.store, "llama", CANDIDATE, "2", seen=1, actor="ann", now=site.clock())
    site.passes(1)
    site.slow.add(site.rollout.canary)
    site.passes_until(RolloutState.ABORTED, requests=REQUESTS)
    site.passes(5)
    assert len(site.store.list_rollouts(CHAT)) == 1
    assert stable_version(site) == 1


def test_clients_may_ask_for_what_is_served_by_version_and_alias() -> None:
    site = following()
    site.passes(1)
    assert names(site) == {"llama-8b@1", "llama-8b@stable", "llama-8b@candidate"}
    move_alias(site.store, "llama", CANDIDATE, "2", seen=1, actor="ann", now=site.clock())
    site.passes(3)
    assert names(site) == {"llama-8b@1", "llama-8b@stable", "llama-8b@2", "llama-8b@candidate"}
    seen = list[str]()
    while site.rollout.state is not RolloutState.PROMOTED:
        site.passes(1, requests=REQUESTS)
        seen.append(next(each.version for each in site.table.services[0].versions if each.name == "llama-8b@stable"))
    site.passes(3)
    assert seen == sorted(seen)  # never nowhere, and never back
    assert names(site) == {"llama-8b@2", "llama-8b@stable", "llama-8b@candidate"}


def test_who_asks_for_the_canary_by_name_does_not_judge_it() -> None:
    site = following()
    move_alias(site.store, "llama", CANDIDATE, "2", seen=1, actor="ann", now=site.clock())
    site.passes(3)
    engine = site.engines(site.rollout.canary)[0].spec.engine_id
    for _ in range(20):
        for _ in range(50):
            missed = site.record(site.rollout.canary, engine, ttft_ms=900, e2e_ms=950)
            site.records.add(missed.evolve(version="llama-8b@candidate"))
        site.passes(1)
    assert site.rollout.state is RolloutState.PROGRESSING
    analysis = site.rollout.steps[-1].analysis
    assert analysis is None or analysis.canary.requests == 0


def names(site: Site) -> set[str]:
    return {each.name for each in site.table.services[0].versions}


def test_a_roll_back_moves_stable_back() -> None:
    site = following()
    moved(site, Killer(at=NEVER, moment=Moment.BEFORE))
    revision = last_good(site.store, CHAT).revision_id
    rollout = roll_back(site.store, service=CHAT, revision=revision, actor="ann", now=site.clock())
    done = to_the_end(site, None, rollout)
    assert done.state is RolloutState.PROMOTED
    assert site.store.get_revision(done.canary).model.path == OLD
    assert stable_version(site) == 1
