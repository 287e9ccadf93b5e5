"""`fleetune load top-up`: hold a service's total rate while a canary is judged."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from controlplane import settings as installation
from controlplane.adapters.gateway.records_spool import SpooledRecords
from controlplane.adapters.loadtester_locust import LocustLoadTester
from controlplane.cli.errors import plain_errors
from controlplane.cli.installation.stopping import stop_event
from controlplane.cli.reaching import require_installation
from controlplane.cli.tables.show import console
from controlplane.domain.base import ServiceName
from controlplane.domain.errors import InvalidInput
from controlplane.ports.load import LoadRequest
from controlplane.ports.store import Store
from controlplane.services.replays.top_up import OtherTraffic, hold_rate
from controlplane.services.rollouts.manage import active_rollout
from controlplane.wiring import machine

SLICE_S = 10.0
WINDOW_S = 60.0


@plain_errors
def top_up(
    service: Annotated[str, typer.Argument(help="Service whose rate to hold.")],
    to: Annotated[float, typer.Option(min=0.01, help="Total requests per second: live ones and ours.")],
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="How long; default: until its rollout is over.")
    ] = None,
    api_key_env: Annotated[str | None, typer.Option(help="Environment variable that holds an API key.")] = None,
    data_dir: Annotated[Path, typer.Option(help="Where the installation lives.")] = Path(".fleetune"),
) -> None:
    """Send what live traffic leaves to a total rate, through the gateway, so that a canary is judged under load."""
    require_installation(data_dir)
    settings = installation.load(data_dir.resolve())
    store, clock = machine.open_store(settings), machine.installation_clock(settings)
    name = ServiceName(service)
    spec = store.get_service(name).value.spec
    if minutes is None and active_rollout(store, name) is None:
        raise InvalidInput(f"no rollout of {service} is under way", allowed="--minutes, to top up without one")
    request = LoadRequest(
        workload=spec.workload,
        rate_rps=to,
        url=settings.gateway_url,
        model=spec.model.name,
        duration_s=SLICE_S,
        time_lapse=spec.engine.time_lapse,
        api_key=os.environ.get(api_key_env) if api_key_env else None,
        dialect=spec.engine.driver.dialect,
    )
    others = OtherTraffic(
        SpooledRecords(settings.data_dir),
        name,
        clock=clock,
        window_s=WINDOW_S,
        time_lapse=spec.engine.time_lapse,
    )
    sent = hold_rate(
        LocustLoadTester(),
        others,
        target_rps=to,
        request=request,
        slice_s=SLICE_S,
        out_dir=settings.reports_dir / f"top-up-{service}",
        over=_Over(store, name, None if minutes is None else time.monotonic() + 60 * minutes),
        pause=time.sleep,
    )
    console.print(f"sent {sent} requests", highlight=False)


class _Over:
    """Says when to stop: asked to, the time is up, or (without a time) the rollout is over."""

    def __init__(self, store: Store, service: ServiceName, until_s: float | None) -> None:
        self._stop = stop_event()
        self._store = store
        self._service = service
        self._until_s = until_s

    def __call__(self) -> bool:
        if self._stop.is_set():
            return True
        if self._until_s is not None:
            return time.monotonic() >= self._until_s
        return active_rollout(self._store, self._service) is None
