"""A whole A/B test on the controller: engines, shares, an answer, and everything back as it was."""

from __future__ import annotations

import pytest

from controlplane.domain.ab_tests.ab_test import AbOptions, AbState, AbTest
from controlplane.domain.ab_tests.metrics import AbMetric
from controlplane.domain.base import RevisionId
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import Conflict, InvalidInput, NotFound
from controlplane.services.ab_tests.manage import ArmWish, Asked, start_ab_test
from controlplane.services.ab_tests.planned import Expected
from controlplane.services.fleet.serving import scale_service, stop_service
from controlplane.services.models import NewVersion, register_version
from controlplane.services.rollouts.manage import revision_of, roll_back
from controlplane.services.rollouts.shares import stop_ab_test
from tests.builders_serving import CHAT, a_spec
from tests.integration.controller.site import BETTER, Site

MISSES = AbOptions(metric=AbMetric.SLO_MISSES, minimum_effect_percent=5, min_hours=0, guard_points=99)
KNOWN = Expected(baseline=0.05, spread=0.22)


def a_site() -> Site:
    """Chat serves, and a challenger with other flags is known."""
    site = Site()
    site.serving()
    site.store.add_revision(revision_of(a_spec(), BETTER, now=site.clock()))
    return site


def challenger() -> RevisionId:
    return revision_of(a_spec(), BETTER, now=Site().clock()).revision_id


def start(site: Site, *arms: str, options: AbOptions = MISSES, expected: Expected | None = KNOWN) -> AbTest:
    wishes = [ArmWish(what=what, share_percent=int(share)) for what, _, share in (each.partition("=") for each in arms)]
    wishes = wishes or [ArmWish(what="stable", share_percent=60), ArmWish(what=challenger(), share_percent=40)]
    asked = Asked(wishes, options, "which is it?", expected)
    return start_ab_test(site.store, site.records, None, service=CHAT, asked=asked, actor="ann", now=site.clock())


def latest(site: Site) -> AbTest:
    return site.store.list_ab_tests(CHAT)[0].value


def test_traffic_is_split_by_the_shares_until_one_arm_is_better_and_then_is_stables_again() -> None:
    site = a_site()
    site.slow.add(challenger())
    stable = site.service.stable
    made = start(site)
    assert made.plan.users_per_arm > 100
    site.passes(3)
    assert site.weights == {stable: 60, challenger(): 40}
    assert site.table.services[0].split_by == made.test_id
    site.passes(30, requests=20)
    done = latest(site)
    assert (done.state, done.reason) == (AbState.CONCLUDED, "stable is better")
    assert done.analysis is not None
    assert {arm.stops.get("unknown") for arm in done.analysis.arms} != {0}
    site.passes(3)
    assert site.weights == {stable: 100}
    assert site.table.services[0].split_by is None
    assert not site.engines(challenger())
    assert site.service.stable == stable  # an answer changes nothing by itself
    told = [event.action for event in site.store.list_events(subject=f"ab-test/{made.test_id}")]
    assert told == ["ab_test.concluded", "ab_test.running", "ab_test.starting"]


def test_a_controller_that_dies_anywhere_counts_to_the_same_answer() -> None:
    answers = set()
    for crash_every in (1000, 7):
        site = a_site()
        site.slow.add(challenger())
        start(site)
        for second in range(40):
            if second % crash_every == crash_every - 1:
                site.restart()
            site.passes(1, requests=20)
        found = latest(site).analysis
        assert found is not None
        answers.add((latest(site).reason, found.arms[0].users))
    assert len(answers) == 1


def test_records_that_are_gone_after_a_restart_leave_it_undecided() -> None:
    site = a_site()
    start(site)
    site.passes(25, requests=20)
    site.records.records.clear()
    site.restart()
    site.passes(12, requests=1)
    found = latest(site).analysis
    assert found is not None
    assert "records of" in str(found.problem)
    assert (found.winner, found.alike) == (None, False)


def test_nothing_else_changes_the_arms_and_a_roll_back_ends_the_test() -> None:
    site = a_site()
    start(site)
    site.passes(3)
    with pytest.raises(Conflict, match="A/B test chat-ab1 is running"):
        site.roll_out(EngineConfig(flags={"max-num-seqs": 96}))
    with pytest.raises(Conflict, match="A/B test chat-ab1 is running"):
        scale_service(site.store, CHAT, replicas=2, actor="ann", now=site.clock())
    with pytest.raises(Conflict, match="cannot be tested now"):
        start(site)
    roll_back(site.store, service=CHAT, revision=challenger(), actor="ann", now=site.clock())
    assert (latest(site).state, latest(site).reason) == (AbState.STOPPED, "left by a roll back")


def test_a_person_stops_it_and_so_does_a_stopped_service() -> None:
    site = a_site()
    made = start(site)
    site.passes(3)
    stop_ab_test(site.store, made.test_id, actor="ann", now=site.clock())
    site.passes(2)
    assert site.weights == {site.service.stable: 100}
    with pytest.raises(Conflict, match="it is over"):
        stop_ab_test(site.store, made.test_id, actor="ann", now=site.clock())
    start(site)
    stop_service(site.store, CHAT, stopped=True, actor="ann", now=site.clock())
    site.passes(1)
    assert latest(site).reason == "the service was stopped"


def test_a_registered_version_is_an_arm_with_stables_flags() -> None:
    site = a_site()
    register_version(site.store, "llama", NewVersion("/models/b"), actor="ann", now=site.clock())
    made = start(site, "stable=50", "llama@latest=50")
    arm = site.store.get_revision(made.arms[1].revision)
    assert (arm.model.path, made.named(arm.revision_id)) == ("/models/b", "llama@latest")


def test_what_stable_did_lately_plans_a_test() -> None:
    site = a_site()
    for number in range(120):
        (site.slow.add if number % 4 == 0 else site.slow.discard)(site.service.stable)  # type: ignore[arg-type]
        site.traffic(1)
    plan = start(site, expected=None).plan
    assert (plan.from_users, plan.users_per_day) == (120, 120)
    assert plan.baseline == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("arms", "error", "said"),
    [
        (("stable=50", "rev-of-nobody=50"), NotFound, "no revision 'rev-of-nobody'"),
        (("stable=50", "llama@2=50"), NotFound, "no model 'llama'"),
        (("stable=50", "stable=50"), InvalidInput, "two arms are the same"),
        (("stable=50", f"{challenger()}=40"), InvalidInput, "sum to 90 %"),
        ((f"{challenger()}=50", "stable=50"), InvalidInput, "`stable` the first"),
        (("stable=10", f"{challenger()}=90"), InvalidInput, "10 GPUs are needed"),
    ],
)
def test_arms_that_cannot_be_are_refused(arms: tuple[str, ...], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        start(a_site(), *arms)


def test_a_test_that_nobody_can_plan_is_refused_and_says_what_is_missing() -> None:
    with pytest.raises(InvalidInput, match="0 users of stable in the last day, 100 that differ are needed"):
        start(a_site(), expected=None)
    with pytest.raises(InvalidInput, match="5 is no baseline of slo_misses"):
        start(a_site(), expected=Expected(baseline=5, spread=1))
