"""The rollout policy: what follows from which facts, and what can never follow."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from controlplane.domain.errors import Conflict
from controlplane.domain.rollouts.analysis import Analysis, Counts, LoadProof, Verdict
from controlplane.domain.rollouts.rollout import ROLLOUT_FINAL, TRANSITIONS, Rollout, RolloutState
from controlplane.domain.rollouts.rollout_events import events_between
from controlplane.domain.rollouts.rollout_options import CeilingPolicy, RolloutOptions, StepSpec
from controlplane.domain.rollouts.rollout_policy import Facts, advance, move
from tests.builders_serving import NOW, a_rollout, after, some_options

S = RolloutState
READY = Facts(canary_ready=2, canary_present=2, stable_present=1)


def judged(verdict: Verdict, guard: str | None = None) -> Analysis:
    counted = Counts(requests=100, slo_misses=1, errors=0)
    return Analysis(verdict=verdict, reason="as counted", at=NOW, canary=counted, stable=counted, guard=guard)


def facts(verdict: Verdict | None = None, **changes: object) -> Facts:
    return READY.evolve(analysis=judged(verdict) if verdict else None, **changes)


def at_step(index: int = 0, **changes: object) -> Rollout:
    """A rollout in the middle of a step, begun at NOW."""
    rollout = advance(a_rollout(**changes), READY, NOW)
    for _ in range(index):
        rollout = advance(rollout, facts(Verdict.PASS), NOW)
    return rollout


def reachable(state: RolloutState) -> set[RolloutState]:
    seen: set[RolloutState] = set()
    ahead = [state]
    while ahead:
        for follower in TRANSITIONS[ahead.pop()] - seen:
            seen.add(follower)
            ahead.append(follower)
    return seen


SHADOW = RolloutOptions(steps=tuple(StepSpec(weight_percent=each) for each in (0, 5, 100)))


def test_a_step_without_users_is_judged_while_stable_has_all_the_traffic() -> None:
    begun = at_step(options=SHADOW)
    assert (begun.state, begun.weight_percent, begun.steps[0].whose) == (
        S.PROGRESSING,
        0,
        "replayed requests alone, no users",
    )
    assert advance(begun, facts(Verdict.PASS), NOW).weight_percent == 5
    assert advance(begun, facts(Verdict.FAIL), NOW).state is S.ABORTING


@pytest.mark.parametrize(("declared", "weight"), [(CeilingPolicy.PAUSE, 0), (CeilingPolicy.PROCEED, 5)])
def test_no_user_is_let_in_while_the_load_is_not_proven(declared: CeilingPolicy, weight: int) -> None:
    short = judged(Verdict.PASS).evolve(load=LoadProof(wanted_rps=3, reached_rps=1, proven=False))
    begun = at_step(options=SHADOW.evolve(on_unproven_load=declared))
    found = advance(begun, READY.evolve(analysis=short), NOW)
    assert found.weight_percent == weight
    assert ("paused before any user: load not proven, 1.00 of 3.00" in found.reason) is (weight == 0)


def test_where_nothing_is_replayed_there_is_no_step_without_users() -> None:
    assert [step.weight_percent for step in SHADOW.evolve(match_load=False).judgeable().steps] == [5, 100]
    assert SHADOW.judgeable() is SHADOW
    assert SHADOW.first_with_users.weight_percent == 5
    with pytest.raises(ValidationError, match="load_rps must not be 0 at weight_percent 0"):
        StepSpec(weight_percent=0, load_rps=0)


def test_a_promotion_that_began_never_leads_to_an_abort() -> None:
    for state in (S.PROMOTING, S.HALTED, S.PROMOTED):
        assert not reachable(state) & {S.ABORTING, S.ABORTED}


def test_an_abort_leads_nowhere_but_to_its_end() -> None:
    assert reachable(S.ABORTING) == {S.ABORTED}


def test_every_state_leads_to_an_end_and_ends_lead_nowhere() -> None:
    assert set(TRANSITIONS) == set(RolloutState)
    for state in RolloutState:
        assert (state in ROLLOUT_FINAL) == (not TRANSITIONS[state])
        assert state in ROLLOUT_FINAL or reachable(state) & ROLLOUT_FINAL


def test_a_move_against_the_table_is_refused_with_what_is_allowed() -> None:
    with pytest.raises(Conflict, match="halted, promoted"):
        move(at_step(state=S.PROMOTING), S.ABORTING, reason="", now=NOW)


def test_what_is_over_moves_no_more_and_says_so() -> None:
    with pytest.raises(Conflict, match="is over: it is promoted") as refused:
        move(at_step(state=S.PROMOTED), S.ABORTING, reason="", now=NOW)
    assert not refused.value.allowed


def test_nothing_begins_before_the_step_s_replicas_are_ready() -> None:
    waiting = advance(a_rollout(canary_replicas=40), Facts(canary_ready=1), NOW)
    assert (waiting.state, waiting.weight_percent, waiting.reason) == (S.PENDING, 0, "1 of 2 canary replicas are ready")


def test_the_first_step_begins_with_its_replicas() -> None:
    begun = at_step()
    assert (begun.state, begun.weight_percent, begun.steps[0].started_at) == (S.PROGRESSING, 5, NOW)


def test_passes_lead_through_every_step_to_promotion() -> None:
    weights = [at_step(index).weight_percent for index in range(3)]
    assert weights == [5, 20, 100]
    promoting = at_step(3)
    assert promoting.state is S.PROMOTING
    assert all(step.finished_at and step.analysis for step in promoting.steps)


def test_a_passed_step_keeps_its_weight_while_the_next_one_s_replicas_start() -> None:
    waiting = advance(at_step(1, canary_replicas=10), facts(Verdict.PASS, canary_ready=2), after(9))
    assert (waiting.step_index, waiting.weight_percent, waiting.replicas_needed) == (2, 20, 10)
    begun = advance(waiting, facts(Verdict.PASS, canary_ready=10), after(30))
    assert (begun.weight_percent, begun.steps[-1].started_at) == (100, after(30))


def test_a_rollout_beside_nothing_is_promoted_when_all_replicas_are_ready() -> None:
    first = a_rollout(stable=None, canary_replicas=2)
    assert advance(first, Facts(canary_ready=1), NOW).state is S.PENDING
    promoting = advance(first, Facts(canary_ready=2), NOW)
    assert promoting.state is S.PROMOTING
    assert advance(promoting, Facts(canary_ready=2), NOW).state is S.PROMOTED


def test_a_fail_aborts_and_an_error_changes_nothing_but_the_record() -> None:
    assert advance(at_step(), facts(Verdict.FAIL), after(1)).state is S.ABORTING
    erred = advance(at_step(), facts(Verdict.ERROR), after(1))
    assert (erred.state, erred.weight_percent) == (S.PROGRESSING, 5)
    assert erred.steps[-1].analysis == judged(Verdict.ERROR)


@pytest.mark.parametrize(
    ("policy", "state", "weight"),
    [
        (CeilingPolicy.ABORT, S.ABORTING, 0),
        (CeilingPolicy.PAUSE, S.PAUSED, 50),
        (CeilingPolicy.PROCEED, S.PROGRESSING, 100),
    ],
)
def test_at_the_time_ceiling_the_declared_policy_decides(
    policy: CeilingPolicy, state: RolloutState, weight: int
) -> None:
    first = StepSpec(weight_percent=50, max_s=60, on_ceiling=policy)
    options = RolloutOptions(steps=(first, StepSpec(weight_percent=100)))
    rollout = at_step(options=options)
    assert advance(rollout, facts(Verdict.INCONCLUSIVE), after(59)).state is S.PROGRESSING
    over = advance(rollout, facts(Verdict.INCONCLUSIVE), after(60))
    assert (over.state, over.weight_percent) == (state, weight)
    assert "time ceiling of 60 s at 50 %" in over.reason or policy is CeilingPolicy.PROCEED


def test_a_doubt_waits_for_a_person_where_a_step_without_an_answer_would_proceed() -> None:
    first = StepSpec(weight_percent=50, max_s=60, on_ceiling=CeilingPolicy.PROCEED)
    rollout = at_step(options=RolloutOptions(steps=(first, StepSpec(weight_percent=100))))
    doubted = judged(Verdict.INCONCLUSIVE).evolve(doubt="users leave the canary")
    over = advance(rollout, READY.evolve(analysis=doubted), after(60))
    assert (over.state, over.weight_percent) == (S.PAUSED, 50)
    assert "proceed, but paused: users leave the canary" in over.reason


@pytest.mark.parametrize("policy", list(CeilingPolicy))
def test_what_could_not_be_measured_waits_for_a_person_whatever_is_declared(policy: CeilingPolicy) -> None:
    """A wrong split, records nobody could read: it neither promotes a canary nor rolls one back."""
    first = StepSpec(weight_percent=50, max_s=60, on_ceiling=policy)
    rollout = at_step(options=RolloutOptions(steps=(first, StepSpec(weight_percent=100))))
    assert advance(rollout, facts(Verdict.ERROR), after(59)).state is S.PROGRESSING
    over = advance(rollout, facts(Verdict.ERROR), after(60))
    assert (over.state, over.weight_percent) == (S.PAUSED, 50)
    assert policy is CeilingPolicy.PAUSE or f"{policy}, but nothing was measured: pause" in over.reason


@pytest.mark.parametrize("state", [S.PROGRESSING, S.PAUSED])
def test_guard_rails_abort_whether_or_not_anybody_judges(state: RolloutState) -> None:
    rollout = at_step().evolve(state=state)
    burst = READY.evolve(analysis=judged(Verdict.FAIL, guard="5xx_burst"))
    for hit in (burst, facts(exits=1, exit_reason="was ready, then killed by signal 9")):
        aborting = advance(rollout, hit, after(1))
        assert (aborting.state, aborting.weight_percent) == (S.ABORTING, 0)


def test_as_many_exits_as_declared_are_borne() -> None:
    rollout = at_step(options=some_options(guard_crashes=3))
    borne = advance(rollout, facts(exits=2), after(1))
    assert (borne.state, borne.canary_crashes) == (S.PROGRESSING, 2)
    assert advance(borne, facts(exits=3), after(2)).state is S.ABORTING


def test_a_paused_rollout_judges_nothing() -> None:
    paused = at_step().evolve(state=S.PAUSED)
    assert advance(paused, facts(Verdict.PASS), after(9999)) == paused
    assert advance(paused, facts(Verdict.FAIL), after(9999)) == paused


def test_missing_gpus_are_waited_for_since_they_were_missed() -> None:
    short = Facts(shortage="needs 1 GPU(s): 0 free")
    waiting = advance(a_rollout(options=some_options(capacity_wait_s=60)), short, after(500))
    assert (waiting.state, waiting.short_since) == (S.PENDING, after(500))
    assert advance(waiting, short, after(559)).state is S.PENDING
    assert advance(waiting, Facts(), after(559)).short_since is None
    assert advance(waiting, short, after(560)).state is S.ABORTING


def test_an_engine_that_can_never_run_here_aborts_at_once() -> None:
    refused = advance(a_rollout(), Facts(refused="an engine on 16 GPUs cannot run here"), NOW)
    assert (refused.state, refused.reason) == (S.ABORTING, "an engine on 16 GPUs cannot run here")


def test_promotion_ends_when_the_canary_is_whole_and_stable_is_gone() -> None:
    promoting = at_step(3)
    assert advance(promoting, READY, after(1)) == promoting
    assert advance(promoting, Facts(canary_ready=1), after(1)).state is S.PROMOTING
    assert advance(promoting, Facts(canary_ready=2), after(1)).state is S.PROMOTED


def test_an_exit_during_promotion_halts_and_resuming_bears_it() -> None:
    halted = advance(at_step(3), facts(exits=1, exit_reason="gone"), after(1))
    assert halted.state is S.HALTED
    resumed = move(halted, S.PROMOTING, reason="resumed", now=after(2), tolerated_crashes=halted.canary_crashes)
    assert advance(resumed, facts(exits=1), after(3)).state is S.PROMOTING
    assert advance(resumed, facts(exits=2), after(3)).state is S.HALTED


def test_an_abort_is_over_when_the_last_canary_engine_is_gone() -> None:
    aborting = advance(at_step(), facts(Verdict.FAIL), after(1))
    assert advance(aborting, READY, after(2)) == aborting
    over = advance(aborting, Facts(), after(3))
    assert (over.state, over.reason, over.finished_at) == (S.ABORTED, "as counted", after(3))


def test_every_transition_and_verdict_is_told_once() -> None:
    pending = a_rollout()
    begun, passed = at_step(), at_step(1)
    told = [
        [event.action for event in events_between(before, now_is, actor="controller", now=NOW)]
        for before, now_is in ((None, pending), (pending, begun), (begun, passed), (passed, passed))
    ]
    assert told == [
        ["rollout.pending"],
        ["rollout.step", "rollout.progressing"],
        ["rollout.verdict", "rollout.step"],
        [],
    ]


SOME_FACTS = st.builds(
    Facts,
    canary_ready=st.integers(0, 3),
    canary_present=st.integers(0, 3),
    stable_present=st.integers(0, 1),
    exits=st.integers(0, 2),
    shortage=st.sampled_from([None, "no GPU"]),
    analysis=st.sampled_from([None, *(judged(verdict) for verdict in Verdict), judged(Verdict.FAIL, "truncated")]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(SOME_FACTS, min_size=1, max_size=25))
def test_whatever_happens_the_table_holds_and_weight_never_rises_without_replicas(history: list[Facts]) -> None:
    rollout = a_rollout()
    for second, seen in enumerate(history):
        following = advance(rollout, seen, after(100 * second))
        assert following.state is rollout.state or _is_reachable(rollout.state, following.state)
        if following.weight_percent > rollout.weight_percent and following.state is S.PROGRESSING:
            assert seen.canary_ready >= following.replicas_needed
        rollout = following


def _is_reachable(before: RolloutState, following: RolloutState) -> bool:
    return following in reachable(before)
