"""One search over engine configurations: studies, their trials, and what comes out.

A trial is one engine start plus a rate ladder. Its result is *feasible* (meets the constraints), *infeasible* (cannot
start, or misses an SLO at any useful rate: deterministic, taught to the sampler) or *failed* (the experiment broke:
retried, never scored).
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from pydantic import AwareDatetime, Field, model_validator

from controlplane.domain.base import RevisionId, RolloutId, ServiceName, StudyId, TrialId, Value
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.quality import QualityCheck
from controlplane.domain.report import LoadTestReport
from controlplane.domain.rollouts.analysis import Analysis, Verdict
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.answer import Answer, Chances
from controlplane.domain.studies.calibration import Calibration
from controlplane.domain.studies.capacity import Capacity, FleetSize
from controlplane.domain.studies.study_plan import StudyPlan
from controlplane.domain.studies.warm_up import WarmUp


class StudyState(StrEnum):
    PENDING = "pending"  # waits for a tuner worker
    RUNNING = "running"
    PAUSED = "paused"  # no new trial starts; the running one finishes
    DONE = "done"  # recommendation (or "no improvement") is there
    FAILED = "failed"  # cannot go on; `reason` says why
    ABORTED = "aborted"


STUDY_FINAL = frozenset({StudyState.DONE, StudyState.FAILED, StudyState.ABORTED})


STUDY_LEASE_S = 30.0
"""A worker whose last heartbeat is older is lost: others do its trials again, and its engines are reaped."""


class TrialKind(StrEnum):
    BASELINE = "baseline"
    SEARCH = "search"
    CONFIRM_WINNER = "confirm_winner"
    CONFIRM_BASELINE = "confirm_baseline"
    CONFIRM_FLEET = "confirm_fleet"  # the chosen number of replicas behind a gateway, at the target rate


class TrialState(StrEnum):
    RUNNING = "running"
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    FAILED = "failed"


class Level(Value):
    """One rate of a trial's ladder."""

    rate_rps: float
    passed: bool
    certain: bool = Field(description="The sequential test decided; else the point estimate did at the time limit.")
    reason: str
    report: LoadTestReport
    records_path: str | None = None
    warmup_s: float | None = Field(default=None, description="Not measured, emulated; None: the service's option.")
    replicas: int | None = Field(default=None, ge=1, description="Of a fleet check: the fleet that was loaded.")
    spare: int = Field(default=0, ge=0, description="Of these, left without load, as the fleet is to do without them.")

    def each_rps(self, trial: Trial) -> float:
        """Return requests/s for each replica of its trial that carried some."""
        return self.rate_rps / ((self.replicas or trial.replicas) - self.spare)


