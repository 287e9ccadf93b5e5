"""How likely all levels of all runs of a configuration are at each capacity of one replica. Pure.

A run is one engine life under one seed of arrivals. The rate it sustains differs from the long-run capacity, because
arrivals and lengths of a few hundred requests differ from the average. Where the twin can simulate a run's very
arrivals and the long run, the ratio of its two capacities is the run's `luck`, and taken out: that is most of what
differs, and what all runs of one search share; it is hardly surer than it is large, because what limits the engine may
not be what limits the twin. What is left (all of it where the twin has no opinion) has a logarithm
of variance `dispersion / requests`; the dispersion is learned from configurations measured under several arrivals.
A typical run without a known luck sustains more than the long run, whose misses are mostly those of its few bad
stretches (`_lift`). A level that ended after few requests differs from its own run in the same way, so a burst in its
first seconds proves little (by a fixed dispersion: levels of one run that contradict each other say nothing of how runs
differ).

At a rate `r` a run that sustains `k` misses its tightest limit in a share `allowed * (r / k) ** steepness` of requests.
The steepness is unknown (a queue that builds up is a cliff, a batch that grows a slope) and averaged over, down to
ones as flat as half hours lie apart: rates matter little where luck matters much. Misses come in clusters, so a
few requests count as one.

No run is certain: one that contradicts all others by far counts as odd rather than as proof, and of two that contradict
each other either may be.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

STEP = 0.0125  # of the grid, in the logarithm of the rate
_BEYOND = 1.6  # how far the grid reaches beyond the rates measured: a factor of five
_DISPERSIONS = (1.0, 2.5, 6.0, 15.0, 40.0)
DISPERSION_PRIOR = (0.08, 0.25, 0.37, 0.2, 0.1)
_WITHOUT_LUCK = 1.5  # as much more dispersed is a run whose arrivals the twin did not simulate
_LUCK_SD = 0.75  # of the logarithm of a run's luck: what limits the engine may not be what limits the twin
_WITHIN = 6.0  # dispersion of a level within its run: what is learned from repeats is how whole runs differ
_STEEPNESSES = (5.0, 10.0, 20.0, 40.0)
_STEEPNESS_PRIOR = (0.2, 0.3, 0.3, 0.2)
_FLAT_SHARE = (1.0, 2 / 3, 1 / 3, 0.0)  # of the flatness: the steepest stays
_ENGINE_SD = 0.03  # between two starts of one engine under the same arrivals
_ODD_RUN = math.log(1e-3)  # odds that a run was of something else: a sick host, a stall of the gateway
_CLUSTER = 2.0  # requests that miss together within a burst shorter than the level, on average
_EARLY = 2.0  # a pass before its time counts as this much less: a queue that grows slowly shows late
_FAILED_EARLY = 0.25
_BASE_SHARE = 0.05  # of the allowed misses, which no low rate avoids
_MOST_MISSES = 0.6
_VERDICT_SD = 0.03  # of a failure that a growing queue told, not misses


class Seen(NamedTuple):
    """One level. `rate_rps` is per replica; `misses` of `requests` are of the limit nearest to its allowed share."""

    rate_rps: float
    requests: float
    misses: float
    allowed: float
    arrived: float
    passed: bool
    whole: bool = True


class Run(NamedTuple):
    """The levels of one engine life: they share arrivals and lengths.

    `luck` is the logarithm of how much more a replica sustains under these arrivals than in the long run, by the twin;
    None where it has no opinion. `apart` is what such a run differs by from the long run, however many requests it has
    (sd of the logarithm): a half hour of bursts is one half hour; the long run is the mean of their logarithms.
    `together` is by how much a replica sustains more as one of a fleet than alone (logarithm), where that is asked.
    """

    levels: tuple[Seen, ...]
    luck: float | None = None
    apart: float = 0.0
    together: float = 0.0


def grid_of(runs: tuple[Run, ...]) -> Array:
    """Return the logarithms of the capacities that runs may speak of."""
    rates = log_rates(runs)
    first, last = (min(rates) - _BEYOND) / STEP, (max(rates) + _BEYOND) / STEP
    grid: Array = np.arange(math.floor(first), math.ceil(last) + 1, dtype=np.float64) * STEP
    return grid


def log_rates(runs: tuple[Run, ...]) -> list[float]:
    """Return the logarithms of the rates loaded, each run's luck taken out."""
    return [math.log(level.rate_rps) - (run.luck or 0.0) for run in runs for level in run.levels]


