"""A rollout from registration to its end, on fakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.adapters.store_sql.store import open_store
from controlplane.domain.engines.fleet import EngineState
from controlplane.domain.rollouts.analysis import Verdict
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.rollouts.rollout_options import CeilingPolicy, RolloutOptions, StepSpec
from controlplane.services.rollouts.manage import (
    abort_rollout,
    halt_rollout,
    pause_rollout,
    promote_rollout,
    resume_rollout,
    roll_back,
)
from tests.builders_serving import CHAT, some_options
from tests.integration.controller.site import BETTER, Site

BUSY = 400
"""Requests a second: enough that 5 % of them decide a step in a few passes."""


def test_a_registered_service_gets_its_replicas_and_all_the_traffic() -> None:
    site = Site()
    service = site.serving(initial_replicas=2)
    assert site.weights == {service.stable: 100}
    assert len(site.table.services[0].revisions[0].backends) == 2


def test_a_good_canary_is_promoted_step_by_step_and_stable_goes() -> None:
    site = Site()
    stable = site.serving().stable
    rollout = site.roll_out()
    site.passes_until(RolloutState.PROMOTED, requests=BUSY)
    assert [(s.weight_percent, s.analysis and s.analysis.verdict) for s in site.rollout.steps] == [
        (5, Verdict.PASS),
        (20, Verdict.PASS),
        (100, Verdict.PASS),
    ]
    assert (site.service.stable, site.service.stable_replicas) == (rollout.canary, 2)
    assert site.weights == {rollout.canary: 100}
    assert len(site.engines(rollout.canary)) == 2
    assert not site.engines(stable)
    site.passes(1)
    assert site.service.rollout is None


def test_the_same_story_on_a_real_store(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/store.db")
    site = Site(store=store)
    site.serving(rollout=some_options(50, 100, miss_ratio_margin=0.2, error_ratio_margin=0.2))
    rollout = site.roll_out()
    site.passes_until(RolloutState.PROMOTED, requests=BUSY)
    site.passes(1)
    assert (site.service.stable, site.service.rollout) == (rollout.canary, None)
    store.close()


def test_a_service_without_replicas_takes_the_first_rollout_as_soon_as_it_is_ready() -> None:
    site = Site()
    site.serving(initial_replicas=0)
    rollout = site.roll_out(replicas=2)
    site.passes_until(RolloutState.PROMOTED)
    assert site.weights == {rollout.canary: 100}
    assert not site.rollout.steps


def test_promotion_starts_no_engine_that_ran_already() -> None:
    site = Site()
    site.serving()
    rollout = site.roll_out(replicas=2)
    site.passes_until(RolloutState.PROGRESSING, requests=BUSY)
    first = site.engines(rollout.canary)[0].pid
    site.passes_until(RolloutState.PROMOTED, requests=BUSY)
    assert first in [engine.pid for engine in site.engines(rollout.canary)]
    assert site.fleet.free_gpus() == site.gpus - 2


def test_a_canary_gets_no_traffic_before_it_is_ready() -> None:
    site = Site()
    stable = site.serving().stable
    site.roll_out(BETTER.with_flags({"emulator-startup-s": 20}))
    site.passes(15, requests=BUSY)
    assert site.rollout.state is RolloutState.PENDING
    assert site.weights == {stable: 100}
    assert "0 of 1 canary replicas are ready" in site.rollout.reason


def test_replicas_grow_with_the_weight() -> None:
    site = Site()
    site.serving()
    rollout = site.roll_out(replicas=4)
    seen: dict[int, int] = {}
    while site.rollout.state is not RolloutState.PROMOTED:
        site.passes(1, requests=BUSY)
        seen.setdefault(site.weights.get(rollout.canary, 0), len(site.engines(rollout.canary)))
    assert (seen[5], seen[20], seen[100]) == (1, 1, 4)


def test_a_slow_canary_loses_its_traffic_in_the_pass_of_its_verdict_and_then_its_engines() -> None:
    site = Site()
    stable = site.serving().stable
    rollout = site.roll_out()
    site.slow.add(rollout.canary)
    site.passes_until(RolloutState.ABORTING, requests=BUSY)
    assert site.weights == {stable: 100}
    site.passes_until(RolloutState.ABORTED, requests=BUSY)
    assert not site.engines(rollout.canary)
    assert len(site.engines(stable)) == 1
    assert site.service.stable == stable
    assert "SLO misses +" in site.rollout.reason


def test_a_crashed_canary_is_aborted_by_the_next_pass() -> None:
    site = Site()
    stable = site.serving().stable
    rollout = site.roll_out()
    site.passes_until(RolloutState.PROGRESSING, requests=BUSY)
    site.fleet.crash(site.engines(rollout.canary)[0].spec.engine_id)
    site.passes(1)
    assert site.rollout.state is RolloutState.ABORTING
    assert site.rollout.steps[-1].analysis is not None
    assert site.rollout.steps[-1].analysis.guard == "crash_loop"
    assert site.weights == {stable: 100}


def test_a_canary_that_cannot_start_is_aborted_with_the_engine_s_reason() -> None:
    site = Site()
    site.serving()
    site.roll_out(BETTER.with_flags({"emulator-fault": "out-of-memory"}))
    site.passes_until(RolloutState.ABORTED)
    assert "out_of_memory" in site.rollout.reason


def test_without_gpus_beside_stable_the_rollout_says_so_waits_and_ends_at_its_ceiling() -> None:
    site = Site(gpus=4)
    stable = site.serving(initial_replicas=4, rollout=some_options(capacity_wait_s=20)).stable
    site.roll_out()
    site.passes(5)
    assert site.rollout.state is RolloutState.PENDING
    assert "waits for capacity beside stable" in site.rollout.reason
    site.passes_until(RolloutState.ABORTED)
    assert "no capacity" in site.rollout.reason
    assert len(site.engines(stable)) == 4


def test_unreadable_records_neither_promote_nor_roll_back() -> None:
    site = Site()
    site.serving()
    rollout = site.roll_out()
    site.passes_until(RolloutState.PROGRESSING, requests=BUSY)
    site.records.broken = True
    site.passes(10, requests=BUSY)
    assert site.rollout.steps[-1].analysis is not None
    assert site.rollout.steps[-1].analysis.verdict is Verdict.ERROR
    assert site.weights[rollout.canary] == 5
    site.records.broken = False
    site.passes_until(RolloutState.PROMOTED, requests=BUSY)


def test_without_traffic_the_ceiling_s_declared_policy_decides() -> None:
    site = Site()
    step = StepSpec(weight_percent=100, min_s=0, max_s=10, on_ceiling=CeilingPolicy.ABORT)
    site.serving(rollout=RolloutOptions(steps=(step,)))
    site.roll_out()
    site.passes_until(RolloutState.ABORTED)
    assert "declared policy abort" in site.rollout.reason


def test_without_traffic_a_step_that_would_proceed_waits_for_a_person() -> None:
    site = Site()
    steps = tuple(
        StepSpec(weight_percent=weight, min_s=0, max_s=10, on_ceiling=CeilingPolicy.PROCEED) for weight in (5, 20, 100)
    )
    site.serving(rollout=RolloutOptions(steps=steps))
    rollout = site.roll_out()
    site.passes_until(RolloutState.PAUSED)
    assert "0 of 50 requests are too few to proceed on" in site.rollout.reason
    assert site.weights[rollout.canary] == 5


def test_a_load_nobody_has_seen_the_canary_carry_pauses_before_all_of_the_traffic() -> None:
    site = Site()
    step = StepSpec(weight_percent=20, min_s=0, max_s=30, load_rps=1000)
    options = RolloutOptions(steps=(step, StepSpec(weight_percent=100, min_s=0)))
    site.serving(rollout=options)
    rollout = site.roll_out()
    site.passes_until(RolloutState.PAUSED, requests=BUSY)
    assert "load not proven" in site.rollout.reason
    assert "of 1000.00 requests/s a replica" in site.rollout.reason
    assert site.weights[rollout.canary] == 20


def test_declared_so_an_unproven_load_does_not_hold_a_rollout() -> None:
    site = Site()
    step = StepSpec(weight_percent=20, min_s=0, max_s=30, load_rps=1000)
    steps = (step, StepSpec(weight_percent=100, min_s=0))
    site.serving(rollout=RolloutOptions(steps=steps, match_load=False, on_unproven_load=CeilingPolicy.PROCEED))
    site.roll_out()
    site.passes_until(RolloutState.PROMOTED, requests=BUSY)


def test_a_paused_rollout_keeps_its_weight_until_it_is_resumed() -> None:
    site = Site()
    site.serving()
    rollout = site.roll_out()
    site.passes_until(RolloutState.PROGRESSING)
    pause_rollout(site.store, rollout.rollout_id, actor="ops", now=site.clock())
    site.passes(10, requests=BUSY)
    assert site.weights[rollout.canary] == 5
    resume_rollout(site.store, rollout.rollout_id, actor="ops", now=site.clock())
    site.passes_until(RolloutState.PROMOTED, requests=BUSY)


def test_a_person_s_abort_returns_the_traffic_with_the_next_pass() -> None:
    site = Site()
    stable = site.serving().stable
    rollout = site.roll_out()
    site.passes_until(RolloutState.PROGRESSING)
    abort_rollout(site.store, rollout.rollout_id, actor="ops", reason="wrong hour", now=site.clock())
    site.passes(1)
    assert site.weights == {stable: 100}
    site.passes_until(RolloutState.ABORTED)
    assert site.rollout.reason == "wrong hour"


def test_promoted_by_hand_the_canary_gets_everything_only_when_all_its_replicas_are_ready() -> None:
    site = Site()
    site.serving()
    rollout = site.roll_out(BETTER.with_flags({"emulator-startup-s": 5}), replicas=3)
    site.passes_until(RolloutState.PROGRESSING)
    promote_rollout(site.store, rollout.rollout_id, actor="ops", now=site.clock())
    site.passes(3)
    assert site.weights[rollout.canary] == 5
    site.passes_until(RolloutState.PROMOTED)
    assert site.weights == {rollout.canary: 100}
    assert len(site.engines(rollout.canary)) == 3


def test_a_crash_during_promotion_halts_and_stops_nothing_more() -> None:
    site = Site()
    stable = site.serving().stable
    rollout = site.roll_out(BETTER.with_flags({"emulator-startup-s": 5}), replicas=3)
    site.passes_until(RolloutState.PROGRESSING)
    promote_rollout(site.store, rollout.rollout_id, actor="ops", now=site.clock())
    site.passes(1)
    site.fleet.crash(site.engines(rollout.canary)[0].spec.engine_id)
    site.passes(20)
    assert site.rollout.state is RolloutState.HALTED
    assert len(site.engines(stable)) == 1
    resume_rollout(site.store, rollout.rollout_id, actor="ops", now=site.clock())
    site.passes_until(RolloutState.PROMOTED)


def test_rolling_back_from_a_halted_promotion_reuses_the_engines_that_still_run() -> None:
    site = Site()
    stable = site.serving().stable
    assert stable is not None
    rollout = site.roll_out(BETTER.with_flags({"emulator-startup-s": 5}), replicas=3)
    site.passes_until(RolloutState.PROGRESSING)
    promote_rollout(site.store, rollout.rollout_id, actor="ops", now=site.clock())
    site.passes(1)
    halt_rollout(site.store, rollout.rollout_id, actor="ops", now=site.clock())
    before = [engine.pid for engine in site.engines(stable)]
    roll_back(site.store, service=CHAT, revision=stable, replicas=1, actor="ops", now=site.clock())
    site.passes_until(RolloutState.PROMOTED, requests=BUSY)
    assert [engine.pid for engine in site.engines(stable)] == before
    assert site.service.stable == stable


@pytest.mark.parametrize("failures", [1, 3])
def test_a_crashed_stable_replica_is_replaced_ever_more_slowly(failures: int) -> None:
    site = Site()
    stable = site.serving().stable
    assert stable is not None
    for _ in range(failures):
        site.fleet.crash(site.engines(stable)[0].spec.engine_id)
        site.passes(1)
        while not site.engines(stable):
            site.passes(1)
    site.passes(2)
    assert [engine.state for engine in site.engines(stable)] == [EngineState.READY]
    assert site.weights == {stable: 100}
