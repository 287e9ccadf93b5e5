"""The API: everything a person or a scheduled job may ask, one router per noun, under /api/v1."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, FastAPI
from fastapi.responses import RedirectResponse

from controlplane.api import (
    ab_tests,
    about,
    adapters,
    alerts,
    events,
    fleet,
    health,
    keys,
    live,
    load_reports,
    models,
    predictions,
    problems,
    recommendations,
    replays,
    rollouts,
    schedules,
    services,
    studies,
    trials,
)
from controlplane.api import (
    metrics as control_metrics,
)
from controlplane.api.context import ChecksTokens, Context
from controlplane.api.masking import MaskedJson
from controlplane.ports import Clock
from controlplane.ports.fleet import FleetView
from controlplane.ports.gateways import RecordSource, ScoreFeed
from controlplane.ports.metrics import MetricsSource
from controlplane.ports.store import Store

PREFIX = "/api/v1"

_ROUTERS: tuple[APIRouter, ...] = tuple(
    module.router
    for module in (
        about,
        health,
        services,
        studies,
        trials,
        recommendations,
        rollouts,
        fleet,
        live,
        control_metrics,
        load_reports,
        replays,
        schedules,
        events,
        alerts,
        keys,
        models,
        ab_tests,
        adapters,
        predictions,
    )
)


def create_app(  # noqa: PLR0913 - what an app is made with, each by name
    *,
    store: Store,
    records: RecordSource,
    fleet_view: FleetView,
    clock: Clock,
    open_without_keys: bool = False,
    trusted_as: str | None = None,
    own_secrets: Mapping[str, str] | None = None,
    gpus: tuple[int, ...] = (),
    tokens: ChecksTokens | None = None,
    metrics: MetricsSource | None = None,
    scores: ScoreFeed | None = None,
) -> FastAPI:
    """Make the API over its collaborators.

    `open_without_keys` lets this machine act as long as no API key was ever made: pass True only for a server bound to
    loopback. Revoking the last key does not open it again. `trusted_as` asks nobody for a key and names
    the actor: only for an app called in-process, never for one behind a socket. `own_secrets` are those of the
    installation's own `dashboard`, which may operate, and of the `cli` on its host, which may do everything, whatever
    keys there are. `gpus` are the numbers of the host's GPUs.
    `tokens` knows the tokens of trusted issuers: then somebody must be proven even while no key was made.
    `metrics` is what engines say of themselves, None where nobody collects it.
    `scores` is what people thought of answers.
    """
    app = FastAPI(
        title="Fleetune",
        summary="Benchmark-driven autotuning control plane for vLLM fleets",
        version="1",
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        default_response_class=MaskedJson,
    )
    app.state.context = Context(
        store=store,
        records=records,
        fleet_view=fleet_view,
        clock=clock,
        open_without_keys=open_without_keys,
        trusted_as=trusted_as,
        own_secrets=own_secrets or {},
        gpus=gpus,
        tokens=tokens,
        metrics=metrics,
        scores=scores,
    )
    problems.install(app)
    for router in _ROUTERS:
        app.include_router(router, prefix=PREFIX)
    for path in ("/", "/docs"):
        app.add_api_route(path, _to_docs, include_in_schema=False)
    return app


def _to_docs() -> RedirectResponse:
    return RedirectResponse(f"{PREFIX}/docs")
