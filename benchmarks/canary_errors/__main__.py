"""`python -m benchmarks.canary_errors --rollouts 1000 --json FILE`: whole rollouts, cell by cell, rule by rule.

A rollout is wrong when an equal canary is aborted, or one that is worse by a margin or more is promoted. Neither is
wrong of a canary worse by less, and a rollout that a person has to look at (paused: nothing certain within 600 s a
step) is no error of either kind.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.canary_errors.bounds import Array, Bools
from benchmarks.canary_errors.lines import Line, as_json, fixed_size, summary
from benchmarks.canary_errors.rules import NEVER, RULES, Rule
from benchmarks.canary_errors.traffic import (
    BASE,
    CANARIES,
    HEAVY,
    SESSIONS,
    SHADOW,
    TIMES,
    TWIN,
    WEIGHTS,
    Cell,
    Step,
    draw,
    of_rows,
)

_NAMED = {TWIN: "twin", SESSIONS: "sessions", HEAVY: "heavy user"}
_MOST_BURST = 1 << 20  # seeds are not negative
BATCH = 100  # rollouts drawn together: as much as memory takes at 100 requests/s


class Ended:
    """What became of many rollouts under one rule."""

    def __init__(self, rollouts: int) -> None:
        self.state = np.full(rollouts, "promoted", dtype="<U8")
        self.users, self.replayed, self.missed = (np.zeros(rollouts) for _ in range(3))
        self.first = np.full(rollouts, np.nan)  # canary requests until the first step was decided
        self.misses = np.full(rollouts, np.nan)  # ... until its misses alone were: errors and min_s left out

    def go(self, steps: Sequence[Step], rule: Rule, *, replays: bool) -> None:
        """Take all rollouts through their steps; those that ended are asked about no more."""
        for index in range(len(steps)):
            here = self.state == "promoted"
            if not here.any():
                return
            asked = [of_rows(step, here) for step in steps[: index + 1]]
            decided = rule(asked[-1], asked[:-1])
            self._count(asked[-1], decided.at, here, replays=replays)
            if index == 0:
                self.first = np.where(decided.known, self.users + self.replayed, np.nan)
                self.misses = _requests(asked[-1], decided.misses_at, replays=replays)
            self.state[here] = np.where(decided.known, np.where(decided.passed, "promoted", "aborted"), "paused")

    def _count(self, step: Step, at: Array, here: Bools, *, replays: bool) -> None:
        rows, users = np.arange(len(at)), step.users if replays else step.users_alone
        at = at.astype(int)
        self.users[here] += users.n[0, at]
        self.missed[here] += users.hits[rows, at]
        if replays and step.replayed is not None:
            self.replayed[here] += step.replayed.n[0, at]


def _requests(step: Step, at: Array | None, *, replays: bool) -> Array:
    """Return canary requests at these moments, users' and replayed; NaN at none."""
    users = step.users if replays else step.users_alone
    if at is None:
        return np.full(len(users.hits), np.nan)
    moment = np.minimum(at, NEVER - 1).astype(int)
    replayed = step.replayed.n[0, moment] if replays and step.replayed is not None else 0
    return np.where(at < NEVER, users.n[0, moment] + replayed, np.nan)


def measure(cell: Cell, rules: Sequence[str], rollouts: int, seed: int) -> list[Line]:
    """Run every rule on the same rollouts."""
    chance = [seed, CANARIES.index(cell.canary), int(10 * cell.rps), int(cell.burst) % _MOST_BURST, cell.replicas]
    rng = np.random.default_rng(chance)
    ended: dict[str, list[Ended]] = {name: [] for name in rules}
    for first in range(0, rollouts, BATCH):
        number = min(BATCH, rollouts - first)
        steps = [draw(cell, weight, number, rng) for weight in (*WEIGHTS, SHADOW)]
        for name in rules:
            ours = name == "ours"
            ended[name].append(Ended(number))
            ended[name][-1].go([steps[-1], *steps[:-1]] if ours else steps[:-1], RULES[name], replays=ours)
    return [_line(cell, name, found) for name, found in ended.items()]


