"""The arms a canary is judged on are alike: cold caches are left out, and a control may be as young as the canary."""

from __future__ import annotations

from controlplane.domain.base import RevisionId
from controlplane.domain.rollouts.analysis import Analysis
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.rollouts.rollout_options import RolloutOptions, StepSpec
from tests.integration.controller.site import Site

S = RolloutState
STEPS = (StepSpec(weight_percent=20, min_s=0, max_s=4000, load_rps=0), StepSpec(weight_percent=100))


def progressing(**options: object) -> Site:
    site = Site()
    site.serving(rollout=RolloutOptions(steps=STEPS).evolve(**options))
    site.roll_out()
    site.passes_until(S.PROGRESSING)
    return site


def answered(site: Site, revision: RevisionId | None, engine_id: str, *, ttft_ms: float, times: int = 1) -> None:
    for _ in range(times):
        site.records.add(site.record(revision, engine_id, ttft_ms=ttft_ms, e2e_ms=ttft_ms + 10))


def analysis(site: Site) -> Analysis:
    found = site.rollout.steps[-1].analysis
    assert found is not None
    return found


def test_the_first_answers_of_each_canary_replica_say_nothing_of_misses() -> None:
    site = progressing(warm_up_requests=10)
    for engine in ("one", "two"):
        answered(site, site.rollout.canary, engine, ttft_ms=900, times=10)
        answered(site, site.rollout.canary, engine, ttft_ms=90, times=15)
    answered(site, site.rollout.stable, "old", ttft_ms=90, times=200)
    site.passes(1)
    canary = analysis(site).canary
    assert (canary.requests, canary.warming, canary.told, canary.slo_misses) == (50, 20, 30, 0)
    answered(site, site.rollout.canary, "one", ttft_ms=900)
    site.passes(1)
    assert analysis(site).canary.slo_misses == 1


def test_a_replica_that_answered_before_the_step_is_warm_in_it_after_a_restart_too() -> None:
    site = progressing(warm_up_requests=10)
    answered(site, site.rollout.canary, "one", ttft_ms=90, times=10)
    site.clock.go_on(5)
    begun = site.rollout.steps[-1].evolve(started_at=site.clock())
    rollout, version = site.store.get_rollout(site.rollout.rollout_id)
    site.store.save_rollout(rollout.evolve(steps=(begun,)), version, events=())
    for _ in range(2):
        site.restart()
        answered(site, site.rollout.canary, "one", ttft_ms=900)
        site.passes(1)
    assert (analysis(site).canary.warming, analysis(site).canary.slo_misses) == (0, 2)


def test_what_gateways_chose_before_they_had_the_step_s_table_is_no_share_of_it() -> None:
    """The controller dies between beginning a step and telling the gateways of it: for seconds the old table holds."""
    site = progressing()
    step, canary, stable = site.rollout.steps[-1].weight_percent, site.rollout.canary, site.rollout.stable
    answered(site, stable, "old", ttft_ms=90, times=60)
    site.passes(1)
    assert "the arms cannot be compared" in analysis(site).reason
    site = progressing()
    answered(site, stable, "old", ttft_ms=90, times=60)
    site.records.records = [record.evolve(weight_percent=100) for record in site.records.records]
    for revision, weight, times in ((canary, step, step), (stable, 100 - step, 100 - step)):
        answered(site, revision, "new", ttft_ms=90, times=times)
        site.records.records[-times:] = [r.evolve(weight_percent=weight) for r in site.records.records[-times:]]
    site.passes(1)
    assert "the arms cannot be compared" not in analysis(site).reason
    assert (analysis(site).canary.asked, analysis(site).canary.requests) == (step, step)


def test_errors_of_a_cold_replica_count() -> None:
    site = progressing(warm_up_requests=10)
    answered(site, site.rollout.canary, "one", ttft_ms=90)
    broken = site.records.records[-1].evolve(status=502, error="upstream_5xx")
    site.records.add(broken)
    site.passes(1)
    assert (analysis(site).canary.errors, analysis(site).canary.slo_misses) == (1, 1)


def test_a_control_replica_is_started_with_the_canary_compared_with_and_sent_away_at_the_end() -> None:
    site = Site()
    site.serving(rollout=RolloutOptions(steps=STEPS, control_replica=True, warm_up_requests=0))
    before = {engine.spec.engine_id for engine in site.engines()}
    site.clock.go_on(60)
    site.roll_out(replicas=1)
    site.passes_until(S.PROGRESSING)
    stable = site.rollout.stable
    (control,) = {engine.spec.engine_id for engine in site.engines(stable)} - before
    assert site.rollout.control == (control,)
    answered(site, stable, next(iter(before)), ttft_ms=900, times=60)
    answered(site, stable, control, ttft_ms=90, times=20)
    answered(site, site.rollout.canary, "new", ttft_ms=90, times=20)
    site.passes(1)
    found = analysis(site)
    assert found.stable is not None
    assert (found.stable.requests, found.stable.slo_misses) == (20, 0), "only those of the replica as old"
    assert "as old as the canary's" in found.reason
    assert found.verdict != "error", "the share is held to all of stable"
    answered(site, site.rollout.canary, "new", ttft_ms=900, times=300)
    answered(site, stable, control, ttft_ms=90, times=1200)
    site.passes_until(S.ABORTED)
    site.passes(3)
    assert len(site.engines(stable)) == len(before)
