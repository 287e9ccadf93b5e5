"""A week of diurnal traffic with bursts under six ways to scale, in virtual time, minutes on one core.

    nice -n 19 python -m benchmarks.autoscale --seeds 1 2 3 --json docs/results/autoscale.json

A Llama-3.1-8B shape on one H200 a replica (the twin's curves), SLOs P99 TTFT 500 ms and P99 TPOT 40 ms, start-up 90 s.
One day to learn from, then a week that is scored. A request misses by the twin's share at the rate of its five seconds,
and for certain when it waits in a queue longer than the limit.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean

from benchmarks.scaling.contestants import contestants
from benchmarks.scaling.fleet import Week, needed, run
from benchmarks.scaling.replica import SPEC, Replica, replica
from benchmarks.scaling.traffic import DAY_TICKS, TICK_S, arrivals

HEADROOM = 0.15
PEAK_RPS = 400.0
LEARN_DAYS = 1
Row = dict[str, float]


def week(one: Replica, *, days: int, seed: int, headroom: float = HEADROOM) -> dict[str, Week]:
    """Return what every contestant came to under the arrivals of one seed."""
    arrived = arrivals(days + LEARN_DAYS, peak_rps=PEAK_RPS, seed=seed)
    score_from = LEARN_DAYS * DAY_TICKS
    start = needed(float(arrived[:12].mean()) / TICK_S, one.capacity.rate_rps.value, headroom)
    policies = contestants(one, arrived, headroom=headroom, score_from=score_from)
    return {name: run(policy, arrived, one, start=start, score_from=score_from) for name, policy in policies.items()}


def summary(weeks: list[dict[str, Week]]) -> dict[str, Row]:
    """Return the mean over seeds, the worst attainment, and GPU-hours over static peak's."""
    peak = mean(each["static peak"].gpu_hours for each in weeks)
    price = SPEC.gpus.price_usd_per_gpu_hour
    found = {}
    for name in weeks[0]:
        mine = [each[name] for each in weeks]
        hours = mean(each.gpu_hours for each in mine)
        found[name] = {
            "attainment_percent": 100 * mean(each.attainment for each in mine),
            "worst_attainment_percent": 100 * min(each.attainment for each in mine),
            "gpu_hours": hours,
            "of_static_peak_percent": 100 * hours / peak,
            "usd": price * hours,
            "scaling_actions": mean(each.actions for each in mine),
            "most_replicas": max(each.most_replicas for each in mine),
        }
    return found


def beaten_by(rows: dict[str, Row], name: str = "ours") -> list[str]:
    """Return who is both cheaper and better."""
    own = rows[name]
    return [
        other
        for other, row in rows.items()
        if row["gpu_hours"] < own["gpu_hours"] and row["attainment_percent"] > own["attainment_percent"]
    ]


def main() -> None:
    """Run, print a table, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--headroom", type=float, default=HEADROOM)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    one = replica(seed=SPEC.tuning.seed)
    rows = summary([week(one, days=asked.days, seed=seed, headroom=asked.headroom) for seed in asked.seeds])
    print(f"one replica: {one.capacity.rate_rps.value:.3g} requests/s, at most {one.most_rps:.3g}")
    print("| | attainment % | worst | GPU-hours | % of static peak | USD | actions | most replicas |")
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(f"{value:.5g}" for value in row.values()) + " |")
    print(f"cheaper and better than ours: {', '.join(beaten_by(rows)) or 'nobody'}")
    if asked.json is not None:
        told = {"seeds": asked.seeds, "days": asked.days, "headroom": asked.headroom, "contestants": rows}
        asked.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
