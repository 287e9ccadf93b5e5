"""Builders of A/B tests."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from controlplane.domain.ab_tests.ab_test import (
    AbAnalysis,
    AbArm,
    AbOptions,
    AbPlan,
    AbState,
    AbTest,
    AbTestId,
    ArmCounts,
    Compared,
    Grade,
)
from controlplane.domain.ab_tests.metrics import AbMetric
from controlplane.domain.base import RevisionId
from tests.builders_serving import CHAT, NOW

CONTROL, CHALLENGER = RevisionId("rev-1"), RevisionId("rev-2")


def an_ab_test(name: str = "chat-ab1", **changes: Any) -> AbTest:
    """Two halves, errors decide."""
    test = AbTest(
        test_id=AbTestId(name),
        service=CHAT,
        arms=(
            AbArm(revision=CONTROL, share_percent=50, replicas=1, label="stable"),
            AbArm(revision=CHALLENGER, share_percent=50, replicas=1, label="llama@2"),
        ),
        options=AbOptions(metric=AbMetric.ERRORS, minimum_effect_percent=2),
        plan=AbPlan(users_per_arm=1490, baseline=0.02, spread=0.14, from_users=1200, users_per_day=900),
        created_at=NOW,
        created_by="ann",
    )
    return test.evolve(**changes)


def a_judged_test(now: datetime) -> AbTest:
    """One that is over: the challenger keeps users waiting less; of its length too little is known."""
    arms = (
        ArmCounts(revision=CONTROL, users=1460, requests=5210, stops={"length": 310, "stop": 4900}, scores=40),
        ArmCounts(revision=CHALLENGER, users=1502, requests=5301, stops={"stop": 5301}, usd_per_1000_requests=0.42),
    )
    return an_ab_test(
        question="Does the fine-tune answer sooner?",
        options=AbOptions(metric=AbMetric.TTFT, minimum_effect_percent=5),
        state=AbState.CONCLUDED,
        reason="llama@2 is better",
        analysis=AbAnalysis(
            at=now,
            arms=arms,
            deciding=(a_comparison(AbMetric.TTFT, 282, 310, -9.0, -12.1, -5.8, Grade.BETTER),),
            others=(
                a_comparison(AbMetric.LENGTH, 181, 178, 1.7, -4.0, 7.9, Grade.UNDECIDED),
                a_comparison(AbMetric.CUT_BY_LENGTH, 0.0, 0.06, -6.0, -7.9, -4.1, Grade.BETTER),
                a_comparison(AbMetric.FEEDBACK, 0.8, 0.7, 10.0, None, None, Grade.UNDECIDED),
            ),
            crossed=3,
            winner=CHALLENGER,
        ),
        created_at=now - timedelta(hours=30),
        started_at=now - timedelta(hours=29),
        finished_at=now,
    )


def a_comparison(
    metric: AbMetric, mean: float, against: float, by: float, low: float | None, high: float | None, grade: Grade
) -> Compared:
    return Compared(
        metric=metric,
        arm=CHALLENGER,
        against=CONTROL,
        users=1502,
        users_against=1460,
        mean=mean,
        mean_against=against,
        difference=by,
        low=low,
        high=high,
        grade=grade,
    )
