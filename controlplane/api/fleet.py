"""The fleet: engines as they are observed, and GPUs nobody holds."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import httpx
from fastapi import APIRouter, Query
from pydantic import Field

from controlplane.api.context import Context, Ctx, Reader, problems
from controlplane.domain.base import Value
from controlplane.domain.engines.engine_metrics import EngineNumber, EngineNumbers, NumberAt
from controlplane.domain.engines.fleet import Engine, EngineState
from controlplane.domain.engines.gpu import EngineGpu
from controlplane.domain.errors import NotFound
from controlplane.domain.operations.own_metrics import OwnSeries, is_counter, per_second
from controlplane.domain.owner import ReplicaOwner
from controlplane.ports.metrics import MetricsSource, OwnMetrics

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


@router.get("/metrics", summary="Show what a model's engines say of themselves", responses=problems(404, 422, 503))
def show_metrics(ctx: Ctx, _: Reader, model: str) -> EngineNumbers:
    """All engines together, as scraped last. What nobody told, or not within a minute, is null and never zero."""
    return _metrics(ctx).read(model)


@router.get("/metrics/series", summary="Show one number over time", responses=problems(404, 422, 503))
def show_series(
    ctx: Ctx,
    _: Reader,
    model: str,
    number: EngineNumber,
    hours: Annotated[float, Query(gt=0, le=24)] = 1.0,
    step_s: Annotated[int, Query(ge=15, le=3600)] = 60,
) -> tuple[NumberAt, ...]:
    """One point per step up to now; null where nothing was known."""
    until = ctx.clock()
    return tuple(_metrics(ctx).series(model, number, since=until - timedelta(hours=hours), until=until, step_s=step_s))


@router.get("/metrics/own", summary="List what gateways and the control plane told", responses=problems(404, 503))
def list_own(ctx: Ctx, _: Reader) -> tuple[str, ...]:
    """Names of the series of the last day, as a Prometheus would have them."""
    return tuple(_own(ctx).names(since=ctx.clock() - timedelta(hours=24)))


@router.get("/metrics/own/series", summary="Show one of them over time", responses=problems(404, 422, 503))
def show_own(
    ctx: Ctx,
    _: Reader,
    name: Annotated[str, Query(max_length=200)],
    hours: Annotated[float, Query(gt=0, le=24)] = 1.0,
    step_s: Annotated[int, Query(ge=15, le=3600)] = 60,
) -> tuple[OwnSeries, ...]:
    """By source and labels; a step without a word has no point. What only grows is told per second."""
    until = ctx.clock()
    found = _own(ctx).series(name, since=until - timedelta(hours=hours), until=until, step_s=step_s)
    if not found:
        raise NotFound(f"nobody told {name!r} within {hours:g} h", allowed="a name of /fleet/metrics/own")
    return tuple(each.evolve(points=per_second(each.points)) if is_counter(name) else each for each in found)


@router.get("/gpus", summary="Show what the GPUs of a model's engines say", responses=problems(404, 422, 503))
def show_gpus(ctx: Ctx, _: Reader, model: str) -> tuple[EngineGpu, ...]:
    """Each GPU as last told. What a card does not tell is null; one that told nothing within a minute is not there."""
    return tuple(_metrics(ctx).gpus(model))


def _metrics(ctx: Context) -> MetricsSource:
    if ctx.metrics is None:
        raise NotFound("nobody collects metrics here")
    return ctx.metrics


def _own(ctx: Context) -> OwnMetrics:
    if ctx.own_metrics is None:
        raise NotFound("nobody collects metrics here")
    return ctx.own_metrics


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
        "__metrics_path__": engine.spec.driver.metrics.path,
    } | ({} if engine.pod is None else {"pod": engine.pod})
    return Targets(targets=(url.netloc.decode(),), labels=labels)


@router.get("", summary="Show every engine and the free GPUs", responses=problems(503))
def show_fleet(ctx: Ctx, _: Reader) -> FleetState:
    engines = sorted(ctx.fleet_view.list(), key=lambda engine: engine.started_at, reverse=True)
    free = ctx.fleet_view.free_gpus()
    held = {gpu for engine in engines if not engine.state.is_over for gpu in engine.gpu_indices}
    left = tuple(gpu for gpu in ctx.gpus if gpu not in held)
    # Engines started between the two looks: rather no numbers than wrong ones.
    return FleetState(engines=tuple(engines), free_gpus=free, free_gpu_indices=left if len(left) == free else ())
