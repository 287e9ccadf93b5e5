"""What one replica sustains, as a posterior over the logarithm of its capacity, from all levels of all its runs. Pure.

A run is one engine life under one seed of arrivals. The rate it sustains differs from the long-run capacity, because
arrivals and lengths of a few hundred requests differ from the average. Where the twin can simulate a run's very
arrivals and the long run, the ratio of its two capacities is the run's `luck`, and taken out: that is most of what
differs, and what all runs of one search share. What is left (all of it where the twin has no opinion) has a logarithm
of variance `dispersion / requests`; the dispersion is learned from configurations measured under several arrivals.
A typical run without a known luck sustains more than the long run, whose misses are mostly those of its few bad
stretches (`_lift`). A level that ended after few requests differs from its own run in the same way, so a burst in its
first seconds proves little (by a fixed dispersion: levels of one run that contradict each other say nothing of how runs
differ).

At a rate `r` a run that sustains `k` misses its tightest limit in a share `allowed * (r / k) ** steepness` of requests.
The steepness is unknown (a queue that builds up is a cliff, a batch that grows a slope) and averaged over. Misses come
in clusters, so a few requests count as one.

No run is certain: one that contradicts all others by far counts as odd rather than as proof, and of two that contradict
each other either may be.

The luckiest of many is pulled back by a prior that all configurations share: what the twin expected of each, or GPUs,
times a factor that lies around the study's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_STEP = 0.0125  # of the grid, in the logarithm of the rate
_BEYOND = 1.6  # how far the grid reaches beyond the rates measured: a factor of five
_DISPERSIONS = (1.0, 2.5, 6.0, 15.0, 40.0)
_DISPERSION_PRIOR = (0.08, 0.25, 0.37, 0.2, 0.1)
_WITHOUT_LUCK = 1.5  # as much more dispersed is a run whose arrivals the twin did not simulate
_LUCK_SD = 0.25  # of the logarithm of a run's luck: the engine's limits are not quite where the twin's are
_WITHIN = 6.0  # dispersion of a level within its run: what is learned from repeats is how whole runs differ
_STEEPNESSES = (5.0, 10.0, 20.0, 40.0)
_STEEPNESS_PRIOR = (0.2, 0.3, 0.3, 0.2)
_ENGINE_SD = 0.03  # between two starts of one engine under the same arrivals
_ODD_RUN = math.log(1e-3)  # odds that a run was of something else: a sick host, a stall of the gateway
_CLUSTER = 2.0  # requests that miss together within a burst shorter than the level, on average
_EARLY = 2.0  # a pass before its time counts as this much less: a queue that grows slowly shows late
_FAILED_EARLY = 0.25
_BASE_SHARE = 0.05  # of the allowed misses, which no low rate avoids
_MOST_MISSES = 0.6
_VERDICT_SD = 0.03  # of a failure that a growing queue told, not misses
_WIDE_SD = 0.7
_FEWEST_TO_LEARN = 3
_LEAST_SPREAD, _LEAST_SPREAD_BLIND = 0.15, 0.4  # of the shared prior, with and without a forecast


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
    None where it has no opinion.
    """

    levels: tuple[Seen, ...]
    luck: float | None = None


class Subject(NamedTuple):
    """A configuration's runs, with what was expected of it in the long run (None: nothing) and its GPUs per replica.

    `to_come_sd` is of the logarithm: by how much the half hour that an answer has to hold in differs from the mean of
    all, as a trace with its own bursts has it.
    """

    runs: tuple[Run, ...]
    gpus: int
    expected_rps: float | None = None
    to_come_sd: float = 0.0


