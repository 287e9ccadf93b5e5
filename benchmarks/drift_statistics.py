"""How soon doubled prompts could be found at 0.2 requests/s, by the statistic in use and by others, in simulated time.

    nice python -m benchmarks.drift_statistics

Lognormal lengths (cv 1.2) in sessions of three requests on average. Each statistic is a cumulative sum in both
directions whose threshold is the lowest with six false alarms at most in 36 months of seeds 0 to 35 (two a year, a
sixth of one a month over all signals); it is judged on 36 months of other seeds and on 400 changes, which begin
anywhere within a batch.

`mean` is the product's own (error from the batch, 2.5 times that of independent requests); `log` knows the mean and
spread of the logarithms beforehand; `sessions` knows these, which request is of which session, and how large the change
will be: no statistic of lengths can be much better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from benchmarks.drift import CV, MONTH_S, SESSION, SHARED, Floats

RATE_RPS = 0.2
MONTHS, ALLOWED, CHANGES = 36, 6, 400
CHANGE = float(np.log(2))
TOLERANCE = float(np.log(1.2))
_VARIANCE = float(np.log1p(CV**2))
_BEFORE, _AFTER = 700, 1000  # sessions


class Sums(NamedTuple):
    """Both cumulative sums after each batch or session, and the requests until then."""

    up: Floats
    down: Floats
    requests: Floats


Statistic = Callable[[Floats, Floats], Sums]
"""Takes the logarithm of each request's length over the geometric mean, and the sizes of sessions."""


def drawn(sessions: int, chance: np.random.Generator) -> tuple[Floats, Floats]:
    """Return logarithms of lengths, and how many requests each session has."""
    sizes = chance.geometric(1 / SESSION, size=sessions)
    count = int(sizes.sum())
    common = np.repeat(chance.normal(size=sessions), sizes)
    mixed = np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * chance.normal(size=count)
    return np.sqrt(_VARIANCE) * mixed, sizes.astype(np.float64)


def by_mean(batch: int) -> Statistic:
    def of(logs: Floats, _: Floats) -> Sums:
        lengths = np.exp(logs - _VARIANCE / 2)[: len(logs) // batch * batch].reshape(-1, batch)
        mean = lengths.mean(axis=1)
        error = 2.5 * lengths.std(axis=1) / mean / np.sqrt(batch)
        return _summed(np.log(mean) / error, np.maximum(1.0, TOLERANCE / error), batch)

    return of


def by_log(batch: int) -> Statistic:
    def of(logs: Floats, _: Floats) -> Sums:
        mean = logs[: len(logs) // batch * batch].reshape(-1, batch).mean(axis=1)
        error = 2.1 * np.sqrt(_VARIANCE / batch)
        return _summed(mean / error, np.full(len(mean), max(1.0, TOLERANCE / error)), batch)

    return of


def by_sessions(logs: Floats, sizes: Floats) -> Sums:
    ends = np.cumsum(sizes).astype(np.int64)
    mean = np.diff(np.concatenate([[0.0], np.cumsum(logs)[ends - 1]])) / sizes
    variance = _VARIANCE * (SHARED + (1 - SHARED) / sizes)
    up, down = (_cusum(CHANGE / variance * (sign * mean - CHANGE / 2)) for sign in (1, -1))
    return Sums(up, down, ends.astype(np.float64))


STATISTICS: dict[str, Statistic] = {
    "mean, batches of 100": by_mean(100),
    "mean, batches of 50": by_mean(50),
    "log, batches of 100": by_log(100),
    "log, batches of 50": by_log(50),
    "log, batches of 25": by_log(25),
    "sessions": by_sessions,
}


def _summed(z: Floats, slack: Floats, batch: int) -> Sums:
    return Sums(_cusum(z - slack), _cusum(-z - slack), batch * np.arange(1.0, len(z) + 1))


def _cusum(steps: Floats) -> Floats:
    """Return max(0, sum before + step), step by step."""
    total = np.cumsum(steps)
    found: Floats = total - np.minimum(0.0, np.minimum.accumulate(total))
    return found


def _stationary(statistic: Statistic, seeds: Iterable[int]) -> list[Sums]:
    sessions = int(RATE_RPS * MONTH_S / SESSION)
    return [statistic(*drawn(sessions, np.random.default_rng(seed))) for seed in seeds]


def alarms(months: Iterable[Sums], threshold: float) -> int:
    """Return how often a sum goes above the threshold."""
    above = [sums > threshold for month in months for sums in (month.up, month.down)]
    return sum(int((each[1:] & ~each[:-1]).sum()) for each in above)


def found_after_min(statistic: Statistic, threshold: float, seed: int) -> float:
    """Return minutes from the change on until the sum is above the threshold."""
    logs, sizes = drawn(_BEFORE + _AFTER, np.random.default_rng(seed))
    begins = int(sizes[:_BEFORE].sum())
    sums = statistic(logs + CHANGE * (np.arange(len(logs)) >= begins), sizes)
    first = np.argmax((sums.up > threshold) & (sums.requests > begins))
    return float(sums.requests[first] - begins) / RATE_RPS / 60


def main() -> None:
    """Run and print a table."""
    print("| statistic | threshold | false alarms in 36 months | median min | 95 % | slowest of 400 |")
    for name, statistic in STATISTICS.items():
        known = _stationary(statistic, range(MONTHS))
        threshold = next(float(each) for each in np.arange(1.5, 30, 0.1) if alarms(known, each) <= ALLOWED)
        judged = alarms(_stationary(statistic, range(20_000, 20_000 + MONTHS)), threshold)
        took = [found_after_min(statistic, threshold, seed) for seed in range(30_000, 30_000 + CHANGES)]
        figures = [float(np.median(took)), float(np.quantile(took, 0.95)), max(took)]
        print(f"| {name} | {threshold:.1f} | {judged} | " + " | ".join(f"{each:.0f}" for each in figures) + " |")


if __name__ == "__main__":
    main()
