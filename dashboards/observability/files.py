"""The files of `fleetune observability write`: what Prometheus, Grafana and collectors beside Fleetune need. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import yaml

from controlplane.domain.operations.alerts import MOST_AT_ONCE
from controlplane.domain.service import ServiceSpec
from dashboards.observability.collecting import Collected, collector, loki, promtail
from dashboards.observability.grafana import as_json, boards
from dashboards.observability.promql import CONTROL, ENGINES, GATEWAYS
from dashboards.observability.rules import rule_file

RULES = "rules.yml"
SCRAPE = "prometheus.yml"
ALERTS = "alertmanager.yml"


class Where(NamedTuple):
    """What Prometheus asks: the API for the engines there are, and each gateway at `host:port`."""

    api_url: str
    gateways: Sequence[str]
    key_file: str | None = None  # holds an API key that may read
    interval: str = "15s"
    alertmanager: str | None = None  # host:port
    collected: Collected = Collected()


def files(specs: Sequence[ServiceSpec], where: Where) -> Mapping[str, str]:
    """Return every file's text by its name."""
    found = {SCRAPE: _yaml(_scraping(where)), RULES: _yaml(rule_file(specs)), ALERTS: _yaml(_routing(where))}
    found |= {"promtail.yml": _yaml(promtail(where.collected)), "loki.yml": _yaml(loki())}
    found |= {"otel-collector.yml": _yaml(collector(where.collected))}
    return found | {f"grafana/{board.uid}.json": as_json(board) for board in boards(specs)}


def _scraping(where: Where) -> dict[str, Any]:
    discovery: dict[str, Any] = {
        "url": f"{where.api_url.rstrip('/')}/api/v1/fleet/metrics-targets",
        "refresh_interval": where.interval,
    }
    if where.key_file is not None:
        discovery["authorization"] = _authorization(where.key_file)
    alerting = {"alertmanagers": [{"static_configs": [{"targets": [where.alertmanager]}]}]}
    return {
        "global": {"scrape_interval": where.interval, "evaluation_interval": where.interval},
        "rule_files": [RULES],
        **({} if where.alertmanager is None else {"alerting": alerting}),
        "scrape_configs": [
            _gateways(where),
            _control_plane(where),
            {"job_name": ENGINES, "http_sd_configs": [discovery]},
        ],
    }


def _gateways(where: Where) -> dict[str, Any]:
    job: dict[str, Any] = {"job_name": GATEWAYS, "static_configs": [{"targets": list(where.gateways)}]}
    return job if where.key_file is None else job | {"authorization": _authorization(where.key_file)}


def _authorization(key_file: str) -> dict[str, Any]:
    return {"type": "Bearer", "credentials_file": key_file}


def _control_plane(where: Where) -> dict[str, Any]:
    api = urlsplit(where.api_url)
    job: dict[str, Any] = {
        "job_name": CONTROL,
        "scheme": api.scheme,
        "metrics_path": f"{api.path.rstrip('/')}/api/v1/metrics",
        "static_configs": [{"targets": [api.netloc]}],
    }
    if where.key_file is not None:
        job["authorization"] = _authorization(where.key_file)
    return job


def _routing(where: Where) -> dict[str, Any]:
    """Alertmanager's configuration: every alert goes to the API, which tells it and does what its service declared."""
    url = f"{where.api_url.rstrip('/')}/api/v1/alerts"
    webhook: dict[str, Any] = {"url": url, "send_resolved": False, "max_alerts": MOST_AT_ONCE}
    if where.key_file is not None:
        webhook["http_config"] = {"authorization": _authorization(where.key_file)}
    return {
        "route": {
            "receiver": "fleetune",
            "group_by": ["service"],
            "group_wait": where.interval,
            "group_interval": "1m",
            "repeat_interval": "4h",
        },
        "receivers": [{"name": "fleetune", "webhook_configs": [webhook]}],
    }


def _yaml(value: dict[str, Any]) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)
