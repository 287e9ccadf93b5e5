"""Events: who did what to which thing, why and when."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from controlplane.api.context import Ctx, Limit, Page, Reader, problems
from controlplane.domain.event import Event

router = APIRouter(prefix="/events", tags=["events"])


@router.get("", summary="List events", responses=problems(422))
def list_events(
    ctx: Ctx,
    _: Reader,
    service: str | None = None,
    subject: Annotated[str | None, Query(examples=["rollout/r-1"])] = None,
    limit: Limit = 200,
) -> Page[Event]:
    return Page(items=tuple(ctx.store.list_events(service=service, subject=subject, limit=limit)), limit=limit)
