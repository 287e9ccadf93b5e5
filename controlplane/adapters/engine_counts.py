"""What an engine counts on its Prometheus page, read the same on a host and on a cluster."""

from __future__ import annotations

import math
import time

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from controlplane.adapters.engine_http import key_headers
from controlplane.domain.engines.driver import MetricNames
from controlplane.host.addresses import is_tls

_METRICS_TIMEOUT_S = 1.0
_LARGEST_PAGE_BYTES = 4 << 20


def in_flight(url: str, names: MetricNames) -> int | None:
    """Return the requests running or waiting by the engine's own metrics, None when it does not say."""
    text = metrics_page(url, names, timeout_s=_METRICS_TIMEOUT_S)
    return None if text is None else parse_in_flight(text, names)


def metrics_page(url: str, names: MetricNames, *, timeout_s: float, key: str | None = None) -> str | None:
    """Return an engine's page; None when it does not answer, or with too much, or is not done in twice the time."""
    client = httpx.Client(headers=key_headers(key), timeout=timeout_s, trust_env=False, verify=is_tls(url))
    until_s, body = time.monotonic() + timeout_s, bytearray()
    try:
        with client, client.stream("GET", f"{url}{names.path}") as answer:
            for piece in answer.iter_bytes() if answer.status_code == 200 else ():
                body += piece
                if len(body) > _LARGEST_PAGE_BYTES or time.monotonic() > until_s:
                    return None
            return body.decode(errors="replace") if answer.status_code == 200 else None
    except httpx.HTTPError:
        return None


def parse_in_flight(text: str, names: MetricNames) -> int | None:
    """Read the gauges of running and waiting requests, summed over an engine's parts; None when one is missing."""
    samples = samples_of(text)
    running = [each.value for each in samples if each.name == names.running]
    waiting = [each.value for each in samples if each.name == names.waiting]
    told = all(math.isfinite(each) and each >= 0 for each in (*running, *waiting))
    return round(sum(running) + sum(waiting)) if running and waiting and told else None


def samples_of(text: str) -> list[Sample]:
    """Return every sample of a page in Prometheus's text format; none of a page that is not."""
    try:
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    except ValueError:
        return []
