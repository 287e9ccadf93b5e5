"""What the demo ends with: baseline and winner side by side, the verdicts, and where to look next."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from controlplane.cli.show import cell, console
from controlplane.domain.report import LoadTestReport
from controlplane.domain.service import ServiceSpec

Facts = dict[str, Any]


def facts(study: Facts, trials: list[Facts], rollout: Facts | None, traffic: LoadTestReport) -> Facts:
    """Return the run's facts as JSON-ready values: `{"baseline", "winner", "rollout", "requests", ...}`."""
    found = study["recommendation"]
    evidence = found["evidence"]
    return {
        "study": study["study_id"],
        "emulated": True,
        "time_lapse": evidence["time_lapse"],
        "improvement": found["improvement"],
        "baseline": _side(evidence["baseline"]),
        "winner": _side(evidence["winner"]),
        "cost_ratio": [evidence[name] for name in ("cost_ratio_low", "cost_ratio", "cost_ratio_high")],
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
    console.print(
        f"cost of the winner over the baseline's: {ratio:.2f} (95 % interval {low:.2f} to {high:.2f})", highlight=False
    )
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


def _side(trial: Facts) -> Facts:
    report = _best_level(trial)
    fleet = trial["fleet"] or {}
    return {
        "trial": trial["trial_id"],
        "flags": trial["config"]["flags"],
        "capacity_rps": trial["capacity"]["rps"] if trial["capacity"] else None,
        "replicas": fleet.get("replicas"),
        "gpus": fleet.get("gpus"),
        "usd_per_hour": fleet.get("usd_per_hour"),
        "usd_per_million_tokens": trial["usd_per_million_tokens"],
        **{f"p99_{name}": _p99(report, name) for name in ("ttft_ms", "tpot_ms", "e2e_ms")},
    }


def _best_level(trial: Facts) -> Facts | None:
    passed = [level for level in trial["levels"] if level["passed"]]
    return max(passed, key=lambda level: float(level["rate_rps"]))["report"] if passed else None


def _p99(report: Facts | None, metric: str) -> float | None:
    percentiles = report[metric]["percentiles"] if report else []
    return next((each["value"] for each in percentiles if each["percentile"] == 99), None)


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
    table = Table(title="baseline and winner, per replica at its highest passing rate", title_justify="left", box=None)
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