class Trial(Value):
    """One configuration tried once."""

    trial_id: TrialId
    study_id: StudyId
    number: int = Field(ge=0)
    kind: TrialKind
    config: EngineConfig
    replicas: int = Field(default=1, ge=1, description="Engines with this configuration: several for a whole fleet.")
    state: TrialState
    attempt: int = Field(default=1, ge=1, description="Counts retries after failures of the infrastructure.")
    attempts_before: int = Field(default=0, ge=0, description="Of them, before the study was gone on with.")
    first_started_at: AwareDatetime | None = Field(default=None, description="The first attempt since; None: the only.")
    levels: tuple[Level, ...] = ()
    capacity: Capacity | None = None
    fleet: FleetSize | None = Field(default=None, description="Replicas and cost at the target QPS with headroom.")
    held_replicas: int | None = Field(
        default=None, ge=1, description="Of a fleet check: the fewest of its engines that held the load together."
    )
    usd_per_million_tokens: float | None = None
    waited_s: float = Field(default=0.0, ge=0, description="For free GPUs, before the attempt's first engine started.")
    startup_s: float | None = None
    warm_up: WarmUp | None = Field(default=None, description="After the start, before the first level; None: none.")
    start_failure: StartFailure | None = None
    reason: str | None = Field(default=None, description="Why infeasible or failed; what fewer replicas did.")
    quality: QualityCheck | None = Field(default=None, description="Only for lossy configurations.")
    predicted: dict[str, float] = Field(default_factory=dict, description="What the twin expected, e.g. capacity_rps.")
    started_at: AwareDatetime
    finished_at: AwareDatetime | None = None
    worker: str | None = None
    host: str | None = Field(default=None, description="Where its engine runs; its GPUs are taken there.")
    heartbeat_at: AwareDatetime | None = None
    optuna_number: int | None = Field(default=None, description="The trial's number in the Optuna study.")

    @property
    def tries(self) -> int:
        """Attempts since the study began, or was gone on with."""
        return self.attempt - self.attempts_before

    @property
    def gpus(self) -> int:
        """GPUs that all its engines take."""
        return self.replicas * self.config.gpus_per_replica

    @property
    def start_s(self) -> float | None:
        """Wall-clock seconds until it could be measured: its start and its warm-up; None while it is not up."""
        if self.startup_s is None:
            return None
        return self.startup_s + (0.0 if self.warm_up is None else self.warm_up.took_s)

    @property
    def held_together(self) -> int:
        """Engines that a fleet check which held is worth: all of them, unless fewer held as well."""
        return self.replicas if self.held_replicas is None else self.held_replicas

    @property
    def loaded_replicas(self) -> int:
        """The fleet that a running fleet check loads: all engines until they held together, then one fewer."""
        return self.replicas if self.held_replicas is None else self.held_replicas - 1

    def spared(self, spare_replicas: int) -> int:
        """Return how many of `loaded_replicas` get no load: the service's spare ones, one at least being left."""
        return min(spare_replicas, self.loaded_replicas - 1) if self.kind is TrialKind.CONFIRM_FLEET else 0


class FleetCheck(Value):
    """Whether the recommended replicas, behind a gateway, carried the target together on arrivals never seen before."""

    held: bool | None = Field(description="None: not checked, `reason` says why.")
    reason: str
    replicas: int = Field(ge=1)
    rate_rps: float | None = None
    trial_id: TrialId | None = None
    fewer: str | None = Field(default=None, description="What fewer replicas did, where that was tried.")


class Confirmed(Value):
    """What winner or baseline was worth when both were measured again: the best of many trials was also lucky."""

    capacity: Capacity
    fleet: FleetSize
    usd_per_million_tokens: float | None = None


class Side(NamedTuple):
    """Baseline or winner, and what it is worth; `trial` has the levels to show."""

    trial: Trial
    capacity: Capacity | None
    fleet: FleetSize | None
    usd_per_million_tokens: float | None


class StudyEvidence(Value):
    """What a recommendation rests on."""

    trial_ids: tuple[TrialId, ...]
    baseline: Trial
    winner: Trial
    confirmations: tuple[Trial, ...] = ()
    cost_ratio: float = Field(
        description="Winner's cost over baseline's at the target; below 1 is cheaper. 1: the baseline took no load."
    )
    cost_ratio_low: float
    cost_ratio_high: float
    engine_version: str
    gpu: str
    seed: int
    time_lapse: float = 1.0
    quality: QualityCheck | None = Field(default=None, description="The winner's; None when it is not lossy.")
    confirmed_baseline: Confirmed | None = Field(default=None, description="None: not measured again, or no capacity.")
    confirmed_winner: Confirmed | None = Field(default=None, description="None too when nothing was better.")
    fleet_check: FleetCheck | None = Field(default=None, description="None: switched off, or there is no winner.")

    @property
    def compares(self) -> bool:
        """True when the baseline took any load: else the cost ratio says nothing."""
        took_load = self.baseline.state is not TrialState.INFEASIBLE or bool(self.baseline.levels)
        return took_load or self.confirmed_baseline is not None

    def sides(self) -> tuple[Side, Side]:
        """Return baseline and winner as they are to be shown: as measured again, else as the search saw them."""
        return (
            self._side(self.baseline, self.confirmed_baseline, TrialKind.CONFIRM_BASELINE),
            self._side(self.winner, self.confirmed_winner, TrialKind.CONFIRM_WINNER),
        )

    def _side(self, trial: Trial, confirmed: Confirmed | None, kind: TrialKind) -> Side:
        again = [t for t in self.confirmations if t.kind is kind and t.capacity is not None]
        if confirmed is None or not again:
            return Side(trial, trial.capacity, trial.fleet, trial.usd_per_million_tokens)
        return Side(again[-1], confirmed.capacity, confirmed.fleet, confirmed.usd_per_million_tokens)


