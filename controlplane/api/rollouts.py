"""Rollouts: attempts to make a revision stable."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from fastapi import APIRouter, status

from controlplane.api.context import Actor, CallerOf, Context, Ctx, Limit, Page, Reader, problems, retry_stale
from controlplane.api.requests import NewRollout, Reason, service_name
from controlplane.domain.authority import code_flags
from controlplane.domain.base import RolloutId, ServiceName
from controlplane.domain.door.identity import Scope
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.rollouts.rollout import Rollout
from controlplane.domain.rollouts.rollout_report import RolloutReport
from controlplane.ports.store import Store
from controlplane.services.rollouts import manage as rollouts
from controlplane.services.rollouts.by_hand import served_replicas, start_by_hand
from controlplane.services.rollouts.report import rollout_report

router = APIRouter(prefix="/rollouts", tags=["rollouts"])


@router.get("", summary="List rollouts", responses=problems(422))
def list_rollouts(ctx: Ctx, _: Reader, service: str | None = None, limit: Limit = 50) -> Page[Rollout]:
    found = ctx.store.list_rollouts(service_name(service), limit=limit)
    return Page(items=tuple(each.value for each in found), limit=limit)


@router.post("", summary="Start a rollout", status_code=status.HTTP_201_CREATED, responses=problems(404, 409, 422))
def start_rollout(body: NewRollout, ctx: Ctx, actor: Actor, caller: CallerOf) -> Rollout:
    """Canary replicas are started beside stable; refused while another rollout of the service is under way."""
    code = code_flags(body.flags or ())
    if code:
        caller.require(Scope.ADMIN, f"this: {', '.join(code)} makes an engine load code")
    return retry_stale(lambda: _start(body, ctx, actor))


def _start(body: NewRollout, ctx: Context, actor: str) -> Rollout:
    service = ServiceName(body.service)
    if body.flags is None:
        return start_by_hand(
            ctx.store,
            service=service,
            changes=body.changes or {},
            replicas=body.replicas,
            options=body.options,
            actor=actor,
            reason=body.reason,
            now=ctx.clock(),
        )
    return rollouts.start_rollout(
        ctx.store,
        service=service,
        config=EngineConfig(flags=body.flags),
        replicas=body.replicas or served_replicas(ctx.store.get_service(service).value),
        options=body.options,
        study_id=body.study_id,
        actor=actor,
        reason=body.reason,
        now=ctx.clock(),
    )


@router.get("/{rollout_id}", summary="Show a rollout with every step's verdict", responses=problems(404))
def show_rollout(rollout_id: RolloutId, ctx: Ctx, _: Reader) -> Rollout:
    return ctx.store.get_rollout(rollout_id).value


@router.get("/{rollout_id}/report", summary="Everything about a rollout, to keep or send", responses=problems(404))
def report_rollout(rollout_id: RolloutId, ctx: Ctx, _: Reader) -> RolloutReport:
    """Steps and verdicts, the load proven, what is different, what the study promised, and the audit."""
    return rollout_report(ctx.store, rollout_id)


@router.post("/{rollout_id}/pause", summary="Keep the weight, judge nothing", responses=problems(404, 409))
def pause_rollout(rollout_id: RolloutId, body: Reason, ctx: Ctx, actor: Actor) -> Rollout:
    return _act(rollouts.pause_rollout, rollout_id, body, ctx, actor)


@router.post("/{rollout_id}/resume", summary="Go on with a paused or halted rollout", responses=problems(404, 409))
def resume_rollout(rollout_id: RolloutId, body: Reason, ctx: Ctx, actor: Actor) -> Rollout:
    return _act(rollouts.resume_rollout, rollout_id, body, ctx, actor)


@router.post("/{rollout_id}/promote", summary="Promote without waiting for verdicts", responses=problems(404, 409))
def promote_rollout(rollout_id: RolloutId, body: Reason, ctx: Ctx, actor: Actor) -> Rollout:
    return _act(rollouts.promote_rollout, rollout_id, body, ctx, actor)


@router.post("/{rollout_id}/abort", summary="Return all traffic to stable", responses=problems(404, 409))
def abort_rollout(rollout_id: RolloutId, body: Reason, ctx: Ctx, actor: Actor) -> Rollout:
    """Refused once promotion has begun: halt it instead."""
    return _act(rollouts.abort_rollout, rollout_id, body, ctx, actor)


@router.post("/{rollout_id}/halt", summary="Stop a promotion midway", responses=problems(404, 409))
def halt_rollout(rollout_id: RolloutId, body: Reason, ctx: Ctx, actor: Actor) -> Rollout:
    return _act(rollouts.halt_rollout, rollout_id, body, ctx, actor)


class _Action(Protocol):
    def __call__(self, store: Store, rollout_id: RolloutId, *, actor: str, reason: str, now: datetime) -> Rollout: ...


def _act(action: _Action, rollout_id: RolloutId, body: Reason, ctx: Context, actor: str) -> Rollout:
    return retry_stale(lambda: action(ctx.store, rollout_id, actor=actor, reason=body.reason, now=ctx.clock()))
