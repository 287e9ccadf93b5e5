"""Status: is everything all right?"""

from __future__ import annotations

from fastapi import APIRouter

from controlplane.api.context import Ctx, Reader, problems
from controlplane.domain.operations.health import InstallationHealth
from controlplane.services.operations.health import installation_health

router = APIRouter(prefix="/status", tags=["status"])


@router.get("", summary="Say how every service stands, and why", responses=problems(503))
def show_status(ctx: Ctx, _: Reader) -> InstallationHealth:
    """Live figures are of the last five minutes, alerts are those that are not over."""
    return installation_health(
        ctx.store,
        ctx.fleet_view,
        ctx.records,
        now=ctx.clock(),
        metrics=ctx.metrics,
        passed_s_ago=ctx.passed_s_ago(),
        space=ctx.space(),
    )
