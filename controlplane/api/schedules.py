"""Schedules: jobs at times, e.g. re-tune every Sunday at 02:00. One is named by its service and its own name."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from fastapi import APIRouter, status

from controlplane.api.context import Actor, Context, Ctx, Page, Reader, problems, retry_stale
from controlplane.api.requests import NewSchedule, service_name
from controlplane.domain.base import ServiceName
from controlplane.domain.schedule import Schedule
from controlplane.ports.store import Store
from controlplane.services import schedules

router = APIRouter(prefix="/schedules", tags=["schedules"])


@router.get("", summary="List schedules, by service and name", responses=problems())
def list_schedules(ctx: Ctx, _: Reader, service: str | None = None) -> Page[Schedule]:
    items = tuple(schedules.list_schedules(ctx.store, service_name(service)))
    return Page(items=items, limit=len(items))


@router.post("", summary="Add a schedule", status_code=status.HTTP_201_CREATED, responses=problems(404, 409, 422))
def add_schedule(body: NewSchedule, ctx: Ctx, actor: Actor) -> Schedule:
    service = ServiceName(body.service)
    return schedules.add_schedule(ctx.store, service, body.schedule, actor=actor, now=ctx.clock())


@router.post("/{service}/{name}/pause", summary="Let it fire no more", responses=problems(404, 409))
def pause_schedule(service: ServiceName, name: str, ctx: Ctx, actor: Actor) -> Schedule:
    return _act(schedules.pause_schedule, service, name, ctx, actor)


@router.post("/{service}/{name}/resume", summary="Let it fire again", responses=problems(404, 409))
def resume_schedule(service: ServiceName, name: str, ctx: Ctx, actor: Actor) -> Schedule:
    """From its next time on: what a pause skipped is not made up for."""
    return _act(schedules.resume_schedule, service, name, ctx, actor)


@router.post("/{service}/{name}/trigger", summary="Fire it at the controller's next pass", responses=problems(404, 409))
def trigger_schedule(service: ServiceName, name: str, ctx: Ctx, actor: Actor) -> Schedule:
    return _act(schedules.trigger_schedule, service, name, ctx, actor)


@router.delete(
    "/{service}/{name}",
    summary="Delete a schedule",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(404),
)
def delete_schedule(service: ServiceName, name: str, ctx: Ctx, actor: Actor) -> None:
    schedules.delete_schedule(ctx.store, service, name, actor=actor, now=ctx.clock())


class _Action(Protocol):
    def __call__(self, store: Store, service: ServiceName, name: str, *, actor: str, now: datetime) -> Schedule: ...


def _act(action: _Action, service: ServiceName, name: str, ctx: Context, actor: str) -> Schedule:
    return retry_stale(lambda: action(ctx.store, service, name, actor=actor, now=ctx.clock()))
