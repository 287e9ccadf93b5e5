"""Tables of the study page: every trial, and baseline beside winner."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import pandas as pd
import streamlit as st

from controlplane.domain.capacity import FleetSize
from controlplane.domain.report import LoadTestReport
from controlplane.domain.study import Evidence, FleetCheck, Study, Trial
from dashboards import charts_study, components, words
from dashboards.components import Column


def trials(study: Study, found: Sequence[Trial]) -> None:
    """Show every trial, with what it changed against the baseline."""
    st.dataframe(
        trial_frame(study, found),
        hide_index=True,
        height="content",
        placeholder=words.NONE,
        column_config={
            "USD/h at target": st.column_config.NumberColumn(format="$%.2f"),
            "USD/M tokens": st.column_config.NumberColumn(format="$%.3f"),
            "start, s": st.column_config.NumberColumn(format="%.0f"),
            "flags against baseline": st.column_config.TextColumn(width="large"),
        },
    )


def trial_frame(study: Study, found: Sequence[Trial]) -> pd.DataFrame:
    """Return one row per trial, in the order they were tried."""
    return pd.DataFrame(
        [
            {
                "#": trial.number,
                "kind": words.TRIAL_KIND[trial.kind] + (" ★" if charts_study.is_winner(study, trial) else ""),
                "state": trial.state.value,
                "capacity, req/s": words.capacity(trial.capacity),
                "replicas": None if trial.fleet is None else trial.fleet.replicas,
                "GPUs": None if trial.fleet is None else trial.fleet.gpus,
                "USD/h at target": None if trial.fleet is None else trial.fleet.usd_per_hour,
                "USD/M tokens": trial.usd_per_million_tokens,
                "start, s": trial.startup_s,
                "levels": len(trial.levels),
                "flags against baseline": words.changes(trial.config, study.baseline),
                "why": trial.reason or "",
            }
            for trial in found
        ]
    )


def side_by_side(study: Study, evidence: Evidence) -> None:
    """Show baseline and winner beside each other, as measured again: flags, size, latency at capacity, money."""
    worth = evidence.sides()
    pair = [side.trial for side in worth]
    rows = [
        ["Flags", *(components.flag_lines(trial.config) for trial in pair)],
        ["Capacity of one replica, req/s", *(words.capacity(side.capacity) for side in worth)],
        ["Replicas × GPUs", *(_size(side.fleet) for side in worth)],
        ["Fleet cost per hour", *(words.usd(side.fleet.usd_per_hour if side.fleet else None) for side in worth)],
        ["USD per million tokens", *(words.usd(side.usd_per_million_tokens, 3) for side in worth)],
    ]
    for slo in charts_study.tightest(study.spec).values():
        name = f"{words.percentile(slo)} at capacity (limit {slo.limit_ms:g} ms)"
        rows.append([name, *(_latency(trial, slo.metric.value, slo.percentile) for trial in pair)])
    if evidence.winner.quality is not None:
        rows.append(["Answers against the baseline's", words.NONE, evidence.winner.quality.reason])
    if evidence.fleet_check is not None:
        rows.append(["Whole fleet, behind a gateway", words.NONE, _fleet_check(evidence.fleet_check)])
    components.table([Column(""), Column("Baseline"), Column("Winner")], rows)
    st.html(f'<div class="ft-sub" style="font-size:0.84rem;padding:2px">{escape(_provenance(evidence))}</div>')


def _fleet_check(check: FleetCheck) -> str:
    if check.held is None:
        return f"not checked: {check.reason}"
    verdict = "held" if check.held else "missed"
    return f"{check.replicas} replicas {verdict} {words.number(check.rate_rps or 0)} req/s: {check.reason}"


def _provenance(evidence: Evidence) -> str:
    parts = [f"engine {evidence.engine_version}", f"on {evidence.gpu}", f"seed {evidence.seed}"]
    parts.append(f"{len(evidence.trial_ids)} trials, {len(evidence.confirmations)} of them confirmations")
    return "Rests on: " + ", ".join(parts)


def _size(fleet: FleetSize | None) -> str:
    return words.NONE if fleet is None else f"{fleet.replicas} × {fleet.gpus // fleet.replicas}"


def _latency(trial: Trial, metric: str, percentile: float) -> str:
    report = _at_capacity(trial)
    if report is None:
        return words.NONE
    found = getattr(report, metric).at(percentile)
    if found is None:
        return words.NONE
    high = "?" if found.high is None else words.number(found.high)
    return f"{words.number(found.value)} ms ({words.number(found.low)}–{high})"


def _at_capacity(trial: Trial) -> LoadTestReport | None:
    passed = [level for level in trial.levels if level.passed]
    return max(passed, key=lambda level: level.rate_rps).report if passed else None
