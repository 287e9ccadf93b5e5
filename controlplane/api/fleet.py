"""The fleet: engines as they are observed, and GPUs nobody holds."""

from __future__ import annotations

import httpx
from fastapi import APIRouter
from pydantic import Field

from controlplane.api.context import Ctx, Reader, problems
from controlplane.domain.base import Value
from controlplane.domain.fleet import Engine, EngineState
from controlplane.domain.owner import ReplicaOwner

router = APIRouter(prefix="/fleet", tags=["fleet"])


class FleetState(Value):
    engines: tuple[Engine, ...]
    free_gpus: int
    free_gpu_indices: tuple[int, ...] = Field(default=(), description="Their numbers, where GPUs have such.")


class Targets(Value):
    """One group of Prometheus's HTTP service discovery."""

    targets: tuple[str, ...]
    labels: dict[str, str]


@router.get("/metrics-targets", summary="List engines for Prometheus's HTTP service discovery", responses=problems(503))
def metrics_targets(ctx: Ctx, _: Reader) -> tuple[Targets, ...]:
    """Every engine that serves, with its service and revision as labels. Engines of trials are not listed."""
    serving = (EngineState.READY, EngineState.DRAINING)
    engines = [engine for engine in ctx.fleet_view.list() if engine.state in serving and engine.url is not None]
    return tuple(found for engine in engines if (found := _targets(engine)) is not None)


def _targets(engine: Engine) -> Targets | None:
    owner = engine.spec.owner
    if not isinstance(owner, ReplicaOwner) or engine.url is None:
        return None
    url = httpx.URL(engine.url)
    labels = {
        "service": owner.service,
        "revision": owner.revision,
        "engine": engine.spec.engine_id,
        "__scheme__": url.scheme,
    }
    return Targets(targets=(url.netloc.decode(),), labels=labels)


@router.get("", summary="Show every engine and the free GPUs", responses=problems(503))
def show_fleet(ctx: Ctx, _: Reader) -> FleetState:
    engines = sorted(ctx.fleet_view.list(), key=lambda engine: engine.started_at, reverse=True)
    free = ctx.fleet_view.free_gpus()
    held = {gpu for engine in engines if not engine.state.is_over for gpu in engine.gpu_indices}
    left = tuple(gpu for gpu in ctx.gpus if gpu not in held)
    # Engines started between the two looks: rather no numbers than wrong ones.
    return FleetState(engines=tuple(engines), free_gpus=free, free_gpu_indices=left if len(left) == free else ())
