"""What live traffic said of a recommendation goes back into its study, once."""

from __future__ import annotations

import pytest

from controlplane.cli.tables.report_html import study_page
from controlplane.domain.base import StudyId
from controlplane.domain.rollouts.analysis import Verdict
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.studies.study import LiveOutcome
from controlplane.services.rollouts.manage import start_rollout
from tests.builders_serving import CHAT, a_study, an_applicable_study
from tests.integration.controller.site import BETTER, Site

BUSY = 400
STUDY = a_study().study_id


def _rolled_out(site: Site, study_id: StudyId = STUDY) -> None:
    start_rollout(site.store, service=CHAT, config=BETTER, replicas=2, study_id=study_id, actor="cli", now=site.clock())


def _outcomes(site: Site) -> tuple[LiveOutcome, ...]:
    return site.store.get_study(STUDY).value.outcomes


@pytest.mark.parametrize("slow", [False, True])
def test_the_outcome_of_a_rollout_is_an_observation_of_its_study(slow: bool) -> None:
    site = Site()
    site.serving()
    site.store.save_study(an_applicable_study(STUDY, apply_when_done=False), 0)
    _rolled_out(site)
    if slow:
        site.slow.add(site.rollout.canary)
    site.passes_until(RolloutState.PROMOTED, RolloutState.ABORTED, requests=BUSY)
    site.passes(3)
    (outcome,) = _outcomes(site)
    assert outcome.rollout_id == site.rollout.rollout_id
    assert outcome.promoted is not slow
    assert outcome.is_refuted is slow
    assert outcome.analyses[-1].verdict is (Verdict.FAIL if slow else Verdict.PASS)
    assert outcome.analyses[-1].canary.requests > 0
    page = study_page(site.store.get_study(STUDY).value, [])
    assert ("judged worse" in page, "promoted" in page) == (slow, not slow)
    observed = [e for e in site.store.list_events(subject=f"study/{STUDY}") if e.action == "study.observed"]
    assert len(observed) == 1


def test_a_controller_that_starts_anew_writes_no_outcome_twice() -> None:
    site = Site()
    site.serving()
    site.store.save_study(an_applicable_study(STUDY, apply_when_done=False), 0)
    _rolled_out(site)
    site.passes_until(RolloutState.PROMOTED, requests=BUSY)
    site.passes(2)
    site.restart()
    site.passes(2)
    assert len(_outcomes(site)) == 1


def test_a_rollout_of_no_study_or_a_lost_one_troubles_nobody() -> None:
    site = Site()
    site.serving()
    _rolled_out(site, StudyId("gone-1"))
    site.passes_until(RolloutState.PROMOTED, requests=BUSY)
    site.clock.go_on(1)
    assert list(site.controller.run_pass()) == []
