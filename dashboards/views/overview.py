"""SLO overview: what live traffic gets, against what was promised."""

from __future__ import annotations

import streamlit as st

from controlplane.domain.live import CheckState, Live, LiveCheck
from controlplane.domain.rollout import ROLLOUT_FINAL
from controlplane.domain.serving import Service
from controlplane.domain.slo import LatencyMetric
from dashboards import charts_live, components, theme, words
from dashboards.client import ApiClient
from dashboards.components import Card, Column
from dashboards.page import choose_service, no_service

WINDOWS_S = {"1 min": (60.0, 5.0), "5 min": (300.0, 10.0), "15 min": (900.0, 30.0), "1 h": (3600.0, 120.0)}

_BOLD = "P99 bold, P50 thin"
_COLOUR = {
    CheckState.MET: theme.GOOD,
    CheckState.MISSED: theme.BAD,
    CheckState.FEW: theme.WARN,
    CheckState.SILENT: theme.FAINT,
}


def show(client: ApiClient) -> None:
    """Render the page."""
    services = client.services()
    if not services:
        no_service("SLO overview")
        return
    service = choose_service(services)
    components.headline(service.name, f"{service.spec.model.name} on {service.spec.gpus.type} · {_promise(service)}")
    window_s, bucket_s = WINDOWS_S[_window()]
    live = client.live(service.name, window_s=window_s, bucket_s=bucket_s)
    canary = next((r.canary for r in client.rollouts(service.name) if r.state not in ROLLOUT_FINAL), None)
    components.emulation(live.engine, live.gpu, live.time_lapse)
    components.cards([*(_check_card(check) for check in live.checks), *_other_cards(live)])
    if live.overall.requests == 0:
        components.note(
            "No request finished in this window",
            "Send traffic through the gateway, or replay the service's own workload against it:",
            "fleetune load -f profile.yaml --target http://127.0.0.1:8000",
        )
        return
    names = charts_live.roles(service.stable, canary, tuple(part.revision for part in live.revisions))
    _charts(live, names)
    _by_revision(live, names)


def _promise(service: Service) -> str:
    slos = service.spec.slos
    return " · ".join([*(str(slo) for slo in slos.latency), f"{slos.target_qps:g} requests/s"])


def _window() -> str:
    chosen = st.segmented_control(
        "Window", list(WINDOWS_S), default="5 min", required=True, label_visibility="collapsed", key="window"
    )
    return chosen or "5 min"


def _check_card(check: LiveCheck) -> Card:
    value, unit = words.latency(check.measured_ms)
    name = words.percentile(check.slo)
    says = {
        CheckState.MET: f"limit {check.slo.limit_ms:g} ms · met",
        CheckState.MISSED: f"limit {check.slo.limit_ms:g} ms · {words.percent(check.miss_ratio)} missed it",
        CheckState.FEW: f"limit {check.slo.limit_ms:g} ms · {check.samples} of {check.needed} needed",
        CheckState.SILENT: f"limit {check.slo.limit_ms:g} ms · no traffic",
    }
    return Card(name, value, unit, says[check.state], _COLOUR[check.state])


def _other_cards(live: Live) -> list[Card]:
    overall, slos = live.overall, live.slos
    erring = overall.error_ratio is not None and overall.error_ratio > slos.max_error_ratio
    quiet = overall.error_ratio is None
    colour = theme.FAINT if quiet else theme.BAD if erring else theme.GOOD
    return [
        Card(
            "Errors", words.percent(overall.error_ratio, 2), "", f"limit {words.percent(slos.max_error_ratio)}", colour
        ),
        Card("Attainment", words.percent(overall.attainment), "", "met every limit"),
        Card("Rate", words.number(overall.rps), "req/s", f"target {slos.target_qps:g} req/s"),
        Card("Requests", words.count(overall.requests), "", f"{overall.truncated} truncated"),
    ]


def _charts(live: Live, names: charts_live.Roles) -> None:
    left, right = st.columns(2)
    with left:
        components.chart(
            charts_live.quantile(live, LatencyMetric.TTFT, names), key="ttft", title="Time to first token", help_=_BOLD
        )
        components.chart(
            charts_live.quantile(live, LatencyMetric.E2E, names), key="e2e", title="End-to-end latency", help_=_BOLD
        )
        components.chart(charts_live.attainment(live, names), key="attainment", title="Attainment")
    with right:
        components.chart(
            charts_live.quantile(live, LatencyMetric.TPOT, names),
            key="tpot",
            title="Time per output token",
            help_=_BOLD,
        )
        components.chart(charts_live.rate(live, names), key="rate", title="Request rate")
        components.chart(charts_live.errors(live, names), key="errors", title="Errors")


def _by_revision(live: Live, names: charts_live.Roles) -> None:
    components.section("By revision")
    columns = [Column("Role"), Column("Revision")]
    columns += [Column(title, numeric=True) for title in _FIGURES]
    rows = []
    for part in live.revisions:
        role, figures = names[part.revision], part.figures
        latencies = (figures.ttft_ms.p99, figures.tpot_ms.p99, figures.e2e_ms.p99)
        rows.append(
            [
                components.pill(role.name, role.colour),
                part.revision or words.NONE,
                words.count(figures.requests),
                words.number(figures.rps),
                *(" ".join(words.latency(ms)) for ms in latencies),
                words.percent(figures.attainment),
                words.percent(figures.error_ratio, 2),
            ]
        )
    components.table(columns, rows)


_FIGURES = ("Requests", "Rate, req/s", "P99 TTFT", "P99 TPOT", "P99 E2E", "Attainment", "Errors")