class Belief:
    """A distribution over capacities, requests per second of one replica."""

    def __init__(self, log_rps: Array, weight: Array) -> None:
        self._log_rps = log_rps
        self._up_to = np.cumsum(weight) / weight.sum()

    def quantile(self, probability: float) -> float:
        """Return the capacity that is exceeded with one minus `probability`."""
        return math.exp(float(np.interp(probability, self._up_to, self._log_rps + _STEP / 2)))

    @property
    def median_rps(self) -> float:
        """The capacity that is as likely exceeded as not."""
        return self.quantile(0.5)

    def at_least(self, rps: float) -> float:
        """Return the probability that the capacity is `rps` or more."""
        below = float(np.interp(math.log(rps), self._log_rps + _STEP / 2, self._up_to, left=0.0, right=1.0))
        return max(0.0, 1 - below)  # a cumulative sum may end a rounding error above 1

    def samples(self, count: int = 200) -> Array:
        """Return that many equally likely capacities, the lowest first."""
        levels = (np.arange(count) + 0.5) / count
        return np.exp(np.interp(levels, self._up_to, self._log_rps + _STEP / 2))


def believe(subjects: Mapping[str, Subject]) -> dict[str, Belief]:
    """Return the posterior of every configuration that was loaded at all, by the key it came with."""
    loaded = {key: kept for key, subject in subjects.items() if (kept := _loaded(subject)).runs}
    if not loaded:
        return {}
    grids = {key: _grid(subject.runs) for key, subject in loaded.items()}
    likely = {key: _likelihood(subject.runs) for key, subject in loaded.items()}
    centres, spreads = _own_centres(loaded), dict.fromkeys(loaded, _WIDE_SD)
    first = {key: _posterior(grids[key], likely[key], centres[key], spreads[key]) for key in loaded}
    if (shared := _shared_prior(loaded, grids, first)) is not None:
        centres, spreads = shared
    priors = {key: _normal(grids[key] - centres[key], spreads[key]) for key in loaded}
    repeated = [key for key, subject in loaded.items() if len(subject.runs) > 1]
    dispersion = _dispersion_weights(repeated, likely, priors)
    found = {}
    for key, subject in loaded.items():
        weight = np.tensordot(dispersion, np.exp(likely[key] - likely[key].max()), axes=(0, 0)) * priors[key]
        found[key] = Belief(grids[key], _summed_to_one(_to_come(weight, subject.to_come_sd)))
    return found


def _loaded(subject: Subject) -> Subject:
    return subject._replace(runs=tuple(run for run in subject.runs if run.levels))


def _posterior(grid: Array, likely: Array, centre: float, spread: float) -> Array:
    mixed = np.tensordot(np.array(_DISPERSION_PRIOR), np.exp(likely - likely.max()), axes=(0, 0))
    return _summed_to_one(mixed * _normal(grid - centre, spread))


def _dispersion_weights(repeated: Sequence[str], likely: Mapping[str, Array], priors: Mapping[str, Array]) -> Array:
    """Return how likely each dispersion is, by how well the repeats of the configurations that have any agree under it.

    Configurations measured once say nothing of it: that they are as good as was expected, all under the same arrivals,
    may be the luck of those.
    """
    evidence = np.log(np.array(_DISPERSION_PRIOR))
    for key in repeated:
        top = likely[key].max()
        evidence = evidence + np.log(np.exp(likely[key] - top) @ priors[key] + 1e-300)
    return _summed_to_one(np.exp(evidence - evidence.max()))


def _own_centres(subjects: Mapping[str, Subject]) -> dict[str, float]:
    """Return the logarithm of the rate about which each was measured."""
    return {key: float(np.median(_log_rates(subject.runs))) for key, subject in subjects.items()}


def _shared_prior(
    subjects: Mapping[str, Subject], grids: Mapping[str, Array], first: Mapping[str, Array]
) -> tuple[dict[str, float], dict[str, float]] | None:
    """Return each prior's centre and spread, from how far all are from what was expected; None for too few."""
    if len(subjects) < _FEWEST_TO_LEARN:
        return None
    known = all(subject.expected_rps for subject in subjects.values())
    reference = {key: math.log((s.expected_rps or 1.0) if known else s.gpus) for key, s in subjects.items()}
    offsets = np.array([float(grids[key] @ first[key]) - reference[key] for key in subjects])
    least = _LEAST_SPREAD if known else _LEAST_SPREAD_BLIND
    spread, centre = max(least, float(np.std(offsets, ddof=1))), float(np.median(offsets))
    return {key: reference[key] + centre for key in subjects}, dict.fromkeys(subjects, spread)


