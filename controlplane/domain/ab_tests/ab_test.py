"""An A/B test: fixed shares for a fixed question. Values only; `policy` decides what happens next.

A rollout asks whether a canary is no worse; an A/B test asks which of several is better, and changes nothing by itself.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NewType

from pydantic import AwareDatetime, Field, model_validator

from controlplane.domain.ab_tests.metrics import AbMetric
from controlplane.domain.base import RevisionId, ServiceName, Value

AbTestId = NewType("AbTestId", str)

MOST_ARMS = 5


class AbState(StrEnum):
    STARTING = "starting"  # engines of the challengers are being started; the control has all traffic
    RUNNING = "running"  # traffic is split, answers are counted
    CONCLUDED = "concluded"  # the question is answered, or the time for it is over
    STOPPED = "stopped"  # by a person, or because a challenger did harm or cannot run


AB_FINAL = frozenset({AbState.CONCLUDED, AbState.STOPPED})

AB_TRANSITIONS: dict[AbState, frozenset[AbState]] = {
    AbState.STARTING: frozenset({AbState.RUNNING, AbState.STOPPED}),
    AbState.RUNNING: frozenset({AbState.CONCLUDED, AbState.STOPPED}),
    AbState.CONCLUDED: frozenset(),
    AbState.STOPPED: frozenset(),
}


class AbArm(Value):
    """One revision and its share. The first arm is the control: what serves already."""

    revision: RevisionId
    share_percent: int = Field(ge=1, le=99)
    replicas: int = Field(ge=1)
    label: str = Field(default="", max_length=100, description="What a person called it, e.g. llama@candidate.")


class AbOptions(Value):
    """What is asked and how sure the answer is to be; said before the first request."""

    metric: AbMetric = Field(description="What decides. The others are shown with bounds of their own.")
    minimum_effect_percent: float = Field(
        gt=0,
        lt=100,
        description="The smallest difference that matters: percent of latencies and lengths, points of shares.",
    )
    confidence: float = Field(default=0.95, ge=0.8, lt=1)
    power: float = Field(default=0.8, ge=0.5, lt=1, description="Chance to find the minimum effect where it is.")
    min_hours: float = Field(default=1, ge=0, description="Not decided sooner: people differ by the hour.")
    max_hours: float = Field(
        default=48, gt=0, le=24 * 56, description="Ends then. The gateways must keep records for as long."
    )
    guard_points: float = Field(
        default=5, gt=0, le=100, description="A challenger with certainly so many more errors or misses ends the test."
    )
    guard_crashes: int = Field(default=3, ge=1)
    capacity_wait_s: float = Field(default=600, ge=0, description="Wait this long for missing GPUs, then stop.")

    def alpha(self, arms: int) -> float:
        """Return what one pair of arms may be wrong with in the deciding metric (Bonferroni over the pairs)."""
        return (1 - self.confidence) / (arms * (arms - 1) // 2)


class AbPlan(Value):
    """How many users the answer takes, said beforehand and from what."""

    users_per_arm: int = Field(ge=1, description="Of the smallest arm, for the power stated at the minimum effect.")
    baseline: float = Field(description="The control's mean: a share, or what a latency or length typically is.")
    spread: float = Field(ge=0, description="Of users: standard deviation of their shares or logarithms.")
    from_users: int = Field(ge=0, description="Users of the last day it was learnt from; 0: given.")
    users_per_day: float | None = Field(default=None, description="New users a day, lately; None: unknown.")


class Grade(StrEnum):
    """What is certain of one arm against another in one metric."""

    BETTER = "better"
    WORSE = "worse"
    DIFFERENT = "different"  # of what is neither good nor bad
    ALIKE = "alike"  # certainly less apart than the minimum effect
    UNDECIDED = "undecided"


class Compared(Value):
    """One arm less another in one metric: percent of latencies and lengths, percentage points of shares."""

    metric: AbMetric
    arm: RevisionId
    against: RevisionId
    users: int
    users_against: int
    mean: float = Field(description="A share, or the geometric mean in ms or tokens.")
    mean_against: float
    difference: float
    low: float | None = Field(default=None, description="With `high`: holds at every look. None: too few users yet.")
    high: float | None = None
    grade: Grade


class ArmCounts(Value):
    revision: RevisionId
    users: int = Field(ge=0)
    requests: int = Field(ge=0)
    stops: dict[str, int] = Field(default_factory=dict, description="Answers by why they stopped.")
    scores: int = Field(default=0, ge=0, description="Scores of people.")
    judged: int = Field(default=0, ge=0, description="Sampled answers that the judge command scored.")
    unjudged: int = Field(default=0, ge=0, description="Sampled answers that it failed to score.")
    usd_per_1000_requests: float | None = Field(
        default=None, description="Of the arm's replicas while it was counted. Observed, not tested."
    )


class AbAnalysis(Value):
    """What is known at one look."""

    at: AwareDatetime
    arms: tuple[ArmCounts, ...]
    deciding: tuple[Compared, ...] = Field(description="The metric that decides, every pair of arms.")
    others: tuple[Compared, ...] = Field(default=(), description="The other metrics, against the control.")
    crossed: int = Field(
        default=0, ge=0, description="Requests of users that another arm had served first; not counted."
    )
    problem: str | None = Field(default=None, description="Why the arms cannot be compared, if so.")
    winner: RevisionId | None = Field(default=None, description="Certainly better than every other arm.")
    alike: bool = Field(default=False, description="All arms certainly differ by less than the minimum effect.")
    harm: str | None = Field(default=None, description="The guard rail that fired.")
    judge_problem: str | None = Field(
        default=None, description="Why the judge's scores say nothing, or what last kept it from scoring."
    )


class AbTest(Value):
    test_id: AbTestId
    service: ServiceName
    question: str = Field(default="", max_length=300)
    arms: tuple[AbArm, ...] = Field(min_length=2, max_length=MOST_ARMS)
    options: AbOptions
    plan: AbPlan
    judge: str | None = Field(default=None, description="Digest of the judge command it began with.")
    state: AbState = AbState.STARTING
    reason: str = ""
    analysis: AbAnalysis | None = None
    created_at: AwareDatetime
    created_by: str
    started_at: AwareDatetime | None = Field(default=None, description="Since when traffic is split.")
    finished_at: AwareDatetime | None = None
    short_since: AwareDatetime | None = Field(default=None, description="Since when GPUs are missing.")

    @model_validator(mode="after")
    def _whole(self) -> AbTest:
        total = sum(arm.share_percent for arm in self.arms)
        if total != 100:
            raise ValueError(f"shares sum to {total}, not 100")
        names = [arm.revision for arm in self.arms]
        if len(set(names)) != len(names):
            raise ValueError("two arms are the same revision")
        return self

    @property
    def control(self) -> AbArm:
        return self.arms[0]

    @property
    def challengers(self) -> tuple[AbArm, ...]:
        return self.arms[1:]

    @property
    def is_over(self) -> bool:
        return self.state in AB_FINAL

    @property
    def alpha(self) -> float:
        """See `AbOptions.alpha`."""
        return self.options.alpha(len(self.arms))

    def named(self, revision: RevisionId) -> str:
        """Return what a person called an arm, its revision otherwise."""
        return next((arm.label for arm in self.arms if arm.revision == revision and arm.label), revision)
