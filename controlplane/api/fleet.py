"""The fleet: engines as they are observed, and GPUs nobody holds."""

from __future__ import annotations

from fastapi import APIRouter

from controlplane.api.context import Actor, Ctx, problems
from controlplane.api.masking import mask_engine
from controlplane.domain.base import Value
from controlplane.domain.fleet import Engine

router = APIRouter(prefix="/fleet", tags=["fleet"])


class FleetState(Value):
    engines: tuple[Engine, ...]
    free_gpus: int


@router.get("", summary="Show every engine and the free GPUs", responses=problems(503))
def show_fleet(ctx: Ctx, _: Actor) -> FleetState:
    engines = sorted(ctx.fleet_view.list(), key=lambda engine: engine.started_at, reverse=True)
    return FleetState(engines=tuple(mask_engine(engine) for engine in engines), free_gpus=ctx.fleet_view.free_gpus())
