"""How a service's rollouts go on: the steps, how each is judged, what happens without an answer."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field, model_validator

from controlplane.domain.base import Value
from controlplane.domain.slo import LatencyMetric

SHORTEST_STEP_S = 10.0
"""Of a step that does not say how long it lasts at least."""


class CeilingPolicy(StrEnum):
    """What happens when a step's time is over and the verdict is still inconclusive."""

    ABORT = "abort"
    PROCEED = "proceed"
    PAUSE = "pause"


class StepSpec(Value):
    """One step of a rollout: a weight to reach and how to judge it."""

    weight_percent: int = Field(
        ge=0,
        le=100,
        description="Of requests; of sessions where clients name them. 0: of no user's, judged by replayed requests.",
    )
    min_samples: int = Field(default=50, ge=1, description="Finished canary requests before any pass.")
    min_s: float | None = Field(
        default=None,
        ge=0,
        description="Wall clock; no pass before. None: until a request that hangs must have shown, by a limit or by "
        "the gateway's time-outs, and 10 s at least. 0: no hang is waited for.",
    )
    max_s: float = Field(default=600, gt=0)
    on_ceiling: CeilingPolicy = CeilingPolicy.PAUSE
    load_rps: float | None = Field(
        default=None,
        ge=0,
        description="Requests per second a canary replica is to be judged at, engine time. None: what it will carry "
        "once promoted at the target rate; 0: no load is to be proven.",
    )

    @model_validator(mode="after")
    def _something_to_judge(self) -> StepSpec:
        if self.weight_percent == 0 and self.load_rps == 0:
            raise ValueError("a step without users needs replayed requests: load_rps must not be 0 at weight_percent 0")
        return self

    @property
    def least_s(self) -> float:
        """No pass before so many wall-clock seconds; a started rollout has what it declares, or what hangs need."""
        return SHORTEST_STEP_S if self.min_s is None else self.min_s


class LatencyMargin(Value):
    """How much slower the canary may be at one percentile, also where it stays below the limit."""

    metric: Literal[LatencyMetric.TTFT, LatencyMetric.TPOT]
    percentile: Literal[50, 95, 99]
    margin_ms: float = Field(gt=0, description="Engine time, as the limits are.")

    def __str__(self) -> str:
        return f"P{self.percentile} {self.metric.value.removesuffix('_ms').upper()}, margin {self.margin_ms:g} ms"


