"""What an A/B test may be wrong with, and what it finds: simulated users, looked at after every request.

    python -m benchmarks.ab --json docs/results/ab-tests.json

A/A: both arms are the same, so every "they differ" is false, whenever it comes. Power: the challenger is better by a
multiple of the minimum effect the test was planned for, and the test ends at the users planned. Split: one arm gets
more or fewer users than its share. Users come back or do not; those who do have a level of their own, which is what
makes their requests alike. Everything is decided by the product's own bounds (`controlplane.domain.ab_tests`).
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlplane.domain.ab_tests.ab_test import AbOptions
from controlplane.domain.ab_tests.bounds import apart
from controlplane.domain.ab_tests.means import Means
from controlplane.domain.ab_tests.metrics import AbMetric
from controlplane.domain.ab_tests.planning import effect_of, users_needed
from controlplane.domain.rollouts.anytime import miss_ratio_bounds

ALPHA = 0.05
SPLIT_ALPHA = 0.001
RETURNING = 4.0
"""Requests of a user who comes back, on average (geometric)."""

Draw = Callable[[random.Random, float, float], float]
"""Returns a request's value, given the user's level (a standard normal) and the arm's effect."""


@dataclass(frozen=True)
class World:
    """One kind of metric: how it is drawn, and what a test of it is planned with."""

    name: str
    metric: AbMetric
    minimum_effect_percent: float
    baseline: float
    spread: float
    draw: Draw


def _latency(chance: random.Random, level: float, effect: float) -> float:
    return math.log(300) + effect + 0.3 * level + chance.gauss(0, 0.6)


def _heavy(chance: random.Random, level: float, effect: float) -> float:
    """Logarithms with tails of their own: one answer in fifty is ten times as long."""
    return 5.0 + effect + 0.3 * level + chance.gauss(0, 0.5) + (math.log(10) if chance.random() < 0.02 else 0.0)


def _share(baseline: float) -> Draw:
    def draw(chance: random.Random, level: float, effect: float) -> float:
        ratio = min(1.0, max(0.0, (baseline + effect) * (1 + 0.3 * max(-2.0, min(2.0, level)))))
        return float(chance.random() < ratio)

    return draw


def _stars(chance: random.Random, level: float, effect: float) -> float:
    """One to five stars, as 0 to 1."""
    liked = min(1.0, max(0.0, 0.68 + effect + 0.1 * max(-2.0, min(2.0, level))))
    return sum(chance.random() < liked for _ in range(4)) / 4


WORLDS = (
    World("TTFT", AbMetric.TTFT, 10, math.log(300), math.hypot(0.3, 0.6), _latency),
    World("length, heavy tails", AbMetric.LENGTH, 10, 5.05, 0.67, _heavy),
    World("SLO misses of 5 %", AbMetric.SLO_MISSES, 3, 0.05, math.sqrt(0.05 * 0.95), _share(0.05)),
    World("feedback in stars", AbMetric.FEEDBACK, 5, 0.68, math.sqrt(0.68 * 0.32 / 4), _stars),
)


@dataclass
class Trial:
    """One simulated test: two arms at a share, users one after the other."""

    world: World
    chance: random.Random
    effect: float = 0.0
    returning: bool = False
    share: float = 0.5

    def __post_init__(self) -> None:
        self.arms = (Means(), Means())

    def requests(self, users: int) -> Iterator[int]:
        """Let requests come until so many users have; gives how many users there were, after each request."""
        back: list[tuple[int, float, float, int]] = []
        seen = 0
        while seen < users:
            if back and self.chance.random() < 1 - 1 / RETURNING:
                at = self.chance.randrange(len(back))
                back[at] = self._ask(*back[at])
            else:
                seen += 1
                user = self._ask(int(self.chance.random() < self.share), self.chance.gauss(0, 1), 0.0, 0)
                if self.returning:
                    back.append(user)
            yield seen

    def _ask(self, arm: int, level: float, total: float, count: int) -> tuple[int, float, float, int]:
        value = self.world.draw(self.chance, level if self.returning else 0.0, self.effect * arm)
        before = total / count if count else None
        total, count = total + value, count + 1
        self.arms[arm].take(total / count, before)
        return arm, level, total, count

    def apart(self, planned: int) -> bool:
        return apart(self.world.metric, *self.arms, alpha=ALPHA, planned=planned)


