"""The expressions that rules and panels share: ratios of what missed its limit, per service. Pure."""

from __future__ import annotations

from controlplane.domain.door.latency_buckets import bucket_within
from controlplane.domain.slo import LatencyMetric, LatencySlo

ENGINES = "fleetune-engines"
GATEWAYS = "fleetune-gateways"
CONTROL = "fleetune-control"
HISTOGRAMS = {
    LatencyMetric.TTFT: "fleetune_gateway_ttft_seconds",
    LatencyMetric.TPOT: "fleetune_gateway_tpot_seconds",
    LatencyMetric.E2E: "fleetune_gateway_e2e_seconds",
}


def requests(service: str, window: str, extra: str = "") -> str:
    """Return requests per second of a service, by service."""
    return f'sum by (service) (rate(fleetune_gateway_requests_total{{service="{service}"{extra}}}[{window}]))'


def error_ratio(service: str, window: str) -> str:
    """Return the share of requests answered with 5xx. No traffic has no ratio; traffic without errors has 0."""
    all_ = requests(service, window)
    failed = requests(service, window, ',status=~"5.."')
    return f"({failed} or 0 * {all_}) / ({all_} > 0)"


def miss_ratio(service: str, slo: LatencySlo, window: str) -> str | None:
    """Return the share of requests beyond the limit, or beyond the next bucket below it; None when there is none."""
    bound = bucket_within(slo.metric, slo.limit_ms)
    if bound is None:
        return None
    name = HISTOGRAMS[slo.metric]
    within = f'sum by (service) (rate({name}_bucket{{service="{service}",le="{_le(bound)}"}}[{window}]))'
    return f'1 - {within} / (sum by (service) (rate({name}_count{{service="{service}"}}[{window}])) > 0)'


def percentile(
    metric: LatencyMetric, of: float, window: str, *, by: str = "service", where: str = "", offset: str = ""
) -> str:
    """Return a latency percentile, seconds. `of` lies between 0 and 1."""
    selector = f"{{{where}}}" if where else ""
    return (
        f"histogram_quantile({of:g}, sum by ({by}, le) (rate({HISTOGRAMS[metric]}_bucket{selector}[{window}]{offset})))"
    )


def _le(bound: float) -> str:
    """Return a bucket's label as prometheus_client writes it."""
    return str(float(bound))