def _log_rates(runs: tuple[Run, ...]) -> list[float]:
    return [math.log(level.rate_rps) - (run.luck or 0.0) for run in runs for level in run.levels]


def _grid(runs: tuple[Run, ...]) -> Array:
    rates = _log_rates(runs)
    first, last = (min(rates) - _BEYOND) / _STEP, (max(rates) + _BEYOND) / _STEP
    grid: Array = np.arange(math.floor(first), math.ceil(last) + 1, dtype=np.float64) * _STEP
    return grid


@lru_cache(maxsize=1024)
def _likelihood(runs: tuple[Run, ...]) -> Array:
    """Return the log likelihood of each dispersion (rows) at each log capacity, averaged over the steepness."""
    grid = _grid(runs)
    rows = [_log_mean([_of_runs(runs, grid, d, steep) for steep in _STEEPNESSES]) for d in _DISPERSIONS]
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
        seen = _blurred(_within(run, grid + (run.luck or 0.0), most, steepness), math.hypot(_ENGINE_SD, chance))
        total += np.interp(grid + shift, grid, np.logaddexp(seen, seen.max() + _ODD_RUN))
    return total


def _off(run: Run, most: float, dispersion: float, steepness: float) -> tuple[float, float]:
    """Return by how much a run's log capacity lies above the long run's, its known luck aside, and the chance of it."""
    if run.luck is not None:
        return 0.0, math.hypot(math.sqrt(dispersion / max(most, 1.0)), _LUCK_SD * run.luck)
    chance = math.sqrt(_WITHOUT_LUCK * dispersion / max(most, 1.0))
    return _lift(run.levels[-1].allowed, steepness, round(chance, 3)), chance


def _within(run: Run, log_rps: Array, most: float, steepness: float) -> Array:
    """Return the log likelihood of a run's levels at each log capacity of the run itself."""
    found = np.zeros_like(log_rps)
    for level in run.levels:
        extra = _WITHIN * _own(level) * (1 / max(level.arrived, 1.0) - 1 / max(most, 1.0))
        found += _blurred(_of_level(level, log_rps, steepness), math.sqrt(max(extra, 0.0)))
    return found


@lru_cache(maxsize=4096)
def _lift(allowed: float, steepness: float, sd: float) -> float:
    """Return by how much a typical run's log capacity lies above the long run's.

    Misses of the long run are the mean over all runs, and a few bad ones have most of them. At the long run's capacity
    the mean is just what is allowed, so that the typical run has fewer.
    """
    chance = np.linspace(-4, 4, 161) * sd
    weight = _normal(chance, sd) if sd > 0 else np.full(161, 1 / 161)
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


def _blurred(logs: Array, sd: float) -> Array:
    """Return the logarithm of a likelihood after a normal step of that size."""
    reach = math.ceil(4 * sd / _STEP)
    if reach < 1 or sd < _STEP / 2:
        return logs
    kernel = _normal(np.arange(-reach, reach + 1, dtype=np.float64) * _STEP, sd)
    top = logs.max()
    padded = np.pad(np.exp(logs - top), reach, mode="edge")
    blurred: Array = np.log(np.convolve(padded, kernel, mode="valid") + 1e-300) + top
    return blurred


def _to_come(weight: Array, sd: float) -> Array:
    """Return the distribution of what a half hour to come sustains, given that of the long run."""
    spread: Array = np.exp(_blurred(np.log(weight + 1e-300), sd))
    return spread


def _normal(distance: Array, sd: float) -> Array:
    return _summed_to_one(np.exp(-0.5 * (distance / sd) ** 2))


def _summed_to_one(weight: Array) -> Array:
    normed: Array = weight / weight.sum()
    return normed
