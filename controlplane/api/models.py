"""The registry of models: versions, aliases, and what became of each version."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, status
from pydantic import Field

from controlplane.api.context import Actor, Ctx, Page, Reader, problems, retry_stale
from controlplane.domain.base import ServiceName, Value
from controlplane.domain.models import AliasName, Digest, ModelName, ModelVersion, Outcome, RegisteredModel, Variant
from controlplane.domain.serving import Service
from controlplane.services.models import NewVersion, known_model, lineage, move_alias, register_version, serve_version

router = APIRouter(prefix="/models", tags=["models"])


class NewModelVersion(Value):
    """What a version is made of. A digest is checked where the files are: by `fleetune model register`."""

    source: str = Field(min_length=1, max_length=1000)
    digest: Digest | None = None
    variants: tuple[Variant, ...] = ()
    quality: Mapping[str, float] = Field(default_factory=dict)
    note: str = Field(default="", max_length=500)


class AliasMove(Value):
    """Where an alias is to point, and where its mover saw it point: of two who move it at once one gets 409."""

    version: str = Field(description="A version's number, another alias, or `latest`.", examples=["3"])
    seen: int | None = Field(default=None, description="The version it pointed to; null: nowhere.")


class Serving(Value):
    """Which version a service is to serve."""

    service: ServiceName
    version: str = Field(description="A version's number, an alias, or `latest`.", examples=["candidate"])
    variant: str | None = None


@router.get("", summary="List registered models", responses=problems())
def list_models(ctx: Ctx, _: Reader) -> Page[RegisteredModel]:
    items = tuple(each.value for each in ctx.store.list_models())
    return Page(items=items, limit=len(items))


@router.get("/{name}", summary="Show a model, its versions and aliases", responses=problems(404))
def show_model(name: ModelName, ctx: Ctx, _: Reader) -> RegisteredModel:
    return known_model(ctx.store, name).value


@router.get("/{name}/lineage", summary="What became of each version", responses=problems(404))
def show_lineage(name: ModelName, ctx: Ctx, _: Reader) -> Page[Outcome]:
    """Version → revision → the study it came from → its rollouts and how they ended."""
    items = tuple(lineage(ctx.store, name))
    return Page(items=items, limit=len(items))


@router.post(
    "/{name}/versions",
    summary="Register a version; a model is made by its first",
    status_code=status.HTTP_201_CREATED,
    responses=problems(409, 422),
)
def register(name: ModelName, body: NewModelVersion, ctx: Ctx, actor: Actor) -> ModelVersion:
    new = NewVersion(body.source, body.digest, body.variants, body.quality, body.note)
    return retry_stale(lambda: register_version(ctx.store, name, new, actor=actor, now=ctx.clock()))


@router.put("/{name}/aliases/{alias}", summary="Move an alias", responses=problems(404, 409, 422))
def move(name: ModelName, alias: AliasName, body: AliasMove, ctx: Ctx, actor: Actor) -> RegisteredModel:
    return move_alias(ctx.store, name, alias, body.version, seen=body.seen, actor=actor, now=ctx.clock())


@router.post("/{name}/serve", summary="Let a service serve a version, by canary", responses=problems(404, 409, 422))
def serve(name: ModelName, body: Serving, ctx: Ctx, actor: Actor) -> Service:
    return retry_stale(
        lambda: serve_version(
            ctx.store, body.service, name, body.version, variant=body.variant, actor=actor, now=ctx.clock()
        )
    )
