"""What an engine counts on its Prometheus page, read the same on a host and on a cluster."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from controlplane.domain.engines.driver import MetricNames
from controlplane.host.addresses import is_tls

_METRICS_TIMEOUT_S = 1.0


def in_flight(url: str, names: MetricNames) -> int | None:
    """Return the requests running or waiting by the engine's own metrics, None when it does not say."""
    try:
        answer = httpx.get(f"{url}{names.path}", timeout=_METRICS_TIMEOUT_S, trust_env=False, verify=is_tls(url))
    except httpx.HTTPError:
        return None
    return None if answer.status_code != 200 else parse_in_flight(answer.text, names)


def parse_in_flight(text: str, names: MetricNames) -> int | None:
    """Read the gauges of running and waiting requests, summed over an engine's parts; None when one is missing."""
    samples = samples_of(text)
    running = [each.value for each in samples if each.name == names.running]
    waiting = [each.value for each in samples if each.name == names.waiting]
    return round(sum(running) + sum(waiting)) if running and waiting else None


def samples_of(text: str) -> list[Sample]:
    """Return every sample of a page in Prometheus's text format; none of a page that is not."""
    try:
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    except ValueError:
        return []
