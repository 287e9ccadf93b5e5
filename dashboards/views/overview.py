"""SLO overview: what live traffic gets, against what was promised."""

from __future__ import annotations

import streamlit as st

from controlplane.domain.operations.live import CheckState, Live, LiveCheck
from controlplane.domain.rollouts.rollout import ROLLOUT_FINAL
from controlplane.domain.serving import Service
from controlplane.domain.slo import LatencyMetric
from dashboards import components, markup, theme, words
from dashboards.charts import live as charts_live
from dashboards.client import ApiClient
from dashboards.markup import Card, Column
from dashboards.page import choose_service, no_service

WINDOWS_S = {"1 min": (60.0, 5.0), "5 min": (300.0, 10.0), "15 min": (900.0, 30.0), "1 h": (3600.0, 120.0)}

_COLOUR = {
    CheckState.MET: theme.GOOD,
    CheckState.MISSED: theme.BAD,
    CheckState.FEW: theme.WARN,
    CheckState.UNMEASURED: theme.FAINT,
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
            "Send traffic through the gateway, say a load test of a shipped profile:",
            words.load_command(service.spec),
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
    fast = check.measured_ms is None or check.measured_ms <= check.slo.limit_ms
    missed = f"{words.percent(check.miss_ratio)} missed it{', errors count' if fast else ''}"
    says = {
        CheckState.MET: f"limit {check.slo.limit_ms:g} ms · met",
        CheckState.MISSED: f"limit {check.slo.limit_ms:g} ms · {missed}",
        CheckState.FEW: f"limit {check.slo.limit_ms:g} ms · {check.samples} of {check.needed} needed",
        CheckState.UNMEASURED: f"limit {check.slo.limit_ms:g} ms · nothing streamed",
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
        _latency(live, LatencyMetric.TTFT, names, "Time to first token")
        _latency(live, LatencyMetric.E2E, names, "End-to-end latency")
        components.chart(charts_live.attainment(live, names), key="attainment", title="Attainment")
    with right:
        _latency(live, LatencyMetric.TPOT, names, "Time per output token")
        components.chart(charts_live.rate(live, names), key="rate", title="Request rate")
        components.chart(charts_live.errors(live, names), key="errors", title="Errors")


def _latency(live: Live, metric: LatencyMetric, names: charts_live.Roles, title: str) -> None:
    help_ = f"P{charts_live.bold(live.slos, metric)} bold, P50 thin"
    components.chart(charts_live.quantile(live, metric, names), key=metric.value, title=title, help_=help_)


def _by_revision(live: Live, names: charts_live.Roles) -> None:
    components.section("By revision")
    ranks = {metric: charts_live.bold(live.slos, metric) for metric in LatencyMetric}
    latencies = [f"P{rank} {metric.value.removesuffix('_ms').upper()}" for metric, rank in ranks.items()]
    columns = [Column("Role"), Column("Revision")]
    columns += [Column(t, numeric=True) for t in ("Requests", "Rate, req/s", *latencies, "Attainment", "Errors")]
    rows = []
    for part in live.revisions:
        role, figures = names[part.revision], part.figures
        rows.append(
            [
                markup.pill(role.name, role.colour),
                part.revision or words.NONE,
                words.count(figures.requests),
                words.number(figures.rps),
                *(" ".join(words.latency(getattr(figures, m.value).at(rank))) for m, rank in ranks.items()),
                words.percent(figures.attainment),
                words.percent(figures.error_ratio, 2),
            ]
        )
    components.table(columns, rows)
