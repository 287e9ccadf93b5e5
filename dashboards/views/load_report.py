"""Load report: one load test's figures with their intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd
import streamlit as st

from controlplane.domain.report import Distribution, LoadTestReport, Percentile, SloCheck, Validity
from controlplane.domain.service import ServiceSpec
from dashboards import components, markup, theme, words
from dashboards.charts import report as charts_report
from dashboards.client import ApiClient, StoredReport
from dashboards.markup import Card, Column
from dashboards.page import choose_one

EVERY_SERVICE = "all services"


def show(client: ApiClient) -> None:
    """Render the page."""
    specs: dict[str, ServiceSpec] = {service.name: service.spec for service in client.services()}
    chosen = EVERY_SERVICE
    if specs:
        chosen = st.selectbox("Service", [EVERY_SERVICE, *specs], width=320, key="report-service")
    reports = client.load_reports(None if chosen == EVERY_SERVICE else chosen)
    if not reports:
        components.headline("Load report")
        components.note(
            "No load report yet",
            "A load test measures one endpoint under one workload. Replays appear by themselves; others:",
            f"{words.load_command(next(iter(specs.values()), None))} --json report.json",
            f"fleetune load upload report.json first-test{''.join(f' --service {name}' for name in [*specs][:1])}",
        )
        return
    stored = _choose(reports)
    report = stored.report
    valid = report.validity is Validity.VALID
    state = markup.pill("valid" if valid else "invalid", theme.GOOD if valid else theme.BAD)
    components.headline(
        f"Load report {stored.report_id}",
        f"{report.target} · {words.moment(stored.at)} UTC · seed {report.seed}",
        state,
    )
    _emulation(report, specs.get(_owner(client, specs, stored) if chosen == EVERY_SERVICE else chosen))
    if not valid:
        text = f"{report.invalid_reason}. The figures below say nothing about the target."
        components.note("The generator could not keep its schedule", text)
    components.cards(_cards(report))
    _plots(report)
    _limits(report.slo_checks, report.requests)
    components.section("Latencies, milliseconds, with 95 % intervals")
    st.dataframe(latency_frame(report), hide_index=True)


def _choose(reports: Sequence[StoredReport]) -> StoredReport:
    by_id = {stored.report_id: stored for stored in reports}

    def text_of(name: str) -> str:
        return f"{name} · {by_id[name].report.rate_rps:g} req/s · {words.moment(by_id[name].at)}"

    return choose_one("Report", by_id, text_of, key="report")


def _owner(client: ApiClient, services: Iterable[str], stored: StoredReport) -> str:
    """Return the service a report is of, which the list of all reports does not tell; empty when it is of none."""
    owned = ((name, client.load_reports(name)) for name in services)
    return next((name for name, reports in owned if stored.report_id in {each.report_id for each in reports}), "")


def _emulation(report: LoadTestReport, spec: ServiceSpec | None) -> None:
    kind = None if spec is None else spec.engine.kind
    components.emulation(kind, "" if spec is None else spec.gpus.type, report.time_lapse)


def _cards(report: LoadTestReport) -> list[Card]:
    errors = "none" if not report.error_counts else ", ".join(f"{n} {k}" for k, n in report.error_counts.items())
    colour = theme.GOOD if report.errors == 0 else theme.BAD
    return [
        Card("Offered rate", words.number(report.rate_rps), "req/s", f"for {words.span(report.duration_s)}"),
        Card(
            "Throughput",
            words.number(report.throughput_rps),
            "req/s",
            f"{words.number(report.output_tps)} output tokens/s",
        ),
        Card("Goodput", words.number(report.goodput_rps), "req/s", "met every limit"),
        Card("Attainment", words.percent(report.attainment), "", f"{report.completed} of {report.requests} completed"),
        Card("Errors", words.percent(report.error_ratio, 2), "", errors, colour),
        Card("Schedule lag P99", *words.latency(_p99(report.lag_ms)), _cpu(report)),
    ]


def _p99(distribution: Distribution) -> float | None:
    found = distribution.at(99)
    return None if found is None else found.value


def _cpu(report: LoadTestReport) -> str:
    cpu = report.generator_cpu_percent
    return "of the generator" if cpu is None else f"generator CPU {cpu:.0f} %"


def _plots(report: LoadTestReport) -> None:
    left, middle, right = st.columns(3)
    with left:
        figure = charts_report.percentiles(report, ["ttft_ms"])
        components.chart(figure, key="report-ttft", title="Time to first token")
    with middle:
        figure = charts_report.percentiles(report, ["tpot_ms", "itl_ms"])
        components.chart(figure, key="report-tpot", title="Between tokens")
    with right:
        figure = charts_report.percentiles(report, ["e2e_ms"])
        components.chart(figure, key="report-e2e", title="End to end")


def _limits(checks: Sequence[SloCheck], requests: int) -> None:
    if not checks:
        return
    components.section("Limits")
    columns = [
        Column("Limit"),
        Column(""),
        Column("Measured", True),
        Column("Missed", True),
        Column("95 % interval", True),
    ]
    rows = [
        [
            str(check.slo),
            _verdict(check, requests),
            words.NONE if check.measured is None else f"{words.number(check.measured.value)} ms",
            words.percent(check.miss_ratio, 2),
            f"{words.percent(check.miss_ratio_low, 2)} to {words.percent(check.miss_ratio_high, 2)}",
        ]
        for check in checks
    ]
    components.table(columns, rows)


def _verdict(check: SloCheck, requests: int) -> markup.Html:
    """Return the same as everywhere: met only by enough requests."""
    if not check.met:
        return markup.pill("missed", theme.BAD)
    if check.is_shown(requests):
        return markup.pill("met", theme.GOOD)
    return markup.pill(f"{requests:,} of {check.needed(requests):,} needed", theme.WARN)


def latency_frame(report: LoadTestReport) -> pd.DataFrame:
    """Return one row per latency: mean, and each percentile with its interval."""
    rows = []
    for name, title, _ in (*charts_report.METRICS, ("lag_ms", "schedule lag", "")):
        distribution: Distribution = getattr(report, name)
        row = {"latency": title, "samples": distribution.count, "mean": words.number(distribution.mean)}
        rows.append(row | {f"P{p.percentile:g}": _interval(p) for p in distribution.percentiles})
    return pd.DataFrame(rows).fillna(words.NONE)


def _interval(point: Percentile) -> str:
    high = "∞" if point.high is None else words.number(point.high)
    return f"{words.number(point.value)} ({words.number(point.low)}–{high})"
