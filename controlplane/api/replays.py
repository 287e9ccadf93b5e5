"""Replays: the series of load tests that schedules repeat, each compared with its baseline."""

from __future__ import annotations

from fastapi import APIRouter

from controlplane.api.context import Ctx, Limit, Page, Reader, problems
from controlplane.api.requests import service_name
from controlplane.services.replays.series import Replay
from controlplane.services.replays.series import list_replays as find

router = APIRouter(prefix="/replays", tags=["replays"])


@router.get("", summary="List replays", responses=problems(422))
def list_replays(ctx: Ctx, _: Reader, service: str | None = None, limit: Limit = 100) -> Page[Replay]:
    """Those of one schedule and rate are one series. Each report is a load report, too."""
    return Page(items=tuple(find(ctx.store, service_name(service), limit=limit)), limit=limit)