def _line(cell: Cell, rule: str, ended: Sequence[Ended]) -> Line:
    state, users, replayed, missed, first, misses = (
        np.concatenate([getattr(each, name) for each in ended])
        for name in ("state", "users", "replayed", "missed", "first", "misses")
    )
    ratio = cell.canary.miss_ratio
    because = 1.0 if cell.canary.collapses else (ratio - BASE) / ratio
    known = first[~np.isnan(first)]
    return Line(
        canary=cell.canary.name,
        rps=cell.rps,
        burst=_NAMED.get(cell.burst, cell.burst),
        replicas=cell.replicas,
        rule=rule,
        rollouts=len(state),
        aborted=float(np.mean(state == "aborted")),
        promoted=float(np.mean(state == "promoted")),
        paused=float(np.mean(state == "paused")),
        canary_requests=float(np.median(users)),
        replayed_requests=float(np.median(replayed)),
        users_hurt=float(np.mean(missed) * because),
        first_step_decided=float(len(known) / len(first)),
        first_step_requests=float(np.median(known)) if len(known) else None,
        misses_decided=float(np.mean(~np.isnan(misses))),
        misses_requests=float(np.nanmedian(misses)) if (~np.isnan(misses)).any() else None,
        fixed_size=fixed_size(cell),
    )


def main() -> None:
    asked = _arguments()
    lines: list[Line] = []
    began = time.monotonic()
    print(f"| {' | '.join(Line._fields)} |\n|{'---|' * len(Line._fields)}")
    for cell in some_of(_cells(asked), asked.cells, asked.seed):
        found = measure(cell, asked.rules, asked.rollouts, asked.seed)
        lines += found
        for line in found:
            print(line.row(), flush=True)
        if asked.json:  # cell by cell: a run that is cut short has said something
            asked.json.write_text(as_json(lines))
    print(f"\n{summary(lines)}\n({time.monotonic() - began:.0f} s, {NEVER} looks a step up to {TIMES[-1]:g} s)")


def _cells(asked: argparse.Namespace) -> list[Cell]:
    canaries = [each for each in CANARIES if not asked.canaries or each.name in asked.canaries]
    places = [(b, r) for b in asked.bursts for r in asked.replicas]
    return [
        Cell(canary, rps, burst, replicas, clusters=not asked.request_by_request)
        for canary in canaries
        for rps in asked.rps
        for burst, replicas in places
    ]


def some_of(cells: Sequence[Cell], most: int | None, seed: int) -> Sequence[Cell]:
    """Return so many cells drawn by chance, evenly of each kind of canary and runs; None: all, as they are."""
    if most is None:
        return cells
    chance = random.Random(seed)
    kinds: dict[tuple[str, float], list[Cell]] = {}
    for cell in chance.sample(cells, len(cells)):
        kinds.setdefault((cell.canary.name, cell.burst), []).append(cell)
    turns = itertools.zip_longest(*kinds.values())
    return [cell for turn in turns for cell in turn if cell is not None][:most]


def _burst(text: str) -> float:
    named = {name: burst for burst, name in _NAMED.items()}
    return named[text] if text in named else float(text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=100, help="Per cell.")
    parser.add_argument("--rps", type=float, nargs="+", default=[1.0, 5.0, 20.0])
    parser.add_argument(
        "--bursts", type=_burst, nargs="+", default=[1.0, 20.0], help="Mean runs; or twin, sessions, heavy user."
    )
    parser.add_argument("--request-by-request", action="store_true", help="Sessions are no clusters, as before.")
    parser.add_argument("--replicas", type=int, nargs="+", default=[4])
    parser.add_argument("--canaries", nargs="*", default=[], help="By name; none: all.")
    parser.add_argument("--rules", nargs="+", choices=list(RULES), default=list(RULES))
    parser.add_argument("--cells", type=int, help="So many of them, drawn by chance of the seed; as given: all.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
