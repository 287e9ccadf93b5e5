"""Live: the last minutes of a service against its target, from the gateways' records."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query

from controlplane.api.context import Ctx, Reader, problems
from controlplane.domain.base import ServiceName
from controlplane.domain.errors import InvalidInput
from controlplane.domain.operations.live import Live, live, reach

router = APIRouter(prefix="/live", tags=["live"])


@router.get("/{service}", summary="Show live latency, errors and rate", responses=problems(404, 422, 503))
def show_live(
    service: ServiceName,
    ctx: Ctx,
    _: Reader,
    window_s: Annotated[float, Query(ge=1, le=3600, description="Wall-clock seconds up to now.")] = 300,
    bucket_s: Annotated[float, Query(ge=1, le=600, description="Wall-clock seconds per point of the series.")] = 10,
) -> Live:
    """Latencies are in engine time: emulated milliseconds where `time_lapse` is not 1."""
    if bucket_s > window_s:
        raise InvalidInput(f"bucket_s {bucket_s:g} is above window_s {window_s:g}", allowed="a whole bucket at least")
    spec = ctx.store.get_service(service).value.spec
    now = ctx.clock()
    records = ctx.records.read(service, since=now - timedelta(seconds=window_s) - reach(spec))
    return live(spec, records, now=now, window_s=window_s, bucket_s=bucket_s)
