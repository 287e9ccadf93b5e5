"""Services: served models, registered from service.yaml."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, status
from pydantic import Field

from controlplane.api.context import Actor, Caller, CallerOf, Context, Ctx, Page, Reader, problems, retry_stale
from controlplane.api.requests import Replicas, RollBack
from controlplane.domain.authority import changed_code
from controlplane.domain.base import ServiceName, Value
from controlplane.domain.door.identity import Scope
from controlplane.domain.errors import InvalidInput, NotFound
from controlplane.domain.masking import revealed
from controlplane.domain.operations.autoscale import ScaleDecision
from controlplane.domain.operations.cost import Cost, cost
from controlplane.domain.operations.live import reach
from controlplane.domain.operations.replica_capacity import ReplicaCapacity, corrected
from controlplane.domain.operations.what_if import WhatIf
from controlplane.domain.revision import Revision
from controlplane.domain.rollouts.rollout import Rollout
from controlplane.domain.rollouts.told_verdict import ToldVerdict, told_verdict
from controlplane.domain.service import ServiceSpec
from controlplane.domain.serving import Service
from controlplane.reading.service_file import parse_service
from controlplane.services.fleet import serving
from controlplane.services.fleet.scaling import known_capacity, read_memory
from controlplane.services.fleet.world import service_of
from controlplane.services.models import last_good
from controlplane.services.operations.savings import read_saved
from controlplane.services.rollouts import manage as rollouts

router = APIRouter(prefix="/services", tags=["services"])

MAX_BODY_BYTES = 1 << 20

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": ServiceSpec.model_json_schema()} for kind in ("application/yaml", "application/json")
        },
    }
}


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise InvalidInput("this service description is too long", allowed=f"at most {MAX_BODY_BYTES} bytes")
    return bytes(body)


Body = Annotated[bytes, Depends(_body)]


@router.get("", summary="List services", responses=problems())
def list_services(ctx: Ctx, _: Reader) -> Page[Service]:
    items = tuple(each.value for each in ctx.store.list_services())
    return Page(items=items, limit=len(items))


@router.post(
    "",
    summary="Register a service, or give it a new description",
    status_code=status.HTTP_201_CREATED,
    responses=problems(409, 422),
    openapi_extra=_BODY,
)
def register_service(body: Body, ctx: Ctx, actor: Actor, caller: CallerOf) -> Service:
    """The body is service.yaml, or the same as JSON. What makes the host run other code needs the scope admin."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput("the request body is not UTF-8 text", why=str(error)) from error
    spec = parse_service(text, source="the request body")
    _require_admin_for_code(spec, ctx, caller)
    service = retry_stale(lambda: serving.register_service(ctx.store, spec, actor=actor, now=ctx.clock()))
    return service


def _require_admin_for_code(spec: ServiceSpec, ctx: Context, caller: Caller) -> None:
    try:
        before = ctx.store.get_service(spec.service).value.spec
    except NotFound:
        before = None
    code = changed_code(before, revealed(spec, before))
    if code:
        caller.require(Scope.ADMIN, f"this: {', '.join(code)} runs code on the host")


@router.get("/{service}", summary="Show a service", responses=problems(404))
def show_service(service: ServiceName, ctx: Ctx, _: Reader) -> Service:
    return ctx.store.get_service(service).value


@router.get("/{service}/status", summary="Show what a service wants and what is there", responses=problems(404, 503))
def show_status(service: ServiceName, ctx: Ctx, _: Reader) -> serving.ServiceStatus:
    """Replicas wanted and ready, weights and engines, per revision."""
    status_ = serving.service_status(ctx.store, ctx.fleet_view, service, now=ctx.clock())
    engines = tuple(engine for engine in status_.engines)
    return status_.evolve(service=status_.service, engines=engines)


@router.get("/{service}/revisions", summary="List a service's revisions", responses=problems(404))
def list_revisions(service: ServiceName, ctx: Ctx, _: Reader) -> Page[Revision]:
    ctx.store.get_service(service)
    items = tuple(each for each in ctx.store.list_revisions(service))
    return Page(items=items, limit=len(items))


@router.get("/{service}/capacity", summary="Show what one replica of stable sustains", responses=problems(404))
def show_capacity(service: ServiceName, ctx: Ctx, _: Reader) -> ReplicaCapacity:
    """By the newest study that measured it; the twin's forecast when none did. 404 when neither knows."""
    found = ctx.store.get_service(service).value
    if found.stable is None:
        raise NotFound(f"{service} has no capacity", why="nothing serves yet")
    revision = ctx.store.get_revision(found.stable)
    memory = read_memory(ctx.store, service).value
    known = known_capacity(ctx.store, found, revision) or _foretold(found.spec, revision)
    if known is None:
        raise NotFound(f"no capacity of {revision.revision_id} is known", why="no study measured it, nor can the twin")
    return corrected(known, memory.live) if memory.live_of == revision.revision_id else known


