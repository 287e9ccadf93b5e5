"""The plan of a test, from what the control did on the last day or from what a person expects of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

from pydantic import Field

from controlplane.domain.ab_tests.ab_test import AbArm, AbOptions, AbPlan
from controlplane.domain.ab_tests.counting import ArmTally, Users
from controlplane.domain.ab_tests.metrics import AbMetric
from controlplane.domain.ab_tests.planning import users_needed
from controlplane.domain.base import Value
from controlplane.domain.errors import InvalidInput
from controlplane.domain.revision import Revision
from controlplane.domain.serving import Service
from controlplane.ports.gateways import JudgedFeed, RecordSource, ScoreFeed

LOOK_BACK = timedelta(hours=24)
LEAST_TO_PLAN = 100
"""Users of the control in the last day, fewer of which say too little to plan by."""


class Expected(Value):
    """What the control is known to do, where its last day says too little."""

    baseline: float = Field(description="Its mean: a share, or what is typical in ms or tokens.")
    spread: float = Field(gt=0, description="Standard deviation of users: of their shares, or of natural logarithms.")


def last_day(
    records: RecordSource,
    scores: ScoreFeed | None,
    judged: JudgedFeed | None,
    service: Service,
    control: Revision,
    now: datetime,
) -> ArmTally:
    """Return what the control's users had in the last day. Raises Unavailable."""
    since, name = now - LOOK_BACK, control.revision_id
    users = Users([name], service.spec.slos.latency, time_lapse=control.engine.time_lapse)
    for record in records.read(service.name, since=since, revision=name):
        users.add(record)
    for score in scores.scores(since=since, position={}).scores if scores is not None else ():
        users.score(score)
    for each in judged.judged(service.name, since=since, position={}).judged if judged is not None else ():
        users.judged(each)
    return users.arms[name]


def plan(seen: ArmTally, arms: Sequence[AbArm], options: AbOptions, expected: Expected | None) -> AbPlan:
    """Return how many users the answer takes.

    Raises InvalidInput where too little is known, or no number of users would do.
    """
    known = 0 if expected is not None else seen.means[options.metric].users
    expected = expected or _from(seen, options.metric)
    _check_baseline(options.metric, expected.baseline)
    shares = [arm.share_percent for arm in arms]
    needed = users_needed(
        options,
        baseline=expected.baseline,
        spread=expected.spread,
        alpha=options.alpha(len(arms)),
        share=min(shares) / (min(shares) + max(shares)),
    )
    per_day = seen.users * 86400 / LOOK_BACK.total_seconds()
    return AbPlan(
        users_per_arm=needed,
        baseline=expected.baseline,
        spread=expected.spread,
        from_users=known,
        users_per_day=per_day or None,
    )


def _from(seen: ArmTally, metric: AbMetric) -> Expected:
    means = seen.means[metric]
    if means.users < LEAST_TO_PLAN or means.variance <= 0:
        what = "natural logarithms" if metric.is_relative else "shares"
        raise InvalidInput(
            f"too little is known of {metric} to plan a test",
            why=f"{means.users} users of stable in the last day, {LEAST_TO_PLAN} that differ are needed",
            allowed=f"say what to expect: a baseline, and the spread (standard deviation of users' {what})",
        )
    baseline = math.exp(means.mean) if metric.is_relative else means.mean
    return Expected(baseline=baseline, spread=math.sqrt(means.variance))


def _check_baseline(metric: AbMetric, baseline: float) -> None:
    if metric.is_relative and baseline <= 0:
        raise InvalidInput(f"{baseline:g} is no baseline of {metric}", allowed="more than 0 ms or tokens")
    if not metric.is_relative and not 0 <= baseline <= 1:
        raise InvalidInput(f"{baseline:g} is no baseline of {metric}", allowed="a share from 0 to 1")
