"""Replays: the same load test again and again, and whether the service got slower."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from controlplane.domain.report import Validity
from dashboards import components, markup, theme, words
from dashboards.charts import replay as charts_replay
from dashboards.client import ApiClient, Replay
from dashboards.markup import Card, Column
from dashboards.page import choose_one, choose_service, due_replays, no_service

_ROWS = 20


def show(client: ApiClient) -> None:
    """Render the page."""
    services = client.services()
    if not services:
        no_service("Replays")
        return
    service = choose_service(services)
    replays = client.replays(service.name)
    if not replays:
        components.headline("Replays", service.name)
        due_replays(client, client.schedules(service.name))
        components.note(
            "No replay yet",
            "A scheduled replay sends the same load test again and again and says when the service got slower:",
            f"fleetune schedule create {service.name} nightly --cron '0 3 * * *' --action replay --rate 5",
        )
        return
    series = _choose(replays)
    latest = series[0]
    pill = markup.pill("regressed", theme.BAD) if latest.regressed else markup.pill("as before", theme.GOOD)
    subtitle = (
        f"{service.name} · {len(series)} at {latest.report.rate_rps:g} req/s · last {words.moment(latest.at)} UTC"
    )
    components.headline(f"Replays {latest.schedule}", subtitle, pill)
    due_replays(client, client.schedules(service.name))
    components.emulation(service.spec.engine.kind, service.spec.gpus.type, service.spec.engine.time_lapse)
    components.cards(_cards(series))
    for metric, title in (("ttft_ms", "Time to first token"), ("tpot_ms", "Time per output token")):
        help_ = "with 95 % intervals; the dotted line is what the next replay is held against"
        components.chart(charts_replay.series(series, metric), key=f"replay-{metric}", title=title, help_=help_)
    _table(series)


def _choose(replays: Sequence[Replay]) -> Sequence[Replay]:
    """Points can be compared when their schedule and rate are the same."""
    by_series: dict[str, list[Replay]] = {}
    for each in replays:
        by_series.setdefault(f"{each.schedule} at {each.report.rate_rps:g} req/s", []).append(each)
    return choose_one("Series", by_series, lambda name: name, key="replay-series")


def _cards(series: Sequence[Replay]) -> list[Card]:
    latest, baseline = series[0].report, charts_replay.baseline_of(series[1:])
    worse = sum(each.regressed for each in series)
    among = "in 1 replay" if len(series) == 1 else f"in {len(series)} replays"

    def card(metric: str, title: str) -> Card:
        point = getattr(latest, metric).at(99)
        before = None if baseline is None else getattr(baseline.report, metric).at(99)
        small = "first of its kind" if before is None else f"baseline {' '.join(words.latency(before.value))}"
        return Card(title, *words.latency(None if point is None else point.value), small)

    return [
        card("ttft_ms", "P99 TTFT"),
        card("tpot_ms", "P99 TPOT"),
        card("e2e_ms", "P99 E2E"),
        Card("Errors", words.percent(latest.error_ratio, 2), "", f"{latest.errors} of {latest.requests}"),
        Card(
            "Regressions",
            str(worse),
            "",
            among,
            theme.BAD if worse else theme.GOOD,
        ),
    ]


def _table(series: Sequence[Replay]) -> None:
    titles = ("P50 TTFT, ms", "P99 TTFT, ms", "P50 TPOT, ms", "P99 TPOT, ms", "Errors")
    columns = [Column("When, UTC"), Column("Replay"), *(Column(title, True) for title in titles), Column("")]
    components.section("Replays, newest first")
    components.table(columns, [_row(each) for each in series[:_ROWS]])
    st.html(f'<div class="ft-sub">Each is a load report: fleetune replay show {series[0].report_id}</div>')


def _row(replay: Replay) -> list[str]:
    report = replay.report
    points = [values.at(rank) for values in (report.ttft_ms, report.tpot_ms) for rank in (50, 99)]
    return [
        words.moment(replay.at),
        replay.report_id,
        *(words.NONE if point is None else f"{point.value:,.1f}" for point in points),
        str(report.errors),
        _state(replay),
    ]


def _state(replay: Replay) -> str:
    if replay.report.validity is not Validity.VALID:
        return markup.pill("invalid", theme.WARN)
    return markup.pill("regressed", theme.BAD) if replay.regressed else markup.pill("as before", theme.GOOD)