def false_positives(world: World, *, returning: bool, tests: int, users: int, seed: int) -> dict[str, Any]:
    """Return in how many A/A tests the arms were ever called different, looked at after every request."""
    chance = random.Random(f"{world.name}/{returning}/{seed}")
    wrong = 0
    for _ in range(tests):
        test = Trial(world, chance, returning=returning)
        wrong += any(test.apart(users) for _ in test.requests(users))
    return {"metric": world.name, "users_come_back": returning, "tests": tests, "users": users, "wrong": wrong / tests}


def power(world: World, multiple: float, *, tests: int, seed: int) -> dict[str, Any]:
    """Return how often an effect is found within the users planned, and how many it took."""
    options = AbOptions(metric=world.metric, minimum_effect_percent=world.minimum_effect_percent)
    per_arm = users_needed(options, baseline=world.baseline, spread=world.spread, alpha=ALPHA)
    better = world.metric.better or -1
    effect = multiple * better * effect_of(world.metric, world.minimum_effect_percent)
    if world.metric is AbMetric.SLO_MISSES:
        effect = abs(effect)  # planned for what the larger ratio varies by
    chance = random.Random(f"{world.name}/{multiple}/{seed}")
    took = [_found_at(Trial(world, chance, effect=effect), 2 * per_arm) for _ in range(tests)]
    found = [users for users in took if users is not None]
    return {
        "metric": world.name,
        "effect_in_minimum_effects": multiple,
        "users_planned": 2 * per_arm,
        "tests": tests,
        "found": len(found) / tests,
        "median_users": sorted(found)[len(found) // 2] if found else None,
    }


def _found_at(test: Trial, users: int) -> int | None:
    every = max(1, users // 200)
    looks = (seen for seen in test.requests(users) if seen % every == 0)
    return next((seen for seen in looks if test.apart(users)), None)


def split(got: float, *, tests: int, users: int, seed: int) -> dict[str, Any]:
    """Return how often users split by `got` where a half is asked are found to be, looked at after every tenth."""
    chance = random.Random(f"split/{got}/{seed}")
    took = [_held_at(got, users, chance) for _ in range(tests)]
    found = sorted(at for at in took if at is not None)
    return {
        "asked": 0.5,
        "got": got,
        "tests": tests,
        "users": users,
        "found": len(found) / tests,
        "median_users": found[len(found) // 2] if found else None,
    }


def _held_at(got: float, users: int, chance: random.Random) -> int | None:
    mine = 0
    for seen in range(1, users + 1):
        mine += chance.random() < got
        if seen % 10 == 0 and abs(mine / seen - 0.5) > 1 / math.sqrt(seen):  # nearer is never outside
            low, high = miss_ratio_bounds(mine, seen, SPLIT_ALPHA / 2)
            if not low <= 0.5 <= high:
                return seen
    return None


def measure(*, tests: int, seed: int) -> dict[str, Any]:
    """Return everything that is published."""
    wrong = [
        false_positives(world, returning=returning, tests=tests, users=2000, seed=seed)
        for world in WORLDS
        for returning in (False, True)
    ]
    curve = [power(world, multiple, tests=tests // 10, seed=seed) for world in WORLDS for multiple in (0, 0.5, 1, 1.5)]
    splits = [split(got, tests=tests // 2, users=20_000, seed=seed) for got in (0.5, 0.49, 0.48, 0.45)]
    return {"seed": seed, "alpha": ALPHA, "false_positives": wrong, "power": curve, "split": splits}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=int, default=1000, help="A/A tests of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    found = measure(tests=given.tests, seed=given.seed)
    for part in ("false_positives", "power", "split"):
        print(part)
        for row in found[part]:
            print("  ", ", ".join(f"{name} {value}" for name, value in row.items()))
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