class Recommendation(Value):
    """A winner, its replica count and its evidence; or the plain statement that nothing was better."""

    study_id: StudyId
    service: ServiceName
    improvement: bool = Field(description="Whether the configuration is worth a rollout.")
    answer: Answer | None = Field(default=None, description="None: of a study before answers were told apart.")
    chances: Chances | None = Field(default=None, description="How sure that is; None as for the answer.")
    next_step: str | None = Field(default=None, description="What to run to make an uncertain answer a certain one.")
    summary: str
    config: EngineConfig
    fleet: FleetSize
    evidence: StudyEvidence
    created_at: AwareDatetime
    applied_revision: RevisionId | None = None

    @property
    def title(self) -> str:
        """The answer in a few words; of an old study what its improvement says."""
        if self.answer is not None:
            return self.answer.words
        return Answer.IMPROVEMENT.words if self.improvement else Answer.NO_IMPROVEMENT.words

    @model_validator(mode="after")
    def _agrees(self) -> Recommendation:
        if self.answer is not None and self.answer.is_improvement != self.improvement:
            raise ValueError(f"answer {self.answer.value} and improvement {self.improvement} contradict each other")
        return self


class LiveOutcome(Value):
    """What live traffic said of a recommendation: an observation of the study, made by its rollout."""

    rollout_id: RolloutId
    promoted: bool
    reason: str
    at: AwareDatetime
    analyses: tuple[Analysis, ...] = Field(default=(), description="The deciding judgement of each step.")

    @property
    def is_refuted(self) -> bool:
        """True when the canary was judged worse, not merely called back by a person or for want of samples."""
        return not self.promoted and any(analysis.verdict is Verdict.FAIL for analysis in self.analyses)


class EarlierCapacity(Value):
    """What an earlier study measured, taken as a prior only."""

    config: EngineConfig
    rps: float = Field(gt=0)


class WarmStart(Value):
    """An earlier study of the same service whose capacities the search begins with."""

    study_id: StudyId
    capacities: tuple[EarlierCapacity, ...]


class Study(Value):
    study_id: StudyId
    service: ServiceName
    spec: ServiceSpec = Field(description="The service as it was when the study was created.")
    baseline: EngineConfig
    state: StudyState
    apply_when_done: bool = False
    reason: str | None = None
    created_at: AwareDatetime
    started_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None
    created_by: str = "cli"
    recommendation: Recommendation | None = None
    engine_version: str | None = None
    warm_start: WarmStart | None = None
    outcomes: tuple[LiveOutcome, ...] = Field(default=(), description="Of the rollouts of its recommendation.")
    gpu_seconds: float = 0.0
    engine_starts: int = Field(default=0, description="That count against the budget.")
    wasted_starts: int = Field(default=0, description="Lost to interruptions and broken experiments; not counted.")
    plan: StudyPlan | None = Field(default=None, description="How the budget is divided, kept up to date.")
    calibration: Calibration | None = Field(default=None, description="Of the twin, by the baseline's own levels.")
    idle_s: float = Field(default=0.0, ge=0, description="Between an end and going on with a larger budget.")

    def ran_s(self, until: datetime) -> float:
        """Return the seconds it ran until then, the time between an end and going on left out."""
        return 0.0 if self.started_at is None else (until - self.started_at).total_seconds() - self.idle_s
