"""A canary is judged at the load it will carry: on twins, in virtual time, with a real trace."""

from __future__ import annotations

import pytest

from controlplane.cli.demo import EXAMPLE
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.rollouts.analysis import Verdict
from controlplane.domain.rollouts.patience import patient
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.rollouts.rollout_options import RolloutOptions, StepSpec
from controlplane.domain.service import EmulatorOptions
from controlplane.reading.service_file import load_service
from tests.integration.rollouts.living_site import BF16, SPEC, TICKS_PER_PASS, LivingSite

TOO_FEW_SEQUENCES = BF16.with_flags({"max-num-seqs": 12})  # collapses at 3 requests/s; serves 0.3 and 1.2 well
AS_GOOD = BF16.with_flags({"max-num-seqs": 200})
AT_ONCE = tuple(StepSpec(weight_percent=each) for each in (5, 20, 100))
Flags = dict[str, int | float]
QUICK = RolloutOptions(miss_ratio_margin=0.1, error_ratio_margin=0.05)


def test_a_canary_that_collapses_at_its_later_load_is_aborted_before_users_notice() -> None:
    site = LivingSite(users_rps=6, seed=4)
    rollout = site.roll_out(TOO_FEW_SEQUENCES, within_s=600)
    assert rollout.state is RolloutState.ABORTED
    assert rollout.steps[-1].weight_percent == 0
    assert "load it is to carry" in rollout.reason
    assert site.users_of(rollout.canary) == 0


def test_with_users_from_the_first_step_on_a_few_stand_in_its_queue() -> None:
    site = LivingSite(users_rps=6, seed=4, options=RolloutOptions(steps=AT_ONCE))
    rollout = site.roll_out(TOO_FEW_SEQUENCES, within_s=600)
    assert rollout.state is RolloutState.ABORTED
    assert rollout.steps[-1].weight_percent in (5, 20)
    assert site.users_of(rollout.canary) > 10
    assert site.users_hurt(rollout.canary) <= 5


@pytest.mark.parametrize("seed", [11, 12])
@pytest.mark.parametrize("flags", [{"max-num-batched-tokens": 96}, {"gpu-memory-utilization": 0.52}])
def test_a_cliff_for_long_prompts_and_a_small_kv_cache_are_found_without_users(flags: Flags, seed: int) -> None:
    site = LivingSite(users_rps=6, seed=seed)
    rollout = site.roll_out(BF16.with_flags(flags), within_s=700)
    assert rollout.state is RolloutState.ABORTED
    assert rollout.steps[-1].weight_percent == 0
    assert site.users_of(rollout.canary) == 0


def test_a_canary_that_hangs_now_and_then_is_found_without_users() -> None:
    """One in fifty: too few for a queue, and each of them a user who waits until the end of all patience."""
    site = LivingSite(users_rps=6, hangs=AS_GOOD, hang_every=50)
    rollout = site.roll_out(AS_GOOD, within_s=600)
    assert rollout.state is RolloutState.ABORTED
    assert "replayed requests to the canary hang" in rollout.reason
    assert site.users_of(rollout.canary) == 0


def test_a_canary_whose_memory_grows_with_every_request_dies_of_replayed_ones() -> None:
    """Nobody tells of its memory. At its share of the traffic it would have lived through 5 and 20 %."""
    leaking = BF16.with_flags({"max-num-seqs": 200})
    site = LivingSite(users_rps=6, seed=4, leaks=leaking, leaks_after=150, tells=False)
    rollout = site.roll_out(leaking, within_s=600)
    assert rollout.state is RolloutState.ABORTED
    assert rollout.steps[-1].weight_percent == 0
    assert "canary engine exited" in rollout.reason
    assert site.users_of(rollout.canary) == 0


def test_where_nothing_may_be_sent_the_load_not_proven_holds_the_rollout_before_all_of_the_traffic() -> None:
    """5 and 20 % of the traffic find nothing wrong with it: at 100 % it missed 107 of 161 requests in a row."""
    steps = (StepSpec(weight_percent=20), StepSpec(weight_percent=100))
    wide = RolloutOptions(steps=steps, miss_ratio_margin=0.2, error_ratio_margin=0.1, match_load=False)
    site = LivingSite(users_rps=6, options=wide)
    rollout = site.roll_out(TOO_FEW_SEQUENCES, within_s=600)
    assert rollout.state is RolloutState.PAUSED
    assert "before 100 %: load not proven, 1." in rollout.reason
    assert "like ones of stable's" in rollout.reason
    assert "of stable's came with more in flight than any of the canary's" in rollout.reason


def test_a_good_canary_proves_its_load_and_is_promoted() -> None:
    site = LivingSite(users_rps=6, options=QUICK)
    rollout = site.roll_out(AS_GOOD)
    assert rollout.state is RolloutState.PROMOTED
    assert [step.weight_percent for step in rollout.steps] == [0, 5, 20, 100]
    for step in rollout.steps[:3]:
        assert step.analysis is not None
        assert step.analysis.load is not None
        assert step.analysis.load.proven
        assert step.analysis.replayed is not None
        assert f"{step.analysis.replayed.requests} replayed" in step.analysis.reason
    # What we sent went to no other replica, and is no user's request.
    sent = [record for record in site.records.records if record.replayed]
    assert {record.revision for record in sent} == {rollout.canary}
    assert all(record.key is None and record.session is None for record in sent)


def test_beside_a_stable_that_collapses_a_good_canary_is_sent_its_load_all_the_same() -> None:
    """Stable's users suffer whether anything is sent or not; sending ended for them, again and again."""
    collapsing = SPEC.evolve(engine=SPEC.engine.evolve(flags=dict(TOO_FEW_SEQUENCES.flags)))
    site = LivingSite(users_rps=6, spec=collapsing, options=QUICK, seed=23)
    site.go_on(40)
    rollout = site.roll_out(AS_GOOD, within_s=200)
    first = rollout.steps[0].analysis
    assert first is not None
    assert first.verdict is Verdict.PASS, first.reason
    assert first.load is not None
    assert first.load.proven


def test_the_demo_s_rollout_has_its_answers_within_five_minutes() -> None:
    """The demo's own steps and margins, for what its study finds; virtual time, so on any machine."""
    spec = load_service(EXAMPLE)
    lapse = spec.engine.time_lapse
    declared = patient(spec.rollout, spec).steps
    steps = tuple(step.evolve(min_s=lapse * step.least_s, max_s=lapse * step.max_s) for step in declared)
    plain = spec.evolve(engine=spec.engine.evolve(emulator=EmulatorOptions(startup_s=0, time_lapse=1)))
    rate = spec.workload.rate_rps
    assert rate is not None
    options, seldom = spec.rollout.evolve(steps=steps), round(lapse * TICKS_PER_PASS)
    site = LivingSite(users_rps=rate, spec=plain, options=options, ticks_per_pass=seldom)
    winner = {"quantization": "fp8", "tensor-parallel-size": 1, "max-model-len": 8192, "max-num-seqs": 128}
    rollout = site.roll_out(EngineConfig(flags=winner))
    assert rollout.state is RolloutState.PROMOTED
    assert site.now_s / lapse < 300
    assert [step.analysis and step.analysis.verdict for step in rollout.steps] == ["pass"] * 4
