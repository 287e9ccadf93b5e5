"""A rollout: one attempt to make a revision stable. Values only; `rollout_policy` decides what happens next.

States and who may follow whom are the table `TRANSITIONS`. A promotion that has begun is halted, never aborted.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import AwareDatetime, Field

from controlplane.domain.analysis import Analysis
from controlplane.domain.base import RevisionId, RolloutId, ServiceName, StudyId, Value
from controlplane.domain.service import RolloutOptions


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
    RolloutState.PENDING: frozenset({RolloutState.PROGRESSING, RolloutState.PAUSED, RolloutState.ABORTING}),
    RolloutState.PROGRESSING: frozenset({RolloutState.PAUSED, RolloutState.PROMOTING, RolloutState.ABORTING}),
    RolloutState.PAUSED: frozenset(
        {RolloutState.PENDING, RolloutState.PROGRESSING, RolloutState.PROMOTING, RolloutState.ABORTING}
    ),
    RolloutState.PROMOTING: frozenset({RolloutState.PROMOTED, RolloutState.HALTED}),
    RolloutState.HALTED: frozenset({RolloutState.PROMOTING}),
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


class Rollout(Value):
    rollout_id: RolloutId
    service: ServiceName
    canary: RevisionId
    stable: RevisionId | None = Field(description="None: nothing served before; the canary is promoted when ready.")
    canary_replicas: int = Field(ge=1)
    state: RolloutState
    options: RolloutOptions
    study_id: StudyId | None = None
    step_index: int = 0
    steps: tuple[StepRecord, ...] = ()
    reason: str = ""
    created_at: AwareDatetime
    updated_at: AwareDatetime
    finished_at: AwareDatetime | None = None
    canary_crashes: int = 0

    @property
    def weight_percent(self) -> int:
        """The canary's share of traffic that this state asks for."""
        match self.state:
            case RolloutState.PENDING | RolloutState.ABORTING | RolloutState.ABORTED:
                return 0
            case RolloutState.PROMOTING | RolloutState.PROMOTED | RolloutState.HALTED:
                return 100
            case RolloutState.PROGRESSING | RolloutState.PAUSED:
                return self.steps[-1].weight_percent if self.steps else 0
