"""What a rollout's judge says in the three words that a tool of somebody else's can act on. Pure."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from controlplane.domain.base import RolloutId, Value
from controlplane.domain.rollouts.analysis import Verdict
from controlplane.domain.rollouts.rollout import Rollout, RolloutState


class Told(StrEnum):
    """Go on, go back, or wait."""

    SAFE = "safe"
    HARM = "harm"
    UNDECIDED = "undecided"


class ToldVerdict(Value):
    """Of a service's newest rollout."""

    verdict: Told
    reason: str
    rollout_id: RolloutId | None = None
    weight_percent: int | None = Field(default=None, description="The step that it is about; None: no step, or all.")


def told_verdict(rollout: Rollout | None, *, weight: int | None = None) -> ToldVerdict:
    """Return what to say of a rollout: its end, else the verdict of its present step. Nothing measured is undecided.

    With `weight` a step of another weight is undecided: who moves the traffic may be a step ahead.
    """
    if rollout is None:
        return ToldVerdict(verdict=Told.UNDECIDED, reason="no rollout")
    step = rollout.steps[-1] if rollout.steps else None
    if weight is not None and rollout.state is RolloutState.PROGRESSING and step and step.weight_percent != weight:
        reason = f"the step judged has weight {step.weight_percent}, not {weight}"
        return ToldVerdict(verdict=Told.UNDECIDED, reason=reason, rollout_id=rollout.rollout_id)
    analysis = None if step is None else step.analysis
    said = _told(rollout.state, None if analysis is None else analysis.verdict)
    is_over = said is not Told.UNDECIDED and rollout.state is not RolloutState.PROGRESSING
    return ToldVerdict(
        verdict=said,
        reason=rollout.reason or "" if is_over or analysis is None else analysis.reason,
        rollout_id=rollout.rollout_id,
        weight_percent=None if step is None else step.weight_percent,
    )


def _told(state: RolloutState, verdict: Verdict | None) -> Told:
    match state:
        case RolloutState.PROMOTING | RolloutState.PROMOTED:
            return Told.SAFE
        case RolloutState.ABORTING | RolloutState.ABORTED:
            return Told.HARM
        case RolloutState.PENDING | RolloutState.PAUSED | RolloutState.HALTED:
            return Told.UNDECIDED
        case RolloutState.PROGRESSING:
            return _of_a_step(verdict)


def _of_a_step(verdict: Verdict | None) -> Told:
    match verdict:
        case Verdict.PASS:
            return Told.SAFE
        case Verdict.FAIL:
            return Told.HARM
        case Verdict.INCONCLUSIVE | Verdict.ERROR | None:
            return Told.UNDECIDED
