"""Replicas are started with the budget that their revision was named with, whoever starts them and however often."""

from __future__ import annotations

from controlplane.domain.rollouts.rollout import RolloutState
from tests.builders_serving import a_study, a_trial
from tests.integration.controller.site import BETTER, Site

BUSY = 400


def budgets(site: Site, revision: str | None) -> set[float | None]:
    return {engine.spec.start_budget_s for engine in site.engines(revision)}


def test_a_canary_that_trials_started_has_a_budget_and_keeps_it_whatever_is_measured_after() -> None:
    site = Site()
    first = site.serving().stable
    site.store.save_study(a_study(), 0)
    site.store.save_trial(a_trial(config=BETTER, startup_s=120), 0)
    site.roll_out()
    site.passes_until(RolloutState.PROGRESSING)
    canary = site.rollout.canary
    assert (budgets(site, first), budgets(site, canary)) == ({None}, {360.0})
    site.store.save_trial(a_trial(number=1, config=BETTER, startup_s=200), 0)
    site.passes_until(RolloutState.PROMOTED, requests=BUSY)
    for engine in site.engines(canary)[:1]:
        site.fleet.crash(engine.spec.engine_id)
    site.restart()
    site.passes(5, requests=BUSY)
    assert len(site.engines(canary)) == 2
    assert budgets(site, canary) == {360.0}
