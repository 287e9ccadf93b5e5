"""`service.yaml`: everything a user says about one served model. Its JSON Schema comes from `fleetune schema`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, model_validator

from controlplane.domain.alerts import AlertOptions
from controlplane.domain.autoscale_options import AutoscaleOptions
from controlplane.domain.base import ServiceName, Value
from controlplane.domain.cluster import ClusterOptions
from controlplane.domain.drift import DriftOptions
from controlplane.domain.engine import EngineConfig, EngineKind, Flags
from controlplane.domain.engines.driver import EngineDriver
from controlplane.domain.engines.drivers import check_mapping, driver_of, engine_key
from controlplane.domain.flags import FlagValue
from controlplane.domain.gateway_options import GatewayOptions
from controlplane.domain.hardware import GpuPool
from controlplane.domain.report import MAX_LAG_MS
from controlplane.domain.schedule import ScheduleSpec
from controlplane.domain.slo import SloSet
from controlplane.domain.workload import Workload

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]


class ModelSpec(Value):
    """The served model. `path` is what the engine gets; the twin reads its layers from the folder's config.json.

    With a hub name (`meta-llama/Llama-3.1-8B`) there is no config.json to read here: real engines serve it, but the
    twin cannot predict it. The emulator also takes the name of a shape that ships with Fleetune.
    """

    name: str = Field(description="The name clients use in `model`.", examples=["llama-70b"])
    path: str = Field(description="Model folder, hub name, or a shipped shape: llama-1b, llama-8b, llama-70b.")


class EmulatorOptions(Value):
    """Only for engine kind emulator."""

    profile: str | None = Field(default=None, description="Twin profile; None picks by model and GPU.")
    startup_s: float = Field(default=2.0, ge=0, description="Emulated start-up, shortened.")
    time_lapse: float = Field(default=1.0, ge=0.1, le=50, description="Emulated seconds per wall-clock second.")
    max_lag_ms: float = Field(
        default=MAX_LAG_MS,
        ge=MAX_LAG_MS,
        le=1000,
        description="Wall clock. More lets figures count that are the host's.",
    )


class EngineOptions(Value):
    kind: EngineKind
    command: tuple[str, ...] | None = Field(
        default=None, description="Command template instead of the kind's own; {model} {host} {port} {args}."
    )
    mapping: EngineDriver | None = Field(
        default=None, description="Only for kind command: how such an engine is driven. In a file: its path."
    )
    version: str | None = Field(default=None, description="vLLM version whose flags are allowed; None: 0.26.")
    flag_file: str | None = Field(
        default=None, description="Flags of a version that does not ship, as `fleetune knobs extract` writes them."
    )
    flags: Flags = Field(default_factory=dict, description="Base flags, on every replica, as the engine takes them.")
    env: Mapping[str, str] = Field(default_factory=dict)
    start_timeout_s: float = Field(default=900, gt=0)
    emulator: EmulatorOptions = EmulatorOptions()

    @model_validator(mode="after")
    def _driven(self) -> EngineOptions:
        check_mapping(self.kind, self.mapping)
        return self

    @property
    def driver(self) -> EngineDriver:
        """How these engines are launched, read and spoken to."""
        return driver_of(self.kind, self.mapping)

    @property
    def api_key(self) -> str | None:
        """The key that these engines ask their clients for, None when they ask for none."""
        return engine_key(self.driver, self.flags, self.env)

    @property
    def time_lapse(self) -> float:
        """Emulated seconds per wall-clock second: 1 for real engines."""
        return self.emulator.time_lapse if self.kind is EngineKind.EMULATOR else 1.0

    @property
    def max_lag_ms(self) -> float:
        """How late a load generator may be for its figures to be believed, ms of wall clock (P99)."""
        return self.emulator.max_lag_ms if self.kind is EngineKind.EMULATOR else MAX_LAG_MS


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


class TuningOptions(Value):
    objective: Objective = Objective()
    space: Mapping[str, Knob] = Field(
        default_factory=dict, description="Flag name → knob. Empty: the default space for the model and GPUs."
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


class CeilingPolicy(StrEnum):
    """What happens when a step's time is over and the verdict is still inconclusive."""

    ABORT = "abort"
    PROCEED = "proceed"
    PAUSE = "pause"


class StepSpec(Value):
    """One step of a rollout: a weight to reach and how to judge it."""

    weight_percent: int = Field(ge=1, le=100)
    min_samples: int = Field(default=50, ge=1, description="Finished canary requests before any pass.")
    min_s: float = Field(default=10, ge=0)
    max_s: float = Field(default=600, gt=0)
    on_ceiling: CeilingPolicy = CeilingPolicy.PAUSE
    load_rps: float | None = Field(
        default=None,
        ge=0,
        description="Requests per second a canary replica is to be judged at, engine time. None: what it will carry "
        "once promoted at the target rate; 0: no load is to be proven.",
    )


class RolloutOptions(Value):
    steps: tuple[StepSpec, ...] = (
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
    match_load: bool = Field(
        default=True, description="Make up a step's load by replayed requests to the canary's replicas alone."
    )
    load_share: float = Field(default=0.8, gt=0, le=1, description="Share of the declared load that proves it.")
    on_unproven_load: Literal[CeilingPolicy.PAUSE, CeilingPolicy.PROCEED] = Field(
        default=CeilingPolicy.PAUSE, description="Before 100 %, when the declared load was not reached."
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
    guard_collapses: int = Field(
        default=3, ge=1, description="Attempts in a row at the declared load that the canary cannot keep up with."
    )
    guard_window_s: float = Field(default=5, gt=0)
    capacity_wait_s: float = Field(default=600, ge=0, description="Wait this long for missing GPUs, then abort.")

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

    @property
    def false_promotion(self) -> float:
        """Probability with which a canary worse by a margin may be promoted."""
        return self.promote_worse or 1 - self.confidence

    @property
    def false_abort_per_step(self) -> float:
        """Probability of aborting an equal canary, spent evenly: any step may abort it."""
        return (self.abort_equal or 1 - self.confidence) / len(self.steps)


class ServiceSpec(Value):
    """One served model: what it is, what it runs on, what it promises, and how it may be changed."""

    version: Literal[1] = 1
    name: Name
    model: ModelSpec
    engine: EngineOptions
    gpus: GpuPool
    workload: Workload
    slos: SloSet
    tuning: TuningOptions = TuningOptions()
    rollout: RolloutOptions = RolloutOptions()
    gateway: GatewayOptions = GatewayOptions()
    autoscale: AutoscaleOptions = AutoscaleOptions()
    alerts: AlertOptions = AlertOptions()
    drift: DriftOptions = DriftOptions()
    kubernetes: ClusterOptions | None = Field(default=None, description="For a fleet on a cluster, and `render`.")
    schedules: tuple[ScheduleSpec, ...] = ()
    follows: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-z0-9._-]{0,63}@[a-z][a-z0-9-]{0,30}$",
        examples=["llama@candidate"],
        description="model@alias of the registry: where the alias moves, that version goes out as a canary.",
    )
    initial_replicas: int = Field(default=1, ge=0, description="Replicas of the base flags when nothing serves yet.")

    @property
    def service(self) -> ServiceName:
        return ServiceName(self.name)

    @property
    def baseline(self) -> EngineConfig:
        """vLLM's defaults with the user's base flags: what serves when nothing was rolled out yet."""
        return EngineConfig(flags=self.engine.flags)
