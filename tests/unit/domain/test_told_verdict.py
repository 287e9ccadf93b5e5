"""What a rollout's judge says in three words: only a verdict or an end is more than undecided."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.domain.rollouts.analysis import Analysis, Counts, Verdict
from controlplane.domain.rollouts.rollout import Rollout, RolloutState, StepRecord
from controlplane.domain.rollouts.told_verdict import told_verdict
from tests.builders_serving import NOW, a_rollout


def at_a_step(verdict: Verdict | None, **changes: Any) -> Rollout:
    nine = Counts(requests=9, slo_misses=0, errors=0)
    analysis = None if verdict is None else Analysis(verdict=verdict, reason="measured", at=NOW, canary=nine)
    step = StepRecord(index=0, weight_percent=20, started_at=NOW, analysis=analysis)
    return a_rollout(**({"state": RolloutState.PROGRESSING, "steps": (step,)} | changes))


@pytest.mark.parametrize(
    ("verdict", "says"),
    [
        (Verdict.PASS, "safe"),
        (Verdict.FAIL, "harm"),
        (Verdict.INCONCLUSIVE, "undecided"),
        (Verdict.ERROR, "undecided"),
        (None, "undecided"),
    ],
)
def test_a_step_says_what_was_measured_of_it(verdict: Verdict | None, says: str) -> None:
    found = told_verdict(at_a_step(verdict))
    assert (found.verdict, found.weight_percent) == (says, 20)
    if verdict is not None:
        assert found.reason == "measured"


@pytest.mark.parametrize("state", RolloutState)
def test_an_end_says_more_than_the_last_step_and_a_pause_less(state: RolloutState) -> None:
    ends = {RolloutState.PROMOTING: "safe", RolloutState.PROMOTED: "safe"}
    ends |= {RolloutState.ABORTING: "harm", RolloutState.ABORTED: "harm", RolloutState.PROGRESSING: "safe"}
    assert told_verdict(at_a_step(Verdict.PASS, state=state)).verdict == ends.get(state, "undecided")


def test_a_step_of_another_weight_is_undecided() -> None:
    rollout = at_a_step(Verdict.PASS)
    assert told_verdict(rollout, weight=20).verdict == "safe"
    assert told_verdict(rollout, weight=50).verdict == "undecided"
    assert told_verdict(rollout.evolve(state=RolloutState.PROMOTED), weight=50).verdict == "safe"


def test_nothing_is_undecided() -> None:
    assert told_verdict(None).reason == "no rollout"
