"""What one replica sustains, as a posterior over the logarithm of its capacity, from all levels of all its runs. Pure.

How likely the levels are at each capacity says `likelihood`. The dispersion between runs is learned from configurations
measured under several arrivals; the luckiest of many is pulled back by a prior that all configurations share: what the
twin expected of each, or GPUs, times a factor that lies around the study's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tuner.answer.likelihood import (
    DISPERSION_PRIOR,
    STEP,
    Array,
    Run,
    blurred,
    grid_of,
    likelihood,
    log_rates,
    normal,
    summed_to_one,
)

_STEEP_SD = 0.025  # of the logarithm of what half hours sustain: where they lie farther apart, misses are flatter
_WIDE_SD = 0.7
_FEWEST_TO_LEARN = 3
_FAR, _FARTHER = 0.2, 3.0  # share of configurations of which what was expected is wrong by so many times the spread
_LEAST_SPREAD, _LEAST_SPREAD_BLIND = 0.25, 0.4  # of the shared prior, with and without a forecast


class Subject(NamedTuple):
    """A configuration's runs, with what was expected of it in the long run (None: nothing) and its GPUs per replica.

    `to_come_sd` is of the logarithm: by how much the half hour that an answer has to hold in differs from the mean of
    all, by the twin.
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
        return math.exp(float(np.interp(probability, self._up_to, self._log_rps + STEP / 2)))

    @property
    def median_rps(self) -> float:
        """The capacity that is as likely exceeded as not."""
        return self.quantile(0.5)

    def at_least(self, rps: float) -> float:
        """Return the probability that the capacity is `rps` or more."""
        below = float(np.interp(math.log(rps), self._log_rps + STEP / 2, self._up_to, left=0.0, right=1.0))
        return max(0.0, 1 - below)  # a cumulative sum may end a rounding error above 1

    def samples(self, count: int = 200) -> Array:
        """Return that many equally likely capacities, the lowest first."""
        levels = (np.arange(count) + 0.5) / count
        return np.exp(np.interp(levels, self._up_to, self._log_rps + STEP / 2))


def believe(subjects: Mapping[str, Subject]) -> dict[str, Belief]:
    """Return the posterior of every configuration that was loaded at all, by the key it came with."""
    loaded = {key: kept for key, subject in subjects.items() if (kept := _loaded(subject)).runs}
    if not loaded:
        return {}
    grids = {key: grid_of(subject.runs) for key, subject in loaded.items()}
    likely = {key: likelihood(subject.runs, _flatness(subject)) for key, subject in loaded.items()}
    centres, spreads = _own_centres(loaded), dict.fromkeys(loaded, _WIDE_SD)
    first = {key: _posterior(grids[key], likely[key], centres[key], spreads[key]) for key in loaded}
    if (shared := _shared_prior(loaded, grids, first)) is not None:
        centres, spreads = shared
    priors = {key: _prior(grids[key] - centres[key], spreads[key]) for key in loaded}
    repeated = [key for key, subject in loaded.items() if len(subject.runs) > 1]
    dispersion = _dispersion_weights(repeated, likely, priors)
    found = {}
    for key, subject in loaded.items():
        weight = np.tensordot(dispersion, np.exp(likely[key] - likely[key].max()), axes=(0, 0)) * priors[key]
        found[key] = Belief(grids[key], summed_to_one(_to_come(weight, subject.to_come_sd)))
    return found


def _loaded(subject: Subject) -> Subject:
    return subject._replace(runs=tuple(run for run in subject.runs if run.levels))


def _posterior(grid: Array, likely: Array, centre: float, spread: float) -> Array:
    mixed = np.tensordot(np.array(DISPERSION_PRIOR), np.exp(likely - likely.max()), axes=(0, 0))
    return summed_to_one(mixed * normal(grid - centre, spread))


def _dispersion_weights(repeated: Sequence[str], likely: Mapping[str, Array], priors: Mapping[str, Array]) -> Array:
    """Return how likely each dispersion is, by how well the repeats of the configurations that have any agree under it.

    Configurations measured once say nothing of it: that they are as good as was expected, all under the same arrivals,
    may be the luck of those.
    """
    evidence = np.log(np.array(DISPERSION_PRIOR))
    for key in repeated:
        top = likely[key].max()
        evidence = evidence + np.log(np.exp(likely[key] - top) @ priors[key] + 1e-300)
    return summed_to_one(np.exp(evidence - evidence.max()))


def _own_centres(subjects: Mapping[str, Subject]) -> dict[str, float]:
    """Return the logarithm of the rate about which each was measured."""
    return {key: float(np.median(log_rates(subject.runs))) for key, subject in subjects.items()}


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


def _prior(distance: Array, spread: float) -> Array:
    """Return a normal prior with a share of a wider one: of some configurations the twin is wrong by more."""
    return (1 - _FAR) * normal(distance, spread) + _FAR * normal(distance, _FARTHER * spread)


def _flatness(subject: Subject) -> float:
    """Return by what factor misses depend less on the rate than usual: so little that half hours lie far apart."""
    return min(1.0, _STEEP_SD / subject.to_come_sd) if subject.to_come_sd else 1.0


def _to_come(weight: Array, sd: float) -> Array:
    """Return the distribution of what a half hour to come sustains, given that of the long run."""
    spread: Array = np.exp(blurred(np.log(weight + 1e-300), sd))
    return spread