class RolloutOptions(Value):
    steps: tuple[StepSpec, ...] = (
        StepSpec(weight_percent=0),
        StepSpec(weight_percent=5),
        StepSpec(weight_percent=20),
        StepSpec(weight_percent=100),
    )
    miss_ratio_margin: float = Field(default=0.05, gt=0, lt=1, description="How much more the canary may miss.")
    error_ratio_margin: float = Field(default=0.02, gt=0, lt=1)
    refusal_ratio_margin: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="How much more the canary may answer with 4xx. None: the wider of the two.",
    )
    latency_margins: tuple[LatencyMargin, ...] = Field(
        default=(),
        description="How much slower the canary may be. None: differences of latency are shown, and fail no step.",
    )
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="1 − each of the two error rates below, where they are not declared."
    )
    promote_worse: float | None = Field(
        default=None, gt=0, lt=0.5, description="Probability of promoting a canary worse by a margin. Whole rollout."
    )
    abort_equal: float | None = Field(
        default=None, gt=0, lt=0.5, description="Probability of aborting a canary equal to stable. Whole rollout."
    )
    miss_run: float = Field(
        default=2.0, ge=1, le=1000, description="Mean run of misses to reckon with before stable has shown any."
    )
    longest_run: float = Field(
        default=10.0, ge=1, le=1000, description="The same before aborting: a single run as long says nothing yet."
    )
    warm_up_requests: int = Field(
        default=10,
        ge=0,
        le=1000,
        description="A canary replica's first answers, whose misses say nothing: cold caches.",
    )
    control_replica: bool = Field(
        default=False,
        description="Start one more stable replica with the canary's, and compare with its requests alone.",
    )
    match_load: bool = Field(
        default=True, description="Make up a step's load by replayed requests to the canary's replicas alone."
    )
    load_share: float = Field(default=0.8, gt=0, le=1, description="Share of the declared load that proves it.")
    on_unproven_load: Literal[CeilingPolicy.PAUSE, CeilingPolicy.PROCEED] = Field(
        default=CeilingPolicy.PAUSE,
        description="Before the first user and before 100 %, where the load was not reached.",
    )
    on_other_answers: CeilingPolicy | None = Field(
        default=None,
        description="Before any traffic, when the canary does not answer the fixed prompts as stable does. None: abort "
        "for quantization and KV precision; pause for other weights, and where nothing could be compared.",
    )
    guard_crashes: int = Field(default=1, ge=1, description="Canary engine exits that abort at once.")
    guard_5xx_ratio: float = Field(default=0.2, gt=0, le=1, description="5xx share over the last seconds that aborts.")
    guard_truncated: int = Field(
        default=3, ge=1, description="Canary streams broken off by the engine that abort at once."
    )
    guard_hanging: int = Field(
        default=3, ge=1, description="Canary requests in flight far beyond a limit that abort at once."
    )
    guard_empty_ratio: float = Field(
        default=0.5, gt=0, le=1, description="Share of streams without a token over the last seconds that aborts."
    )
    guard_odd_ratio: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="How much larger than stable's the share of odd answers may be, over twelve windows: answers that "
        "run on until their limit, that are over after one token, or that name another model.",
    )
    guard_collapses: int = Field(
        default=3, ge=1, description="Attempts in a row at the declared load that the canary cannot keep up with."
    )
    guard_preemptions_rps: float = Field(
        default=1.0,
        gt=0,
        description="Requests a canary replica puts back per second, engine time, that abort where stable's do not.",
    )
    guard_memory_growth: float = Field(
        default=0.02,
        gt=0,
        lt=1,
        description="Steady growth that aborts where stable's memory does not grow: of a GPU's memory; of what the "
        "process held before, five times as much.",
    )
    guard_window_s: float = Field(default=5, gt=0)
    keep_former_s: float = Field(
        default=0,
        ge=0,
        le=7 * 86_400,
        description="After a promotion the replicas that served before stay started for so long, without traffic: a "
        "roll-back to them starts no engine. They hold their GPUs, and go first where the service lacks some.",
    )
    capacity_wait_s: float = Field(default=600, ge=0, description="Wait this long for missing GPUs, then abort.")
    tell_after_s: float = Field(
        default=1800,
        ge=60,
        description="A rollout is told (FleetuneRolloutStuck) that is where it is for so long, and for longer than its "
        "step or its wait for GPUs may take.",
    )

    @model_validator(mode="after")
    def _rising_to_100(self) -> RolloutOptions:
        weights = [step.weight_percent for step in self.steps]
        if not weights or weights[-1] != 100 or weights != sorted(set(weights)):
            raise ValueError(f"step weights must rise and end at 100, got {weights}")
        return self

    @model_validator(mode="after")
    def _cautious_to_abort(self) -> RolloutOptions:
        if self.longest_run < self.miss_run:
            raise ValueError(f"longest_run {self.longest_run:g} is below miss_run {self.miss_run:g}")
        return self

    @model_validator(mode="after")
    def _one_margin_per_percentile(self) -> RolloutOptions:
        declared = [(each.metric, each.percentile) for each in self.latency_margins]
        if len(declared) != len(set(declared)):
            raise ValueError("two latency_margins on the same percentile of the same metric; keep one")
        return self

    def judgeable(self) -> RolloutOptions:
        """Return them without the steps that nothing can be said at: no user, and nothing replayed either."""
        kept = tuple(step for step in self.steps if step.weight_percent or self.match_load)
        return self if kept == self.steps else self.evolve(steps=kept)

    @property
    def first_with_users(self) -> StepSpec:
        """The first step that sends users to the canary; the last one does."""
        return next(step for step in self.steps if step.weight_percent)

    @property
    def early_users(self) -> str | None:
        """Say that users get the canary before anything is proven; None where replays come first, or cannot come."""
        first = self.steps[0].weight_percent
        if first == 0 or not self.match_load:
            return None
        return (
            f"step 1 gives {first} % of the users to a canary that has proven no load yet: "
            "a step of weight_percent 0 before it would prove it by replayed requests alone"
        )

    @property
    def false_promotion(self) -> float:
        """Probability with which a canary worse by a margin may be promoted."""
        return self.promote_worse or 1 - self.confidence

    @property
    def false_abort_per_step(self) -> float:
        """Probability of aborting an equal canary, spent evenly: any step may abort it."""
        return (self.abort_equal or 1 - self.confidence) / len(self.steps)

    @property
    def compared(self) -> int:
        """How many comparisons of a step may abort: misses, errors, refusals, and latencies with a margin."""
        return 3 + len(self.latency_margins)
