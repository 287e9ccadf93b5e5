"""What is certain of a test at one look: who is better, by how much, and what is undecided. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import combinations

from controlplane.domain.ab_tests.ab_test import AbAnalysis, AbTest, ArmCounts, Compared, Grade
from controlplane.domain.ab_tests.bounds import Bounds, bounds
from controlplane.domain.ab_tests.counting import Users
from controlplane.domain.ab_tests.metrics import AbMetric
from controlplane.domain.ab_tests.planning import effect_of
from controlplane.domain.base import RevisionId
from controlplane.domain.rollouts.anytime import miss_ratio_bounds

SPLIT_ALPHA = 0.001
"""How often a test is held up although its users are split as asked, at most, over all looks."""
_GUARDS = (AbMetric.ERRORS, AbMetric.SLO_MISSES)


def judge(
    test: AbTest, users: Users, *, now: datetime, usd_per_hour: Mapping[RevisionId, float] | None = None
) -> AbAnalysis:
    """Judge what was counted so far; `usd_per_hour` is what the replicas of each arm cost."""
    names = [arm.revision for arm in test.arms]
    metric = test.options.metric
    pairs = [(later, earlier) for earlier, later in combinations(names, 2)]
    deciding = tuple(_compared(test, users, metric, *pair, alpha=test.alpha) for pair in pairs)
    unsampled = judged_split_problem(test, users)
    problem = split_problem(test, users) or (unsampled if metric is AbMetric.JUDGE else None)
    return AbAnalysis(
        at=now,
        arms=tuple(
            _counts(test, users, arm.revision, now, (usd_per_hour or {}).get(arm.revision, 0.0)) for arm in test.arms
        ),
        deciding=deciding,
        others=tuple(_doubted(each, unsampled) for each in _others(test, users)),
        crossed=users.crossed,
        problem=problem,
        winner=None if problem else winner(names, deciding),
        alike=problem is None and all(each.grade is Grade.ALIKE for each in deciding),
        harm=_harm(test, users),
        judge_problem=unsampled or _unjudged(users),
    )


def split_problem(test: AbTest, users: Users) -> str | None:
    """Say why users are certainly not split by the shares; None while they may be. Each arm is held to its share."""
    return _split_problem(test, {name: tally.users for name, tally in users.arms.items()}, "users")


def judged_split_problem(test: AbTest, users: Users) -> str | None:
    """Say why the users with a judged answer are certainly not split by the shares: then the scores say nothing.

    A judge that fails on one arm's answers, or answers of one arm that are too long to be sampled, is found by it.
    """
    judged = {name: tally.means[AbMetric.JUDGE].users for name, tally in users.arms.items()}
    return _split_problem(test, judged, "users with a judged answer")


def _split_problem(test: AbTest, counts: Mapping[RevisionId, int], of_what: str) -> str | None:
    total = sum(counts.values())
    for arm in test.arms:
        mine = counts[arm.revision]
        low, high = miss_ratio_bounds(mine, total, SPLIT_ALPHA / len(test.arms))
        if not low <= arm.share_percent / 100 <= high:
            got = f"{mine} of {total} {of_what}, {100 * mine / total:.1f} %"
            return f"{test.named(arm.revision)} got {got}, where its share is {arm.share_percent} %"
    return None


def winner(names: Sequence[RevisionId], deciding: Sequence[Compared]) -> RevisionId | None:
    """Return the arm that is certainly better than every other one."""
    beaten = {(each.arm, each.against) for each in deciding if each.grade is Grade.BETTER}
    beaten |= {(each.against, each.arm) for each in deciding if each.grade is Grade.WORSE}
    return next((name for name in names if all((name, other) in beaten for other in names if other != name)), None)


def _others(test: AbTest, users: Users) -> tuple[Compared, ...]:
    """Every other metric that was seen, against the control; together they may be wrong once in 1 / alpha."""
    metrics = [metric for metric in AbMetric if metric is not test.options.metric]
    alpha = (1 - test.options.confidence) / (len(metrics) * len(test.challengers))
    seen = [m for m in metrics if any(tally.means[m].users for tally in users.arms.values())]
    control = test.control.revision
    return tuple(
        _compared(test, users, m, arm.revision, control, alpha=alpha) for m in seen for arm in test.challengers
    )


def _compared(
    test: AbTest, users: Users, metric: AbMetric, arm: RevisionId, against: RevisionId, *, alpha: float
) -> Compared:
    mine, theirs = users.arms[arm].means[metric], users.arms[against].means[metric]
    planned = round(2 * test.plan.users_per_arm)
    found = bounds(metric, theirs, mine, alpha=alpha, planned=planned)
    effect = effect_of(metric, test.options.minimum_effect_percent) if metric is test.options.metric else None
    return Compared(
        metric=metric,
        arm=arm,
        against=against,
        users=mine.users,
        users_against=theirs.users,
        mean=_shown(metric, mine.mean),
        mean_against=_shown(metric, theirs.mean),
        difference=_difference(metric, mine.mean - theirs.mean),
        low=None if found is None else _difference(metric, found.low),
        high=None if found is None else _difference(metric, found.high),
        grade=grade(metric, found, effect),
    )


def _doubted(found: Compared, unsampled: str | None) -> Compared:
    """What the judge says is nobody's win when those it judged are no fair sample."""
    return found.evolve(grade=Grade.UNDECIDED) if unsampled and found.metric is AbMetric.JUDGE else found


