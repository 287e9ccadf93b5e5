"""Judging one rollout step: what was counted, and the verdict."""

from __future__ import annotations

from enum import StrEnum

from pydantic import AwareDatetime, Field

from controlplane.domain.base import StudyId, Value
from controlplane.domain.rollouts.bursts import Runs
from controlplane.domain.slo import LatencyMetric


class Verdict(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"  # could not measure: neither promotes nor rolls back


class Clustered(Value):
    """Misses (or other hits) with sessions as clusters: what `clusters` makes of some requests of a revision."""

    n: int = Field(ge=0)
    misses: int = Field(ge=0)
    runs: Runs


class Counts(Value):
    """What `outcomes` says of one revision's finished requests within the step.

    Left out: clients that hung up while every limit could still be met, and what we cut ourselves.
    """

    requests: int = Field(ge=0)
    slo_misses: int = Field(ge=0, description="Missed at least one latency limit (errors count as misses).")
    errors: int = Field(ge=0)
    truncated: int = Field(default=0, ge=0, description="Streams the engine broke off.")
    refused: int = Field(default=0, ge=0, description="Answered with 4xx by the engine; not among `requests`.")
    untold: int = Field(default=0, ge=0, description="Of `requests`: no limit missed, but one that cannot be told.")
    warming: int = Field(default=0, ge=0, description="Of `requests`: a replica's first, whose misses do not count.")
    left_early: int = Field(default=0, ge=0, description="Clients that hung up in time; not among `requests`.")
    infrastructure: int = Field(default=0, ge=0, description="Cut by ourselves; not among `requests`.")
    asked: int = Field(default=0, ge=0, description="Arrivals, of a session the first only: what the split is held to.")
    miss_runs: Runs | None = Field(default=None, description="How misses followed each other. None: independent.")
    clustered: Clustered | None = Field(
        default=None, description="Misses once more, each session's requests side by side, the first ten of it."
    )
    streamed: int = Field(default=0, ge=0, description="Of `requests`: asked for as streams.")
    whole: Clustered | None = Field(
        default=None, description="The same where every answer is held to limits on its end, `untold` ones too."
    )
    error_runs: Runs | None = None
    refusal_runs: Runs | None = None
    cut: int | None = Field(default=None, description="Of `truncated`: two of a session at most. None: all.")
    errors_clustered: Clustered | None = Field(default=None, description="Errors as `clustered` has misses.")
    refusals_clustered: Clustered | None = Field(default=None, description="Refusals as `clustered` has misses.")
    left_clustered: Clustered | None = Field(
        default=None, description="Clients that hung up in time among those and `requests`, as `clustered`."
    )
    later_clustered: Clustered | None = Field(
        default=None, description="Misses of requests behind the first ten of a session: ten more, far apart."
    )

    @property
    def told(self) -> int:
        """Requests of which it is known whether they missed a limit, and which count."""
        return self.requests - self.untold - self.warming


class Comparison(Value):
    """Canary's ratio minus stable's with an anytime-valid interval at the rollout's confidence."""

    name: str = Field(examples=["slo_miss_ratio", "error_ratio", "refusal_ratio"])
    replayed: bool = Field(default=False, description="Of requests we sent ourselves, not of users'.")
    canary_ratio: float
    stable_ratio: float | None
    difference: float
    low: float
    high: float
    margin: float
    equal: bool = Field(default=False, description="The canary may still equal stable: nothing fails before.")

    @property
    def certainly_worse(self) -> bool:
        """Beyond the margin, and not for having looked so often at an equal canary."""
        return self.low > self.margin and not self.equal


class LatencyEffect(Value):
    """A percentile of the canary's latencies minus stable's, engine time, with an anytime-valid interval.

    All intervals of a look hold together at the rollout's confidence. Resolved to 1.8 % of either percentile.
    """

    metric: LatencyMetric
    percentile: float
    replayed: bool = Field(default=False, description="Of requests we sent ourselves, not of users'.")
    canary_ms: float
    stable_ms: float
    difference_ms: float
    low_ms: float | None = Field(description="None: not known yet.")
    high_ms: float | None
    margin_ms: float | None = Field(default=None, description="None: shown only, it fails no step.")
    certainly_worse: bool = Field(default=False, description="Beyond its margin, at the rollout's error rates.")
    certainly_within: bool = Field(default=False, description="Within its margin, at the rollout's error rates.")


class ReplaySource(Value):
    """What replayed requests are made of: a recording of the service's own users, or its declared workload."""

    recorded: int = Field(default=0, ge=0, description="Users' requests that the replays rest on. 0: the workload.")
    recorded_s: float = Field(default=0, ge=0, description="From the first of them to the last, engine time.")
    workload: str = Field(default="", description="What is sent instead of a recording.")
    why: str = Field(default="", description="Why not the recording.")


class LoadProof(Value):
    """Which load per canary replica the step was to prove, and which it was judged at. Engine time."""

    wanted_rps: float = Field(gt=0, description="What a replica will carry once promoted, unless declared otherwise.")
    reached_rps: float = Field(ge=0, description="Users' and replayed requests a replica finished per second, lately.")
    replayed_share: float = Field(default=0, ge=0, le=1)
    proven: bool
    collapses: int = Field(default=0, ge=0, description="Attempts in a row at which the canary did not keep up.")
    hanging: int = Field(default=0, ge=0, description="Replayed requests without a token, overtaken by later ones.")
    note: str = Field(default="", description="Why no more was sent, if so.")
    source: ReplaySource | None = Field(default=None, description="None: nothing was replayed yet.")


class Strata(Value):
    """Users' requests of the canary beside like ones of stable's, and how far the canary's load falls short."""

    canary: Counts = Field(description="Those that found a like.")
    stable: Counts = Field(description="Their likes, three for each.")
    unmatched: int = Field(ge=0, description="Of the canary's: no like of stable's came.")
    busier: float = Field(ge=0, le=1, description="Share of stable's admitted with more in flight than any canary's.")


class Promise(Value):
    """What the study that recommended the canary promised of one replica, requests per second of engine time."""

    study_id: StudyId
    predicted_rps: float | None = Field(description="The twin's forecast of the capacity, before anything ran.")
    confirmed_rps: float | None = Field(description="The capacity as measured again, with its interval.")
    confirmed_low_rps: float | None = None
    confirmed_high_rps: float | None = None


class Shown(Value):
    """What live traffic shows of a promise so far."""

    promise: Promise
    carried_rps: float = Field(ge=0, description="Requests per second a replica finished lately, engine time.")
    miss_ratio: float = Field(ge=0, le=1, description="Of users' and replayed requests together.")
    allowed_ratio: float = Field(ge=0, le=1, description="Misses that the limits allow, and up to which it promised.")
    contradiction: str | None = Field(default=None, description="Why the step is held: both cannot be true.")


class Analysis(Value):
    verdict: Verdict
    reason: str
    at: AwareDatetime
    canary: Counts
    stable: Counts | None = None
    replayed: Counts | None = Field(default=None, description="Requests we sent to the canary; never users'.")
    load: LoadProof | None = Field(default=None, description="None: no load was to be proven.")
    shown: Shown | None = Field(default=None, description="None: not from a study.")
    strata: Strata | None = Field(default=None, description="None: no user's request, or nothing to match by.")
    comparisons: tuple[Comparison, ...] = ()
    effects: tuple[LatencyEffect, ...] = Field(default=(), description="How much slower the canary is, or faster.")
    doubt: str | None = Field(
        default=None, description="Why a person has to look, whatever the comparisons say: no pass, and no `proceed`."
    )
    guard: str | None = Field(default=None, description="The guard rail that fired, e.g. crash_loop.")
