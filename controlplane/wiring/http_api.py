"""The API over the installation's store, records and engines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from controlplane.adapters.gateway.judged_files import JudgedFiles
from controlplane.adapters.gateway.records_spool import SpooledRecords
from controlplane.adapters.gateway.scores_spool import SpooledScores
from controlplane.adapters.metrics_scrape.own import OwnStore
from controlplane.adapters.metrics_scrape.samples import SampleStore
from controlplane.adapters.metrics_scrape.source import ScrapedMetrics
from controlplane.host.addresses import is_loopback
from controlplane.host.clock import utc_now
from controlplane.host.disk import space_at
from controlplane.host.passes import passed_s_ago
from controlplane.reading.issuers_file import load_issuers
from controlplane.settings import Settings
from controlplane.wiring.machine import installation_clock, open_fleet, open_store, secret_in

if TYPE_CHECKING:
    from fastapi import FastAPI

    from controlplane.tokens.door import TokenDoor


def build_app(settings: Settings, *, caller: str | None = None) -> FastAPI:
    """Return the API. With `caller` every request is that trusted actor's: for calls from inside this process, which
    say by `answer_for` what they ask.
    """
    from controlplane.api.app import create_app

    return create_app(
        store=open_store(settings),
        records=SpooledRecords(settings.data_dir),
        scores=SpooledScores(settings.data_dir),
        judged=JudgedFiles(settings.data_dir, clock=installation_clock(settings)),
        fleet_view=open_fleet(settings),
        clock=installation_clock(settings),
        wall_clock=utc_now,
        open_without_keys=is_loopback(settings.host),
        trusted_as=caller,
        own_secrets=_own_secrets(settings),
        gpus=settings.gpus,
        tokens=None if caller else _tokens(settings),
        own_metrics=OwnStore(settings.metrics_file),
        metrics=ScrapedMetrics(SampleStore(settings.metrics_file), clock=installation_clock(settings)),
        space=lambda: space_at(settings.data_dir),
        passed_s_ago=lambda: None if settings.cluster else passed_s_ago(settings.data_dir),
        alert_secret=lambda: secret_in(settings.alert_secret_file),
        bare=caller is not None,
    )


def _tokens(settings: Settings) -> TokenDoor | None:
    """Trust the tokens of the issuers that the installation names. Raises InvalidInput for a bad file."""
    issuers = load_issuers(settings.issuers_file)
    if not issuers:
        return None
    from controlplane.tokens.door import TokenDoor
    from controlplane.tokens.fetch import fetch_keys

    return TokenDoor(issuers, fetch_keys, time.monotonic)


def _own_secrets(settings: Settings) -> dict[str, str]:
    found = {"dashboard": secret_in(settings.dashboard_key_file), "cli": secret_in(settings.operator_key_file)}
    return {actor: secret for actor, secret in found.items() if secret}
