"""Requests of one simulated rollout step: misses in runs (a Gilbert chain), users' and replayed, canary's and stable's.

Rates are constant: what differs from one rollout to the next is chance. Queueing of a real engine is not in here; the
collapse under load is `tests/integration/rollouts`, on twins.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from controlplane.domain.rollouts.analysis import Counts
from controlplane.domain.rollouts.bursts import Runs

BASE = 0.03  # stable's share of requests that miss a limit
STEP_S = 600.0
WEIGHTS = (5, 20, 100)
_SIGMA = 0.6  # of the logarithm of latencies, to turn a longer tail into misses
_TIME_OUT_S = 120.0  # the gateway's for a first token
_PATIENCE_S = 20.0  # clients leave a hanging request after so long

Array = npt.NDArray[np.int64]


class Canary(NamedTuple):
    """What is wrong with it: more misses, a longer tail (factor on P99), or requests that hang."""

    name: str
    more: float = 0.0
    tail: float = 1.0
    hangs: float = 0.0

    @property
    def miss_ratio(self) -> float:
        tail = BASE if self.tail == 1 else _normal_tail(_normal_limit(BASE) - math.log(self.tail) / _SIGMA)
        return tail + self.more + self.hangs


CANARIES = (
    Canary("equal"),
    Canary("misses +5", more=0.05),
    Canary("misses +10", more=0.10),
    Canary("P99 +30 %", tail=1.3),
    Canary("hangs 2 %", hangs=0.02),
)


class Cell(NamedTuple):
    canary: Canary
    rps: float  # of all users; also the target rate
    burst: float  # mean run of misses; 1: independent
    replicas: int


class Series(NamedTuple):
    """Cumulative counts of one arm: element n is after n requests."""

    rate_rps: float
    hits: Array
    runs: Array
    open: Array

    def seen(self, at_s: float) -> int:
        return min(int(self.rate_rps * at_s), len(self.hits) - 1)

    def counts(self, at_s: float) -> Counts:
        n = self.seen(at_s)
        runs = Runs(runs=int(self.runs[n]), open=int(self.open[n]))
        return Counts(requests=n, slo_misses=int(self.hits[n]), errors=0, asked=n, miss_runs=runs)

    def misses_between(self, start_s: float, end_s: float) -> tuple[int, int]:
        """Return requests and misses of an interval."""
        first, last = self.seen(start_s), self.seen(end_s)
        return last - first, int(self.hits[last] - self.hits[first])


class Step(NamedTuple):
    weight: int
    users: Series
    replayed: Series | None
    stable: Series | None
    before: Series  # stable's requests in the ten minutes before

    def hanging(self, at_s: float, canary: Canary) -> int:
        """Requests of users in flight that hang for longer than a limit: their clients have not left yet."""
        return int(canary.hangs * self.users.rate_rps * min(at_s, _PATIENCE_S))


def steps(cell: Cell, rng: np.random.Generator) -> list[Step]:
    """Draw what would happen at each step if the rollout got that far."""
    return [_step(cell, weight, rng) for weight in WEIGHTS]


def _step(cell: Cell, weight: int, rng: np.random.Generator) -> Step:
    mine = cell.canary.miss_ratio
    users_rps = cell.rps * weight / 100
    load_rps = cell.rps / cell.replicas * math.ceil(cell.replicas * weight / 100)
    replayed_rps = load_rps - users_rps if weight < 100 else 0.0
    return Step(
        weight=weight,
        users=_series(users_rps, mine, cell.burst, rng),
        replayed=_series(replayed_rps, mine, cell.burst, rng) if replayed_rps > 0 else None,
        stable=_series(cell.rps - users_rps, BASE, cell.burst, rng) if weight < 100 else None,
        before=_series(cell.rps, BASE, cell.burst, rng),
    )


def _series(rate_rps: float, ratio: float, burst: float, rng: np.random.Generator) -> Series:
    hit = _chain(int(rate_rps * STEP_S), ratio, burst, rng)
    before = np.concatenate(([False], hit[:-1]))
    return Series(rate_rps, _cumulative(hit), _cumulative(hit & ~before), np.concatenate(([0], hit)).astype(np.int64))


def _chain(n: int, ratio: float, burst: float, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Draw a stationary chain: runs of hits and gaps between them, both geometric."""
    if burst <= 1:
        return rng.random(n) < ratio
    end = 1 / burst
    start = end * ratio / (1 - ratio)
    number = int(2 * n * start) + 50
    runs, gaps = rng.geometric(end, number), rng.geometric(start, number)
    lengths = np.empty(2 * number, np.int64)
    first_hit = rng.random() < ratio
    lengths[0::2], lengths[1::2] = (runs, gaps) if first_hit else (gaps, runs)
    return np.repeat(np.tile([first_hit, not first_hit], number), lengths)[:n]


def _cumulative(hit: npt.NDArray[np.bool_]) -> Array:
    return np.concatenate(([0], np.cumsum(hit))).astype(np.int64)


def _normal_tail(z: float) -> float:
    return 0.5 * math.erfc(z / math.sqrt(2))


def _normal_limit(tail: float) -> float:
    low, high = 0.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _normal_tail(middle) > tail else (low, middle)
    return low
