"""LoRA adapters of a service: loaded on running replicas, named as models at the gateway."""

from __future__ import annotations

from fastapi import APIRouter, status
from pydantic import Field

from controlplane.api.context import Actor, Ctx, Page, Reader, problems, retry_stale
from controlplane.domain.adapters import AdapterName, ServedAdapter
from controlplane.domain.base import EngineId, ServiceName, Value
from controlplane.domain.rollouts.analysis import Analysis
from controlplane.services.adapters.manage import (
    NewAdapter,
    load_adapter,
    promote_adapter,
    roll_back_adapter,
    unload_adapter,
)
from controlplane.services.adapters.verdict import read_judgements
from controlplane.services.fleet.loaded import read_loaded

router = APIRouter(prefix="/services/{service}/adapters", tags=["adapters"])


class AdapterToLoad(Value):
    """A new adapter serves at once; a new version of a known one is a canary with a share of its requests."""

    name: AdapterName
    path: str = Field(min_length=1, max_length=1000, description="A folder that replicas see, or a hub name.")
    rank: int | None = Field(default=None, ge=1, description="As adapter_config.json says (`r`).")
    base: str | None = Field(default=None, description="The model it was made for, as adapter_config.json says.")
    share_percent: int = Field(default=5, ge=1, le=99, description="Of requests, for a new version.")
    judge: bool = Field(default=True, description="Live records promote it or take it back; false: a person does.")


class BackTo(Value):
    version: int | None = Field(default=None, ge=1, description="None: take the canary back.")


class AdapterStatus(Value):
    """What is wanted of an adapter, and which replicas have it."""

    adapter: ServedAdapter
    loaded: dict[EngineId, tuple[int, ...]] = Field(description="Versions loaded, by engine.")
    judgement: Analysis | None = Field(default=None, description="The latest look at its canary's live records.")
    problems: dict[str, str] = Field(description="Why a version is not loaded, by the name it is loaded under.")


@router.get("", summary="List a service's adapters and where they are loaded", responses=problems(404))
def list_adapters(service: ServiceName, ctx: Ctx, _: Reader) -> Page[AdapterStatus]:
    saved, seen = ctx.store.get_service(service).value, read_loaded(ctx.store, service)
    judged = read_judgements(ctx.store, service)
    items = []
    for adapter in saved.adapters:
        names = {adapter.loaded_as(version.number): version.number for version in adapter.versions}
        loaded = {engine: tuple(names[each] for each in has if each in names) for engine, has in seen.engines.items()}
        said = {name: why for name, why in seen.problems.items() if name in names}
        look = judged.get(adapter.name) if adapter.is_judged else None
        items.append(AdapterStatus(adapter=adapter, loaded=loaded, problems=said, judgement=look))
    return Page(items=tuple(items), limit=len(items))


@router.post(
    "",
    summary="Load an adapter, or a new version of one",
    status_code=status.HTTP_201_CREATED,
    responses=problems(404, 409, 422),
)
def load(service: ServiceName, body: AdapterToLoad, ctx: Ctx, actor: Actor) -> ServedAdapter:
    new = NewAdapter(body.name, body.path, body.rank, body.base, body.judge)
    return retry_stale(
        lambda: load_adapter(ctx.store, service, new, share_percent=body.share_percent, actor=actor, now=ctx.clock())
    )


@router.post("/{name}/promote", summary="Give the canary all requests", responses=problems(404, 409))
def promote(service: ServiceName, name: AdapterName, ctx: Ctx, actor: Actor) -> ServedAdapter:
    return retry_stale(lambda: promote_adapter(ctx.store, service, name, actor=actor, now=ctx.clock()))


@router.post(
    "/{name}/roll-back", summary="Take the canary back, or an earlier version again", responses=problems(404, 409)
)
def roll_back(service: ServiceName, name: AdapterName, body: BackTo, ctx: Ctx, actor: Actor) -> ServedAdapter:
    return retry_stale(
        lambda: roll_back_adapter(ctx.store, service, name, to=body.version, actor=actor, now=ctx.clock())
    )


@router.delete(
    "/{name}", summary="Serve an adapter no more", status_code=status.HTTP_204_NO_CONTENT, responses=problems(404)
)
def unload(service: ServiceName, name: AdapterName, ctx: Ctx, actor: Actor) -> None:
    retry_stale(lambda: unload_adapter(ctx.store, service, name, actor=actor, now=ctx.clock()))
