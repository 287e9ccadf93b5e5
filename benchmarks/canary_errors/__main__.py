"""`python -m benchmarks.canary_errors --rollouts 1000 --json FILE`: whole rollouts, cell by cell, rule by rule.

By default a small run over few cells. A rollout is wrong when an equal canary is aborted, or one that is worse by a
margin or more is promoted. Neither is wrong of a canary worse by less, and a rollout that a person has to look at
(paused: nothing certain within 600 s) is no error of either kind.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.canary_errors.rules import OPTIONS, RULES, Rule
from benchmarks.canary_errors.traffic import BASE, CANARIES, Cell, Step, steps


class Ended(NamedTuple):
    """One rollout under one rule."""

    state: str  # promoted, aborted, paused
    canary_requests: int
    replayed_requests: int
    users_hurt: int  # users' requests to the canary that missed, all of them


class Line(NamedTuple):
    canary: str
    rps: float
    burst: float
    replicas: int
    rule: str
    rollouts: int
    aborted: float
    promoted: float
    paused: float
    canary_requests: float  # median until the end of the rollout, replayed ones left out
    replayed_requests: float
    users_hurt: float  # mean
    wrong: float | None  # share of rollouts that ended wrongly; None: neither end is wrong


def run(cell: Cell, drawn: Sequence[Step], rule: Rule) -> Ended:
    """Take one rollout through its steps."""
    mine = ours = hurt = 0
    for index, step in enumerate(drawn):
        passed, at_s = rule(cell.canary, step, drawn[:index])
        mine += step.users.seen(at_s)
        ours += step.replayed.seen(at_s) if step.replayed else 0
        hurt += step.users.misses_between(0, at_s)[1]
        if passed is not True:
            return Ended("paused" if passed is None else "aborted", mine, ours, hurt)
    return Ended("promoted", mine, ours, hurt)


def measure(cell: Cell, rules: Sequence[str], rollouts: int, seed: int) -> list[Line]:
    """Run every rule on the same rollouts."""
    chance = [seed, CANARIES.index(cell.canary), int(10 * cell.rps), int(cell.burst), cell.replicas]
    rng = np.random.default_rng(chance)
    ended: dict[str, list[Ended]] = {name: [] for name in rules}
    for _ in range(rollouts):
        drawn = steps(cell, rng)
        for name in rules:
            ended[name].append(run(cell, drawn, RULES[name]))
    return [_line(cell, name, found) for name, found in ended.items()]


def _line(cell: Cell, rule: str, ended: Sequence[Ended]) -> Line:
    share = {state: sum(each.state == state for each in ended) / len(ended) for state in ("aborted", "promoted")}
    worse = cell.canary.miss_ratio - BASE
    wrong = share["aborted"] if worse <= 0 else share["promoted"]
    return Line(
        canary=cell.canary.name,
        rps=cell.rps,
        burst=cell.burst,
        replicas=cell.replicas,
        rule=rule,
        rollouts=len(ended),
        **share,
        paused=1 - sum(share.values()),
        canary_requests=float(np.median([each.canary_requests for each in ended])),
        replayed_requests=float(np.median([each.replayed_requests for each in ended])),
        users_hurt=float(np.mean([each.users_hurt for each in ended])),
        wrong=None if 0 < worse < OPTIONS.miss_ratio_margin - 1e-9 else wrong,
    )


def main() -> None:
    asked = _arguments()
    lines: list[Line] = []
    began = time.monotonic()
    print(f"| {' | '.join(Line._fields)} |\n|{'---|' * len(Line._fields)}")
    for cell in _cells(asked):
        found = measure(cell, asked.rules, asked.rollouts, asked.seed)
        lines += found
        for line in found:
            print("| " + " | ".join("–" if v is None else f"{v:.3g}" if isinstance(v, float) else str(v) for v in line))
    print(f"\n{_verdict(lines)} ({time.monotonic() - began:.0f} s)")
    if asked.json:
        asked.json.write_text(json.dumps([line._asdict() for line in lines], indent=1) + "\n")


def _cells(asked: argparse.Namespace) -> list[Cell]:
    canaries = [each for each in CANARIES if not asked.canaries or each.name in asked.canaries]
    places = [(b, r) for b in asked.bursts for r in asked.replicas]
    return [
        Cell(canary, rps, burst, replicas) for canary in canaries for rps in asked.rps for burst, replicas in places
    ]


def _verdict(lines: Sequence[Line]) -> str:
    """Say of ours in how many cells the declared error rate was kept, allowing for chance (two standard errors)."""
    mine = [line for line in lines if line.rule == "ours" and line.wrong is not None]
    declared = 1 - OPTIONS.confidence
    slack = 2 * (declared * (1 - declared) / max(1, mine[0].rollouts if mine else 1)) ** 0.5
    kept = [line for line in mine if line.wrong is not None and line.wrong <= declared]
    beyond = [line for line in mine if line.wrong is not None and line.wrong > declared + slack]
    return (
        f"ours: wrong in at most {100 * declared:.0f} % of the rollouts in {len(kept)} of {len(mine)} cells, "
        f"beyond chance in {len(beyond)}"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=10, help="Per cell.")
    parser.add_argument("--rps", type=float, nargs="+", default=[5.0, 20.0])
    parser.add_argument("--bursts", type=float, nargs="+", default=[1.0, 20.0])
    parser.add_argument("--replicas", type=int, nargs="+", default=[4])
    parser.add_argument("--canaries", nargs="*", default=[], help="By name; none: all.")
    parser.add_argument("--rules", nargs="+", choices=list(RULES), default=list(RULES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