@lru_cache(maxsize=1024)
def likelihood(runs: tuple[Run, ...], flatness: float) -> Array:
    """Return the log likelihood of each dispersion (rows) at each log capacity, averaged over the steepness.

    `flatness` is by what factor the flattest steepness is flatter than where rates matter much, at most 1.
    """
    grid = grid_of(runs)
    steeps = [steep * flatness**share for steep, share in zip(_STEEPNESSES, _FLAT_SHARE, strict=True)]
    rows = [_log_mean([_of_runs(runs, grid, d, steep) for steep in steeps]) for d in _DISPERSIONS]
    return np.stack(rows)


def _log_mean(logs: list[Array]) -> Array:
    stacked = np.stack(logs)
    top = stacked.max()
    mean: Array = np.log(np.array(_STEEPNESS_PRIOR) @ np.exp(stacked - top) + 1e-300) + top
    return mean


def _of_runs(runs: tuple[Run, ...], grid: Array, dispersion: float, steepness: float) -> Array:
    total = np.zeros_like(grid)
    for run in runs:
        most = max(level.arrived for level in run.levels)
        shift, chance = _off(run, most, dispersion, steepness)
        seen = blurred(_within(run, grid + (run.luck or 0.0), most, steepness), math.hypot(_ENGINE_SD, chance))
        total += np.interp(grid + shift, grid, np.logaddexp(seen, seen.max() + _ODD_RUN))
    return total


def _off(run: Run, most: float, dispersion: float, steepness: float) -> tuple[float, float]:
    """Return by how much a run's log capacity lies above the long run's, its known luck aside, and the chance of it."""
    if run.luck is not None:
        return 0.0, math.hypot(math.sqrt(dispersion / max(most, 1.0)), _LUCK_SD * run.luck)
    chance = math.sqrt(_WITHOUT_LUCK * dispersion / max(most, 1.0))
    lift = _lift(run.levels[-1].allowed, steepness, round(chance, 3))
    return lift + run.together, math.hypot(chance, run.apart, run.together)


def _within(run: Run, log_rps: Array, most: float, steepness: float) -> Array:
    """Return the log likelihood of a run's levels at each log capacity of the run itself."""
    found = np.zeros_like(log_rps)
    for level in run.levels:
        extra = _WITHIN * _own(level) * (1 / max(level.arrived, 1.0) - 1 / max(most, 1.0))
        found += blurred(_of_level(level, log_rps, steepness), math.sqrt(max(extra, 0.0)))
    return found


@lru_cache(maxsize=4096)
def _lift(allowed: float, steepness: float, sd: float) -> float:
    """Return by how much a typical run's log capacity lies above the long run's.

    Misses of the long run are the mean over all runs, and a few bad ones have most of them. At the long run's capacity
    the mean is just what is allowed, so that the typical run has fewer.
    """
    chance = np.linspace(-4, 4, 161) * sd
    weight = normal(chance, sd) if sd > 0 else np.full(161, 1 / 161)
    low, high = 0.0, 4 * sd
    for _ in range(24):
        middle = (low + high) / 2
        share = np.minimum(allowed * np.exp(np.clip(steepness * (chance - middle), -50, 50)), _MOST_MISSES)
        low, high = (middle, high) if float(weight @ share) > allowed else (low, middle)
    return high


def _own(level: Seen) -> float:
    """Return how much of a short level's own chance counts: one that fails early would hardly have recovered."""
    return 1.0 if level.passed else _FAILED_EARLY


def _of_level(level: Seen, grid: Array, steepness: float) -> Array:
    """Return the log likelihood of a level at each log capacity."""
    above = math.log(level.rate_rps) - grid
    if not level.passed and level.misses <= level.allowed * level.requests:
        found: Array = -np.log1p(np.exp(np.clip(-above / _VERDICT_SD, -700, 700)))
        return found
    share = level.allowed * np.exp(np.clip(steepness * above, math.log(_BASE_SHARE), 50.0))
    share = np.minimum(share, _MOST_MISSES)
    counted = _CLUSTER * (1.0 if level.whole else _EARLY)
    logs: Array = level.misses * np.log(share) + (level.requests - level.misses) * np.log1p(-share)
    return logs / counted


def blurred(logs: Array, sd: float) -> Array:
    """Return the logarithm of a likelihood after a normal step of that size."""
    reach = math.ceil(4 * sd / STEP)
    if reach < 1 or sd < STEP / 2:
        return logs
    kernel = normal(np.arange(-reach, reach + 1, dtype=np.float64) * STEP, sd)
    top = logs.max()
    padded = np.pad(np.exp(logs - top), reach, mode="edge")
    blurred: Array = np.log(np.convolve(padded, kernel, mode="valid") + 1e-300) + top
    return blurred


def normal(distance: Array, sd: float) -> Array:
    return summed_to_one(np.exp(-0.5 * (distance / sd) ** 2))


def summed_to_one(weight: Array) -> Array:
    normed: Array = weight / weight.sum()
    return normed
