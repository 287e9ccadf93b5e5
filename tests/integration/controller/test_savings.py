"""What a recommendation saves is counted by the controller and shown by the API and the command line."""

from __future__ import annotations

import pytest

from controlplane.domain.base import StudyId
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.studies.capacity import Capacity
from controlplane.domain.studies.study import StudyState
from controlplane.services.operations.savings import read_saved
from controlplane.services.studies.manage import apply_recommendation
from tests.builders_serving import a_recommendation, a_spec, a_study
from tests.integration.controller.site import Site

BUSY = 400


def promoted(site: Site) -> None:
    """Serve what a study recommended: twice the capacity of its baseline."""
    found = a_recommendation()
    baseline = found.evidence.baseline.evolve(capacity=Capacity(rps=3, low_rps=3, high_rps=3))
    winner = found.evidence.winner.evolve(capacity=Capacity(rps=6, low_rps=6, high_rps=6))
    found = found.evolve(evidence=found.evidence.evolve(baseline=baseline, winner=winner))
    site.store.save_study(a_study("st-1", state=StudyState.DONE, recommendation=found), 0)
    apply_recommendation(site.store, StudyId("st-1"), actor="cli", now=site.clock())
    site.passes_until(RolloutState.PROMOTED, requests=BUSY)


def test_a_promoted_recommendation_saves_from_then_on_and_a_restart_forgets_nothing() -> None:
    site = Site()
    site.serving()
    assert read_saved(site.store, site.service) is None
    promoted(site)
    site.passes(200)
    found = read_saved(site.store, site.service)
    assert found is not None
    assert found.study_id == "st-1"
    assert found.saved_usd_per_hour == 2 * 3.0, "two replicas run, four of the baseline would"
    site.restart()
    site.passes(200)
    later = read_saved(site.store, site.service)
    assert later is not None
    assert later.saved_usd > found.saved_usd


def test_replicas_that_are_kept_for_a_roll_back_are_paid_for_as_long_as_they_are() -> None:
    site = Site()
    site.serving(rollout=a_spec().rollout.evolve(keep_former_s=100_000))
    promoted(site)
    site.passes(200)
    found = read_saved(site.store, site.service)
    assert found is not None
    assert found.saved_usd_per_hour == pytest.approx(3.0), (
        "two replicas run and one is kept, four of the baseline would run"
    )


def test_a_revision_that_no_study_recommended_saves_nothing() -> None:
    site = Site()
    site.serving()
    site.roll_out(replicas=1)
    site.passes_until(RolloutState.PROMOTED, requests=BUSY)
    site.passes(200)
    assert read_saved(site.store, site.service) is None
