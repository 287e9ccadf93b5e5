"""kill -9 of the pass that follows MLflow before and after every call that changes something, and a new one then."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from controlplane.domain.models import STABLE
from controlplane.domain.rollouts.rollout import RolloutState
from tests.builders_serving import CHAT
from tests.fakes.killing import Killed, Killer, Moment
from tests.integration.controller.mlflow_site import NAME, NEW, OLD, REQUESTS, MlflowSite, on_fake

NEVER = 0
MOST_LOOKS = 20


def lived(killer: Killer, *, bad: bool) -> MlflowSite:
    """Move the alias and live through what follows until MLflow was told, whoever dies on the way."""
    site = on_fake()
    site.serving(OLD, NEW)
    site.restart(store=killer.wrap(site.site.store), catalogue=killer.wrap(site.catalogue))
    site.catalogue.move_alias(NAME, "candidate", "2")
    for _ in range(MOST_LOOKS):
        look(site)
        if site.said("model.told"):
            break
        site.site.passes(8, requests=REQUESTS)
        if bad and site.site.store.list_rollouts(CHAT):
            site.site.slow.add(site.site.rollout.canary)
    look(site)
    return site


def look(site: MlflowSite) -> None:
    try:
        site.look()
    except Killed:
        site.restart()


def changes(*, bad: bool) -> Sequence[int]:
    """Return the numbers of the calls that change something when nobody is killed."""
    killer = Killer(at=NEVER, moment=Moment.BEFORE)
    lived(killer, bad=bad)
    assert 2 < len(killer.changes) < killer.calls
    return killer.changes


def told_once(site: MlflowSite) -> None:
    """Whatever died: each version is registered once, there is one rollout, and one word about its end."""
    assert [each.origin for each in site.model.versions] == ["1", "2"]
    assert len(site.site.store.list_rollouts(CHAT)) == 1
    assert len(site.said("model.told")) == 1
    assert site.model.origin is not None
    assert site.model.origin.told == {CHAT: site.site.rollout.rollout_id}


@pytest.mark.slow
@pytest.mark.parametrize("moment", Moment)
def test_killed_between_any_two_calls_a_promotion_still_moves_the_alias(moment: Moment) -> None:
    for at in changes(bad=False):
        site = lived(Killer(at=at, moment=moment), bad=False)
        assert site.site.rollout.state is RolloutState.PROMOTED, f"killed {moment} call {at}"
        assert site.aliases == {"candidate": "2", STABLE: "2"}, f"killed {moment} call {at}"
        assert (site.tag(2) or "").startswith("promoted by ")
        assert site.model.aliases[STABLE].version == 2
        told_once(site)


@pytest.mark.slow
@pytest.mark.parametrize("moment", Moment)
def test_killed_between_any_two_calls_a_refused_version_still_has_its_tag_and_no_alias_moves(moment: Moment) -> None:
    for at in changes(bad=True):
        site = lived(Killer(at=at, moment=moment), bad=True)
        assert site.site.rollout.state is RolloutState.ABORTED, f"killed {moment} call {at}"
        assert site.aliases == {"candidate": "2", STABLE: "1"}, f"killed {moment} call {at}"
        assert (site.tag(2) or "").startswith("rolled back by ")
        assert site.model.aliases[STABLE].version == 1
        told_once(site)
