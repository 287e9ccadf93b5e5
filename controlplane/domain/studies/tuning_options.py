"""How a service is tuned: what is wanted, which knobs may be turned, and what a study may use."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from pydantic import Field, model_validator

from controlplane.domain.adapters import AdapterName
from controlplane.domain.base import Value
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.report import MAX_LAG_MS


class ObjectiveKind(StrEnum):
    LOWEST_COST = "lowest_cost"  # USD per hour at the target QPS, headroom included
    HIGHEST_GOODPUT = "highest_goodput"  # requests per second within the SLOs on the given GPUs


class Objective(Value):
    kind: ObjectiveKind = ObjectiveKind.LOWEST_COST
    headroom: float = Field(default=0.15, ge=0, lt=1, description="Share of each replica's capacity kept free.")
    spare_replicas: int = Field(default=0, ge=0, description="1 is N+1.")


class Knob(Value):
    """One dimension of the search: either `choices` or a range."""

    choices: tuple[FlagValue | None, ...] | None = Field(default=None, description="null means: leave the flag out.")
    low: float | None = None
    high: float | None = None
    step: float | None = Field(default=None, gt=0)
    log: bool = False

    @model_validator(mode="after")
    def _one_form(self) -> Knob:
        ranged = self.low is not None and self.high is not None
        if (self.choices is not None) == ranged:
            raise ValueError("give either choices or both low and high")
        if self.choices is not None and not self.choices:
            raise ValueError("choices is empty")
        if ranged and self.low > self.high:  # type: ignore[operator]  # both are numbers here
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


class Budget(Value):
    """The study stops at the first limit it meets. Baseline and confirmation count too."""

    engine_starts: int = Field(default=12, ge=1)
    gpu_hours: float | None = Field(default=None, gt=0)
    wall_clock_s: float | None = Field(default=None, gt=0)


class LevelOptions(Value):
    """How long one rate level may take, in emulated seconds."""

    min_s: float = Field(default=10, gt=0, description="No level ends before, however clear it seems.")
    max_s: float = Field(
        default=60, gt=0, description="A whole level's time, where it holds enough requests for every percentile."
    )
    longest_s: float | None = Field(
        default=None,
        gt=0,
        description="A level whose percentiles need more requests goes on so long, then claims less. None: 5 × max_s.",
    )
    bursts_s: float = Field(
        default=1800,
        ge=0,
        description="The fleet check under a trace's own arrivals, at least: in minutes their bursts do not show.",
    )
    warmup_s: float = Field(default=2, ge=0, description="At least; longer while the engine fills up.")
    precision: float = Field(default=0.05, gt=0, lt=1, description="Bisection ends at this relative width.")
    max_lag_ms: float | None = Field(
        default=None,
        ge=MAX_LAG_MS,
        le=1000,
        description="How late generators may send (P99) for a level to count: their lag is in every latency. None: 10.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> LevelOptions:
        if self.min_s > self.max_s:
            raise ValueError(f"min_s {self.min_s} is above max_s {self.max_s}")
        if self.longest_s is not None and self.longest_s < self.max_s:
            raise ValueError(f"longest_s {self.longest_s} is below max_s {self.max_s}")
        return self

    @property
    def most_s(self) -> float:
        """How long a level may measure at most."""
        return 5 * self.max_s if self.longest_s is None else self.longest_s


class QualityOptions(Value):
    """How different a lossy configuration's answers may be from the baseline's. Emulated engines are not asked."""

    enabled: bool = Field(default=True, description="Off lets lossy configurations win unchecked.")
    min_token_agreement: float = Field(
        default=0.8, ge=0, le=1, description="Mean share of a greedy answer before the first token that differs."
    )
    max_logprob_drift: float = Field(
        default=0.1, gt=0, description="Mean absolute difference of the prompt tokens' log probabilities, nats."
    )
    prompts: str | None = Field(default=None, description="File, one prompt a line; None: a small shipped set.")
    command: tuple[str, ...] | None = Field(
        default=None, description="Prints a score as its last line; {url} and {model} are filled in."
    )
    min_score: float | None = Field(default=None, description="What the command must score at least.")

    @model_validator(mode="after")
    def _scored(self) -> QualityOptions:
        if (self.command is None) != (self.min_score is None):
            raise ValueError("command and min_score belong together")
        return self


class Strategy(StrEnum):
    """What chooses the next configuration. All write the same record, which any Optuna tool reads."""

    TWIN = "twin"  # ours; without a forecast a plain Gaussian-process search
    TPE = "tpe"  # Optuna's
    GP = "gp"  # Optuna's; needs torch
    RANDOM = "random"


class TrialAdapter(Value):
    """A LoRA adapter that every trial's engine loads, and how many of its requests ask for it."""

    path: str = Field(min_length=1, max_length=1000, description="Folder or hub name, as engines read it.")
    share_percent: float = Field(ge=0, le=100, description="Of requests. What is left asks for the model itself.")


class TuningOptions(Value):
    objective: Objective = Objective()
    space: Mapping[str, Knob] = Field(
        default_factory=dict, description="Flag name → knob. Empty: the default space for the model and GPUs."
    )
    variants: bool = Field(
        default=False, description="Try the registry's variants of the served version too (AWQ, GPTQ, FP8, GGUF)."
    )
    adapters: Mapping[AdapterName, TrialAdapter] | None = Field(
        default=None,
        description="What trials load and ask for beside the model. None: what is served, by the last day's shares.",
    )
    budget: Budget = Budget()
    levels: LevelOptions = LevelOptions()
    quality: QualityOptions = QualityOptions()
    confirm_fleet: bool = Field(
        default=True, description="Check the recommended replicas together, behind a gateway, at the target rate."
    )
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="With what probability the recommended fleet is to hold the target."
    )
    strategy: Strategy = Field(
        default=Strategy.TWIN, description="twin: ours. tpe, gp (needs torch) and random: Optuna's samplers."
    )
    seed: int = 0

    @model_validator(mode="after")
    def _shared(self) -> TuningOptions:
        total = sum(each.share_percent for each in (self.adapters or {}).values())
        if total > 100.01:  # shares that were seen are rounded
            raise ValueError(f"adapters: their shares sum to {total:g} %")
        return self

    @property
    def asked_adapters(self) -> Mapping[str, float]:
        """The adapters that requests of trials ask for, with their shares, 0 to 1."""
        return {name: each.share_percent / 100 for name, each in (self.adapters or {}).items() if each.share_percent}
