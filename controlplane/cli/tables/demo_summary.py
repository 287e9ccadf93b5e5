"""What the demo ends with: baseline and winner side by side, the verdicts, and where to look next."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from controlplane.cli.tables.show import cell, console
from controlplane.domain.report import LoadTestReport
from controlplane.domain.service import ServiceSpec
from controlplane.domain.slo import LatencyMetric
from controlplane.domain.studies.study import Side, StudyEvidence

Facts = dict[str, Any]


def facts(study: Facts, trials: list[Facts], rollout: Facts | None, traffic: LoadTestReport) -> Facts:
    """Return the run's facts as JSON-ready values: `{"baseline", "winner", "rollout", "requests", ...}`."""
    found = study["recommendation"]
    evidence = StudyEvidence.model_validate(found["evidence"])
    baseline, winner = evidence.sides()
    return {
        "study": study["study_id"],
        "emulated": True,
        "time_lapse": evidence.time_lapse,
        "improvement": found["improvement"],
        "answer": found["answer"],
        "summary": found["summary"],
        "chances": found["chances"],
        "baseline": _side(evidence.baseline.trial_id, baseline),
        "winner": _side(evidence.winner.trial_id, winner),
        "cost_ratio": [evidence.cost_ratio_low, evidence.cost_ratio, evidence.cost_ratio_high]
        if evidence.compares
        else [None] * 3,
        "fleet_check": evidence.fleet_check.model_dump(mode="json") if evidence.fleet_check else None,
        "trials": len(trials),
        "engine_starts": study["engine_starts"],
        "rollout": None if rollout is None else _rollout(rollout),
        "requests": {"sent": traffic.requests, "failed": traffic.errors, "truncated": traffic.truncated},
    }


def print_summary(result: Facts, spec: ServiceSpec, *, minutes: float) -> None:
    """Print the facts for a person."""
    console.print()
    console.print(_sides(result))
    low, ratio, high = result["cost_ratio"]
    console.print(f"{result['answer']}: {result['summary']}", highlight=False)
    if ratio is not None:
        over = f"{ratio:.2f} (95 % interval {low:.2f} to {high:.2f})"
        console.print(f"cost of the winner's fleet over the baseline's: {over}", highlight=False)
    if result["rollout"] is not None:
        console.print(_steps(result["rollout"]))
    requests = result["requests"]
    counts = ", ".join(f"{requests[name]} {name}" for name in ("sent", "failed", "truncated"))
    console.print(f"live traffic through the gateway: {counts}", highlight=False)
    console.print(
        f"{result['trials']} trials, {result['engine_starts']} engine starts, {minutes:.1f} minutes. "
        f"All of it on EMULATED {spec.gpus.type}s, time-lapse {result['time_lapse']:g}.",
        highlight=False,
    )
    console.print("next: fleetune recommendation show, fleetune trial list, fleetune event list; docs/architecture.md")


def _side(trial_id: str, side: Side) -> Facts:
    passed = [level for level in side.trial.levels if level.passed]
    report = max(passed, key=lambda level: level.rate_rps).report if passed else None
    return {
        "trial": trial_id,
        "flags": dict(side.trial.config.flags),
        "capacity_rps": side.capacity.rps if side.capacity else None,
        "replicas": side.fleet.replicas if side.fleet else None,
        "gpus": side.fleet.gpus if side.fleet else None,
        "usd_per_hour": side.fleet.usd_per_hour if side.fleet else None,
        "usd_per_million_tokens": side.usd_per_million_tokens,
        **{f"p99_{metric.value}": _p99(report, metric) for metric in LatencyMetric},
    }


def _p99(report: LoadTestReport | None, metric: LatencyMetric) -> float | None:
    found = getattr(report, metric.value).at(99) if report else None
    return None if found is None else float(found.value)


def _rollout(rollout: Facts) -> Facts:
    return {
        "id": rollout["rollout_id"],
        "state": rollout["state"],
        "reason": rollout["reason"],
        "steps": [_step(step) for step in rollout["steps"]],
    }


def _step(step: Facts) -> Facts:
    analysis = step["analysis"] or {}
    return {
        "weight_percent": step["weight_percent"],
        "verdict": analysis.get("verdict"),
        "reason": analysis.get("reason"),
        "canary": analysis.get("canary"),
        "stable": analysis.get("stable"),
        "comparisons": analysis.get("comparisons", []),
    }


def _sides(result: Facts) -> Table:
    table = Table(
        title="baseline and winner, measured again; latencies at the highest passing rate of a replica",
        title_justify="left",
        box=None,
    )
    for column in ("", "baseline", "winner"):
        table.add_column(column)
    rows = {
        "flags": "flags",
        "capacity_rps": "capacity, requests/s per replica",
        "replicas": "replicas for the target",
        "gpus": "GPUs",
        "usd_per_hour": "USD per hour",
        "usd_per_million_tokens": "USD per million tokens",
        "p99_ttft_ms": "P99 TTFT, ms",
        "p99_tpot_ms": "P99 TPOT, ms",
        "p99_e2e_ms": "P99 E2E, ms",
    }
    for name, title in rows.items():
        table.add_row(title, cell(result["baseline"][name]), cell(result["winner"][name]))
    return table


def _steps(rollout: Facts) -> Table:
    table = Table(title=f"canary: {rollout['state']}", title_justify="left", box=None)
    for column in ("step", "verdict", "canary requests", "stable requests", "rests on"):
        table.add_column(column)
    for step in rollout["steps"]:
        counts = [str(side["requests"]) if side else "–" for side in (step["canary"], step["stable"])]
        table.add_row(f"{step['weight_percent']} %", cell(step["verdict"]), *counts, cell(step["reason"]))
    return table