def _unjudged(users: Users) -> str | None:
    failed = sum(tally.unjudged for tally in users.arms.values())
    total = failed + sum(tally.judged for tally in users.arms.values())
    return f"{failed} of {total} sampled answers were not judged, the last: {users.judge_problem}" if failed else None


def grade(metric: AbMetric, found: Bounds | None, effect: float | None) -> Grade:
    """Return what is certain. `effect`: less is alike; None where no minimum was stated."""
    if found is None:
        return Grade.UNDECIDED
    if found.low > 0 or found.high < 0:
        if metric.better == 0:
            return Grade.DIFFERENT
        return Grade.BETTER if (found.low > 0) == (metric.better > 0) else Grade.WORSE
    within = effect is not None and -effect < found.low and found.high < effect
    return Grade.ALIKE if within else Grade.UNDECIDED


def _harm(test: AbTest, users: Users) -> str | None:
    """Say which challenger certainly does more harm than declared. May be wrong as often as the answer itself."""
    alpha = (1 - test.options.confidence) / (len(_GUARDS) * len(test.challengers))
    for metric in _GUARDS:
        control = users.arms[test.control.revision].means[metric]
        for arm in test.challengers:
            found = bounds(metric, control, users.arms[arm.revision].means[metric], alpha=alpha, planned=1)
            if found is not None and 100 * found.low > test.options.guard_points:
                name = metric.value.replace("_", " ")
                return f"{test.named(arm.revision)} has at least {100 * found.low:.1f} points more {name}"
    return None


def _counts(test: AbTest, users: Users, revision: RevisionId, now: datetime, usd_per_hour: float) -> ArmCounts:
    tally = users.arms[revision]
    hours = 0.0 if test.started_at is None else (now - test.started_at).total_seconds() / 3600
    usd = 1000 * usd_per_hour * hours / tally.requests if tally.requests and usd_per_hour else None
    return ArmCounts(
        revision=revision,
        users=tally.users,
        requests=tally.requests,
        stops=dict(sorted(tally.stops.items())),
        scores=tally.scores,
        judged=tally.judged,
        unjudged=tally.unjudged,
        usd_per_1000_requests=usd,
    )


def _shown(metric: AbMetric, mean: float) -> float:
    return math.exp(mean) if metric.is_relative and mean else mean


def _difference(metric: AbMetric, found: float) -> float:
    """Percent of what is compared as a ratio, percentage points of shares."""
    return 100 * (math.expm1(found) if metric.is_relative else found)
