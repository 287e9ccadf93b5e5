"""A rollout: one attempt to make a revision stable. Values only; `rollout_policy` decides what happens next.

States and who may follow whom are the table `TRANSITIONS`. A promotion that has begun is halted, never aborted.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import AwareDatetime, Field

from controlplane.domain.base import EngineId, RevisionId, RolloutId, ServiceName, StudyId, Value
from controlplane.domain.quality import QualityCheck
from controlplane.domain.rollouts.analysis import Analysis
from controlplane.domain.rollouts.rollout_options import RolloutOptions


class RolloutState(StrEnum):
    PENDING = "pending"  # saved; canary replicas are being started
    PROGRESSING = "progressing"  # at a step, collecting samples
    PAUSED = "paused"  # weight kept, no judgement
    PROMOTING = "promoting"  # verdicts are in; the canary becomes stable
    PROMOTED = "promoted"
    ABORTING = "aborting"  # all traffic back to stable, canary draining
    ABORTED = "aborted"
    HALTED = "halted"  # stopped mid-promotion; a person must act


ROLLOUT_FINAL = frozenset({RolloutState.PROMOTED, RolloutState.ABORTED})

TRANSITIONS: dict[RolloutState, frozenset[RolloutState]] = {
    RolloutState.PENDING: frozenset(
        # Straight to PROMOTING only when nothing serves: there is nobody to compare with and nobody to return to.
        {RolloutState.PROGRESSING, RolloutState.PAUSED, RolloutState.PROMOTING, RolloutState.ABORTING}
    ),
    RolloutState.PROGRESSING: frozenset({RolloutState.PAUSED, RolloutState.PROMOTING, RolloutState.ABORTING}),
    RolloutState.PAUSED: frozenset(
        {RolloutState.PENDING, RolloutState.PROGRESSING, RolloutState.PROMOTING, RolloutState.ABORTING}
    ),
    RolloutState.PROMOTING: frozenset({RolloutState.PROMOTED, RolloutState.HALTED}),
    # Left by going on, or by counting the canary as promoted because a new rollout leads away from it.
    RolloutState.HALTED: frozenset({RolloutState.PROMOTING, RolloutState.PROMOTED}),
    RolloutState.ABORTING: frozenset({RolloutState.ABORTED}),
    RolloutState.PROMOTED: frozenset(),
    RolloutState.ABORTED: frozenset(),
}


class StepRecord(Value):
    """What happened at one step."""

    index: int
    weight_percent: int
    started_at: AwareDatetime
    finished_at: AwareDatetime | None = None
    analysis: Analysis | None = Field(default=None, description="The latest judgement; the deciding one once finished.")

    @property
    def whose(self) -> str:
        """Say whose requests the canary gets."""
        return f"{self.weight_percent} % of the traffic" if self.weight_percent else "replayed requests alone, no users"


class Rollout(Value):
    rollout_id: RolloutId
    service: ServiceName
    canary: RevisionId
    stable: RevisionId | None = Field(description="None: nothing served before; the canary is promoted when ready.")
    canary_replicas: int = Field(ge=1)
    state: RolloutState
    options: RolloutOptions
    at_once: bool = Field(default=False, description="A person's: no step, all traffic once its replicas are ready.")
    study_id: StudyId | None = None
    step_index: int = 0
    steps: tuple[StepRecord, ...] = ()
    reason: str = ""
    created_at: AwareDatetime
    updated_at: AwareDatetime
    finished_at: AwareDatetime | None = None
    canary_crashes: int = Field(default=0, ge=0, description="Canary engine exits seen so far.")
    tolerated_crashes: int = Field(default=0, ge=0, description="Of these, exits a person accepted by resuming.")
    control: tuple[EngineId, ...] = Field(
        default=(),
        description="Stable replicas as old as the canary's, which it is compared with. None: all of stable.",
    )
    answers: QualityCheck | None = Field(
        default=None,
        description="Its answers beside stable's, before any traffic. None: nothing they depend on changed.",
    )
    answers_accepted: bool = Field(default=False, description="A person went on although they differ.")
    short_since: AwareDatetime | None = Field(default=None, description="Since when GPUs for the canary are missing.")

    @property
    def wants_control(self) -> bool:
        """True while one stable replica more than serve is asked for, to compare with."""
        judged = (RolloutState.PENDING, RolloutState.PROGRESSING, RolloutState.PAUSED)
        return self.options.control_replica and self.stable is not None and self.state in judged

    @property
    def waits_for_replicas(self) -> bool:
        """True while the replicas of the step to come are started; the weight is still the former step's."""
        return not self.steps or self.steps[-1].index < self.step_index

    @property
    def patience_s(self) -> float:
        """Wall-clock seconds that it may stay where it is before a person is told."""
        options = self.options
        declared_s = options.capacity_wait_s if self.waits_for_replicas else options.steps[self.step_index].max_s
        return max(options.tell_after_s, declared_s)

    def stays_s(self, now: datetime) -> float | None:
        """Return for how long no step has begun or ended; None when it is over, or halted, which is told at once."""
        if self.state in ROLLOUT_FINAL or self.state is RolloutState.HALTED:
            return None
        moments = [at for step in self.steps for at in (step.started_at, step.finished_at) if at is not None]
        return max(0.0, (now - max([self.created_at, *moments])).total_seconds())

    @property
    def replicas_needed(self) -> int:
        """Canary replicas this state asks for: as large a part of them as the step's weight is of the traffic.

        A canary replica then carries the load it will carry once promoted, so what is judged is what is to come.
        """
        match self.state:
            case RolloutState.ABORTING | RolloutState.ABORTED:
                return 0
            case RolloutState.PROMOTING | RolloutState.PROMOTED | RolloutState.HALTED:
                return self.canary_replicas
            case RolloutState.PENDING | RolloutState.PROGRESSING | RolloutState.PAUSED:
                return self._replicas_at(self.options.steps[self.step_index].weight_percent)

    def _replicas_at(self, weight_percent: int) -> int:
        if self.stable is None or self.at_once:
            return self.canary_replicas
        return max(1, -(-self.canary_replicas * weight_percent // 100))

    @property
    def weight_percent(self) -> int:
        """The canary's share of traffic that this state asks for (given that its replicas are ready)."""
        match self.state:
            case RolloutState.PENDING | RolloutState.ABORTING | RolloutState.ABORTED:
                return 0
            case RolloutState.PROMOTING | RolloutState.PROMOTED | RolloutState.HALTED:
                return 100
            case RolloutState.PROGRESSING | RolloutState.PAUSED:
                return self.steps[-1].weight_percent if self.steps else 0
