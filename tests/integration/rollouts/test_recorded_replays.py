"""What is replayed to a canary is what the service's own users asked, and no more than a replica sustains."""

from __future__ import annotations

import json

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.rollouts.analysis import ReplaySource
from controlplane.domain.rollouts.recording import SETTLES
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.rollouts.rollout_options import RolloutOptions, StepSpec
from controlplane.domain.studies.capacity import Capacity
from controlplane.domain.workload import ArrivalProcess, TraceWorkload
from loadtests.send.traces import load_trace
from tests.builders_serving import a_study, a_trial
from tests.integration.rollouts.living_site import BF16, LivingSite

AS_GOOD = BF16.with_flags({"max-num-seqs": 200})
QUICK = RolloutOptions(miss_ratio_margin=0.1, error_ratio_margin=0.05)
NOBODY_THEN_ALL = (StepSpec(weight_percent=0), StepSpec(weight_percent=100))
LENGTHS_AND_TIMES = {"t", "p", "o", "s", "b"}


def sources(site: LivingSite) -> list[ReplaySource | None]:
    """Return what each step that was loaded rests on."""
    loads = [step.analysis.load for step in site.rollout.steps if step.analysis is not None]
    return [load.source for load in loads if load is not None]


def test_where_little_is_recorded_the_declared_workload_is_sent_and_later_steps_replay_users() -> None:
    steps = tuple(StepSpec(weight_percent=each) for each in (0, 20, 100))
    site = LivingSite(users_rps=6, options=QUICK.evolve(steps=steps), seed=21)
    site.go_on(185)
    site.roll_out(AS_GOOD, within_s=120)
    first, last = sources(site)
    assert first is not None
    assert last is not None
    assert (first.recorded, first.workload) == (0, "trace azure-llm-2023/conv")
    assert "of the 1000 that are enough" in first.why
    assert last.recorded >= 1000
    assert site.tester.runs[0].workload == site.spec.workload
    workload = site.tester.runs[-1].workload
    assert isinstance(workload, TraceWorkload)
    assert workload.arrivals.process is ArrivalProcess.TRACE


def test_where_enough_is_recorded_users_are_replayed_and_the_verdict_says_so() -> None:
    site = LivingSite(users_rps=6, options=QUICK.evolve(steps=NOBODY_THEN_ALL), seed=22)
    measured_at(site, AS_GOOD, Capacity(rps=4.0, low_rps=3.5, high_rps=4.4))  # holds nothing back
    site.go_on(280)
    rollout = site.roll_out(AS_GOOD, within_s=150)
    assert all(source is not None and source.recorded >= 1000 for source in sources(site))
    assert rollout.steps[0].analysis is not None
    assert rollout.steps[0].analysis.verdict == "pass"
    assert "recorded requests of users" in rollout.steps[0].analysis.reason
    assert max(run.rate_rps for run in site.tester.runs) > 2.5
    # No send is longer than its recording: an engine would find the prompts in its cache.
    for run in site.tester.runs:
        assert isinstance(run.workload, TraceWorkload)
        assert run.rate_rps * run.duration_s <= len(load_trace(run.workload.trace)) + 1


def test_the_recording_is_of_stables_users_before_the_step_and_holds_no_name_and_no_text() -> None:
    """Of the last minute nothing: of what arrived then the longest answers are still in flight."""
    site = LivingSite(users_rps=6, options=QUICK.evolve(steps=NOBODY_THEN_ALL), seed=23)
    site.go_on(280)
    rollout = site.roll_out(AS_GOOD, within_s=30)
    workload = site.tester.runs[0].workload
    assert isinstance(workload, TraceWorkload)
    with open(workload.trace) as file:
        header, *rows = (json.loads(line) for line in file)
    until = rollout.steps[0].started_at - SETTLES
    asked = [r for r in site.records.records if r.at < until and not r.replayed and r.revision == rollout.stable]
    assert header["requests"] == len(rows) == len(asked)
    assert [row["o"] for row in rows] == [r.output_tokens for r in sorted(asked, key=lambda r: r.at)]
    assert set().union(*rows) <= LENGTHS_AND_TIMES


def test_a_replica_that_was_measured_is_not_loaded_beyond_its_capacity() -> None:
    """It is to prove 3 requests/s; its study says 2, at best 2.2: it waits for a person, and no user saw it."""
    steps = (StepSpec(weight_percent=0, max_s=150), StepSpec(weight_percent=100))
    site = LivingSite(users_rps=6, options=QUICK.evolve(steps=steps), seed=24)
    measured_at(site, AS_GOOD, Capacity(rps=2.0, low_rps=1.8, high_rps=2.2))
    rollout = site.roll_out(AS_GOOD, within_s=300)
    assert rollout.state is RolloutState.PAUSED
    assert "paused before any user: load not proven" in rollout.reason
    assert "replays throttled at 2.20 requests/s a replica: its capacity is 2.00 (1.80 to 2.20)" in rollout.reason
    assert max(run.rate_rps for run in site.tester.runs) <= 2.2
    assert site.users_of(rollout.canary) == 0


def measured_at(site: LivingSite, config: EngineConfig, capacity: Capacity) -> None:
    """Let a study of the site's service have measured a replica with these flags."""
    study = a_study(spec=site.spec)
    site.store.save_study(study, 0)
    site.store.save_trial(a_trial(config=config, capacity=capacity), 0)