@router.get("/{service}/cost", summary="Show what a service costs, by tenant", responses=problems(404, 422, 503))
def show_cost(
    service: ServiceName,
    ctx: Ctx,
    _: Reader,
    hours: Annotated[float, Query(gt=0, le=24, description="Whose tokens are counted, up to now.")] = 1.0,
) -> Cost:
    """Money is of the GPUs held now, tokens are those of requests that ended in the window.

    `saved` is against the baseline of the study that stable comes from, since it was promoted.
    """
    described, now, window_s = ctx.store.get_service(service).value, ctx.clock(), 3600 * hours
    spec = described.spec
    engines = [engine for engine in ctx.fleet_view.list() if service_of(engine) == service]
    records = ctx.records.read(service, since=now - timedelta(seconds=window_s) - reach(spec))
    found = cost(spec, engines, records, now=now, window_s=window_s)
    return found.evolve(saved=read_saved(ctx.store, described))


class Scaling(Value):
    """What the autoscaler of a service decided last, and on what."""

    decision: ScaleDecision | None
    capacity: ReplicaCapacity | None = None
    forecast_error: float | None = Field(
        default=None, description="Mean error of the last day's forecasts over the mean load; None: less than two days."
    )


@router.get("/{service}/scaling", summary="Show what the autoscaler decided last, and why", responses=problems(404))
def show_scaling(service: ServiceName, ctx: Ctx, _: Reader) -> Scaling:
    """`decision` is null while it is off, and before its first look."""
    enabled = ctx.store.get_service(service).value.spec.autoscale.enabled
    memory = read_memory(ctx.store, service).value
    decision = memory.decision if enabled else None
    return Scaling(decision=decision, capacity=memory.capacity, forecast_error=memory.forecast_error)


def _foretold(spec: ServiceSpec, revision: Revision) -> ReplicaCapacity | None:
    from controlplane.services.what_if import what_if  # the compiled twin: 100 MiB, only where somebody asks it

    try:
        answer = what_if(spec, WhatIf(flags=revision.config.flags))
    except InvalidInput:  # a model, GPU or flag that it does not know
        return None
    return None if answer.replica is None else answer.replica.evolve(revision=revision.revision_id)


@router.post(
    "/{service}/roll-back",
    summary="Start a rollout to an earlier revision",
    status_code=status.HTTP_201_CREATED,
    responses=problems(404, 409, 422),
)
def roll_back(service: ServiceName, body: RollBack, ctx: Ctx, actor: Actor) -> Rollout:
    """To the revision that served before, or a named one: out of a halted promotion, and back from one that is done."""
    return retry_stale(
        lambda: rollouts.roll_back(
            ctx.store,
            service=service,
            revision=body.revision or last_good(ctx.store, service).revision_id,
            replicas=body.replicas,
            at_once=body.at_once,
            actor=actor,
            now=ctx.clock(),
        )
    )


@router.get(
    "/{service}/verdict", summary="Say of its newest rollout: safe, harm or undecided", responses=problems(404, 422)
)
def verdict_of_service(
    service: ServiceName,
    ctx: Ctx,
    _: Reader,
    weight: Annotated[int | None, Query(ge=0, le=100, description="Undecided unless the step has this weight.")] = None,
) -> ToldVerdict:
    """For tools that move the traffic themselves, e.g. a web metric of Argo Rollouts."""
    ctx.store.get_service(service)
    newest = next((each.value for each in ctx.store.list_rollouts(service, limit=1)), None)
    return told_verdict(newest, weight=weight)


@router.post("/{service}/scale", summary="Run stable with so many replicas", responses=problems(404, 409, 422))
def scale_service(service: ServiceName, body: Replicas, ctx: Ctx, actor: Actor) -> Service:
    scaled = retry_stale(
        lambda: serving.scale_service(ctx.store, service, replicas=body.replicas, actor=actor, now=ctx.clock())
    )
    return scaled


@router.post("/{service}/stop", summary="Scale to nothing, keep the record", responses=problems(404, 409))
def stop_service(service: ServiceName, ctx: Ctx, actor: Actor) -> Service:
    return _stopped(ctx, service, stopped=True, actor=actor)


@router.post("/{service}/start", summary="Serve again", responses=problems(404, 409))
def start_service(service: ServiceName, ctx: Ctx, actor: Actor) -> Service:
    return _stopped(ctx, service, stopped=False, actor=actor)


def _stopped(ctx: Context, service: ServiceName, *, stopped: bool, actor: str) -> Service:
    changed = retry_stale(
        lambda: serving.stop_service(ctx.store, service, stopped=stopped, actor=actor, now=ctx.clock())
    )
    return changed
