"""The control plane's page for a Prometheus."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response

from controlplane.api.context import Ctx, Reader, problems
from controlplane.api.numbers import Sources, control_page

router = APIRouter(prefix="/metrics", tags=["health"])

CONTENT = "text/plain; version=0.0.4; charset=utf-8"


@router.get(
    "",
    summary="Show the control plane's numbers to a Prometheus",
    response_class=PlainTextResponse,
    responses=problems(503),
)
def show_metrics(ctx: Ctx, _: Reader) -> Response:
    """In Prometheus's text format. Names are listed in docs/observability.md."""
    sources = Sources(ctx.store, ctx.fleet_view, ctx.clock, ctx.space, ctx.metrics)
    return Response(control_page(sources), media_type=CONTENT)
