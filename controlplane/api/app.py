"""The API: everything a person or a scheduled job may ask, one router per noun, under /api/v1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from controlplane.api import problems
from controlplane.api.context import ChecksTokens, Context
from controlplane.api.masking import MaskedJson
from controlplane.domain.operations.space import Space
from controlplane.ports import Clock
from controlplane.ports.fleet import FleetView
from controlplane.ports.gateways import JudgedFeed, RecordSource, ScoreFeed
from controlplane.ports.metrics import MetricsSource, OwnMetrics
from controlplane.ports.store import Store

PREFIX = "/api/v1"

_MODULES: Mapping[str, tuple[str, ...]] = {
    "about": ("docs", "health", "schema"),
    "health": ("status",),
    "services": ("services",),
    "studies": ("studies",),
    "trials": ("trials",),
    "recommendations": ("recommendations",),
    "rollouts": ("rollouts",),
    "fleet": ("fleet",),
    "live": ("live",),
    "metrics": ("metrics",),
    "load_reports": ("load-reports",),
    "replays": ("replays",),
    "schedules": ("schedules",),
    "events": ("events",),
    "alerts": ("alerts",),
    "keys": ("keys",),
    "models": ("models",),
    "ab_tests": ("ab-tests",),
    "adapters": ("services",),
    "predictions": ("predict",),
}
"""The router of each module of this package, and with which words the paths begin that it answers."""


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
    own_metrics: OwnMetrics | None = None,
    wall_clock: Clock | None = None,
    scores: ScoreFeed | None = None,
    judged: JudgedFeed | None = None,
    space: Callable[[], Space | None] = lambda: None,
    passed_s_ago: Callable[[], float | None] = lambda: None,
    alert_secret: Callable[[], str | None] = lambda: None,
    bare: bool = False,
) -> FastAPI:
    """Make the API over its collaborators.

    `open_without_keys` lets this machine act as long as no API key was ever made: pass True only for a server bound to
    loopback. Revoking the last key does not open it again. `trusted_as` asks nobody for a key and names
    the actor: only for an app called in-process, never for one behind a socket. `own_secrets` are those of the
    installation's own `dashboard`, which may operate, and of the `cli` on its host, which may do everything, whatever
    keys there are. `gpus` are the numbers of the host's GPUs.
    `tokens` knows the tokens of trusted issuers: then somebody must be proven even while no key was made.
    `metrics` is what engines say of themselves, `own_metrics` what we do, None where nobody collects it.
    `scores` is what people thought of answers, `judged` what judge commands said.
    `space` tells what the disk has under what is kept, None where nobody can tell.
    `passed_s_ago` tells how long ago the controller finished a pass, None where nobody can tell.
    `wall_clock` is what signatures and tokens of other hosts are held against; None: `clock`.
    `alert_secret` is what signed webhooks are checked with, read anew for each; None: none are taken.
    `bare` leaves the routers to `answer_for`.
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
        wall_clock=wall_clock or clock,
        open_without_keys=open_without_keys,
        trusted_as=trusted_as,
        own_secrets=own_secrets or {},
        gpus=gpus,
        tokens=tokens,
        metrics=metrics,
        own_metrics=own_metrics,
        scores=scores,
        judged=judged,
        space=space,
        passed_s_ago=passed_s_ago,
        alert_secret=alert_secret,
    )
    problems.install(app)
    app.state.answered = set()
    for module in () if bare else _MODULES:
        _include(app, module)
    for path in ("/", "/docs"):
        app.add_api_route(path, _to_docs, include_in_schema=False)
    return app


def answer_for(app: FastAPI, path: str) -> None:
    """Let a bare app answer a path under the prefix: only what is asked is loaded, the rest costs a second of CPU."""
    word = path.strip("/").split("/")[0]
    for module, words in _MODULES.items():
        if word in words:
            _include(app, module)


def _include(app: FastAPI, module: str) -> None:
    if module not in app.state.answered:
        app.state.answered.add(module)
        app.include_router(import_module(f"{__package__}.{module}").router, prefix=PREFIX)


def _to_docs() -> RedirectResponse:
    return RedirectResponse(f"{PREFIX}/docs")
