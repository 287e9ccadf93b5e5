"""What the audit says of a rollout. Pure."""

from __future__ import annotations

from datetime import datetime

from controlplane.domain.event import Event
from controlplane.domain.rollouts.answers import describe_answers
from controlplane.domain.rollouts.rollout import Rollout, StepRecord


def events_between(before: Rollout | None, after: Rollout, *, actor: str, now: datetime) -> tuple[Event, ...]:
    """Return what the audit says of a change: the new state, a step begun, a step's verdict."""
    happened: list[tuple[str, str]] = []
    if after.answers is not None and (before is None or before.answers is None):
        happened.append(("rollout.answers", describe_answers(after.answers)))
    for index, step in enumerate(after.steps):
        former = before.steps[index] if before and index < len(before.steps) else None
        if former is None:
            happened.append(("rollout.step", f"step {step.index + 1}: {step.whose}"))
        if step.finished_at and not (former and former.finished_at):
            happened.append(("rollout.verdict", _verdict_of(step)))
    if before is None or before.state is not after.state:
        happened.append((f"rollout.{after.state.value}", after.reason))
    return tuple(_event(after, action, reason, actor=actor, now=now) for action, reason in happened)


def early_users_events(rollout: Rollout, *, actor: str, now: datetime) -> tuple[Event, ...]:
    """Return what the audit says, once, of a rollout whose users come before its load is proven."""
    said = rollout.options.early_users if rollout.stable is not None and not rollout.at_once else None
    return () if said is None else (_event(rollout, "rollout.early_users", said, actor=actor, now=now),)


def _event(rollout: Rollout, action: str, reason: str, *, actor: str, now: datetime) -> Event:
    return Event(
        at=now,
        actor=actor,
        action=action,
        subject=f"rollout/{rollout.rollout_id}",
        service=rollout.service,
        reason=reason,
        details={"canary": rollout.canary, "weight_percent": rollout.weight_percent},
    )


def _verdict_of(step: StepRecord) -> str:
    judged = f"{step.analysis.verdict.value}: {step.analysis.reason}" if step.analysis else "not judged"
    return f"step {step.index + 1} at {step.weight_percent} %: {judged}"
