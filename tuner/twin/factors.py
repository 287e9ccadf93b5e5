"""Finding a calibration's factors: which make the twin show the percentiles that a trial's levels measured.

A level under traffic tells less than a probe, so only six factors are looked for, over a profile that says how the
engine's parts relate; each has a prior, whose tails are heavy: a part may well be five times as slow. The same arrivals
are simulated as were sent. Least squares with a loss that grows linearly beyond the tolerance (Levenberg-Marquardt
style steps by `scipy.optimize.least_squares`), from the most likely of the parts that may be the slow one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares

from controlplane.domain.errors import InvalidInput
from controlplane.domain.slo import LatencyMetric
from controlplane.domain.studies.calibration import Factors
from tuner.twin.compiled_state import Floats
from tuner.twin.setup import EngineSetup
from tuner.twin.simulate import RequestArrays, simulate
from tuner.twin.spread import outcomes, percentile_s, series, slowed

Rank = tuple[LatencyMetric, float]

Residuals = Callable[[Floats, float], Floats]
"""Of a point, with the tolerance that percentiles have."""

PARTS = ("memory", "compute", "launch", "eager", "server", "stream")
"""The factors that one part of an engine has each, in the order of a point's logarithms."""
_KNOWN_SD, _UNKNOWN_SD, _HOST_SD = 0.25, 0.8, 0.3
"""Of the logarithm of a factor: a GPU and model of the tables, else, and of what the host does."""
TOLERANCE, _EXPLAINED = 0.04, 0.06
"""Of the logarithm of a percentile: what levels differ by, and the median error up to which factors explain them."""
ALIKE = 3.0
"""What no factor explains moves the percentiles of a level together: so many tell as much as one would alone."""
_SCAN = np.linspace(-1.5, 1.5, 7)
"""Logarithms of one factor for all of the GPU's work, tried first: beyond saturation a level only says "slower"."""
_EAGER, _SERVER = (0.0, 1.1, 2.2), (0.0, 0.7, 1.4)
"""Logarithms of the factors for steps above the largest graph, and for the API server, that a descent may begin at: a
mixture launches many more kernels, a server may be the limit, and which of the parts is slow is told by the one that
explains the levels better."""
_STEP = 0.06  # of the logarithm of a factor: one request a step later must not be taken for a slope
_AWAY = 10.0
_EVALUATIONS = 8
_TAIL = 5  # requests beyond a percentile that it takes to tell it
_LEAST_UNCERTAINTY = 0.06  # two starts of one engine differ by as much
_WIDEST = 6.0  # logarithm of the ratio that counts for a request that never ended


class SeenLoad(NamedTuple):
    """One level: what was sent, and what it measured, seconds. What was scheduled before `warmup_s` does not count;
    `until_s` is when it was cut, and only what had finished counts.
    """

    requests: RequestArrays
    measured_s: Mapping[Rank, float]
    warmup_s: float = 0.0
    until_s: float | None = None


class Found(NamedTuple):
    """Factors, median |predicted / measured - 1| without and with them, and the 1-sigma error that is left."""

    factors: Factors
    error_before: float
    error_after: float
    uncertainty: float


def fit_factors(setup_of: Callable[[Factors], EngineSetup], levels: Sequence[SeenLoad], *, known: bool) -> Found:
    """Return the factors of what `levels` measured; `known` says whether GPU and model are of the tables.

    Raises InvalidInput when the engine refuses a request of theirs, or they measured nothing.
    """
    if not any(level.measured_s for level in levels):
        raise InvalidInput("nothing to calibrate by", why="no level finished enough requests")
    sds = spread_of(known)

    def errors(point: Floats) -> Floats:
        return errors_of(setup_of(factors_at(point)), levels)

    def residuals(point: Floats, tolerance: float) -> Floats:
        return surprise(errors(point), point, sds, tolerance)

    ended = _most_likely(residuals, errors, _SCAN if not known else _SCAN / 2, sds)
    return found_at(factors_at(ended), errors(np.zeros(len(PARTS))), errors(ended))


def spread_of(known: bool) -> Floats:
    """Return the prior standard deviation of the logarithm of each part's factor."""
    gpu_sd = _KNOWN_SD if known else _UNKNOWN_SD
    return np.array([gpu_sd, gpu_sd, _HOST_SD, gpu_sd, _HOST_SD, _HOST_SD])


def errors_of(setup: EngineSetup, levels: Sequence[SeenLoad]) -> Floats:
    """Return the logarithm of predicted over measured of every percentile of all levels."""
    return np.concatenate([_errors(setup, level) for level in levels])


def surprise(errors: Floats, point: Floats, sds: Floats, tolerance: float = TOLERANCE) -> Floats:
    """Return residuals, of what was measured and of the prior, whose squares are twice how unlikely the point is."""
    return np.concatenate((_robust(errors / tolerance), _robust(point / sds)))


def found_at(factors: Factors, before: Floats, after: Floats) -> Found:
    """Return factors with the errors of none and of them."""
    left = typical(after)
    return Found(factors, typical(before), left, max(_LEAST_UNCERTAINTY, 1.4826 * left))


def factors_at(point: Floats) -> Factors:
    """Return the factors of the parts at a point of logarithms."""
    return Factors(**{name: float(np.exp(value)) for name, value in zip(PARTS, point, strict=True)})


def doubted(left: float) -> float:
    """Return the tolerance of percentiles where a median error of `left` remains."""
    return TOLERANCE if left <= _EXPLAINED else left * math.sqrt(ALIKE)


def held_by(setup: EngineSetup, levels: Sequence[SeenLoad]) -> float:
    """Return what share of the measured percentiles lies in the prediction's 90 % intervals. Raises InvalidInput."""
    inside = []
    for level in levels:
        found = outcomes(setup, slowed(setup, level.requests))
        for (metric, rank), measured_s in level.measured_s.items():
            counted = np.asarray(_counted(level, level.requests.scheduled_s + found.expected.e2e_s), dtype=np.float64)
            expected = percentile_s(found, metric, rank, counted)
            inside.append(expected is not None and expected[1] <= measured_s <= expected[2])
    return float(np.mean(inside)) if inside else 1.0


def tellable(rank: float, requests: int) -> bool:
    """Say whether so many requests tell a percentile."""
    return requests * min(rank, 100 - rank) / 100 >= _TAIL


def _errors(setup: EngineSetup, level: SeenLoad) -> Floats:
    """Return the logarithm of predicted over measured of every percentile."""
    result = simulate(setup, level.requests)
    counted = _counted(level, level.requests.scheduled_s + result.e2e_s)
    found = []
    for (metric, rank), measured_s in level.measured_s.items():
        values = series(result, metric)[counted]
        values = values[~np.isnan(values)]
        found.append(math.log(np.percentile(values, rank) / measured_s) if len(values) else _WIDEST)
    return np.asarray(np.clip(found, -_WIDEST, _WIDEST), dtype=np.float64)


def _counted(level: SeenLoad, done_s: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    counted = level.requests.scheduled_s >= level.warmup_s
    return counted if level.until_s is None else counted & (done_s <= level.until_s)


def _most_likely(residuals: Residuals, errors: Callable[[Floats], Floats], scan: Floats, sds: Floats) -> Floats:
    """Return the likeliest factors. What none of them explains is no reason to believe in a part that is far off: where
    errors remain, percentiles tell as much less.
    """

    def loss(point: Floats, tolerance: float = TOLERANCE) -> float:
        return float(np.sum(residuals(point, tolerance) ** 2))

    ended = [descended(residuals, TOLERANCE, start, sds) for start in _likely_starts(loss, scan)]
    tolerance = doubted(typical(errors(min(ended, key=loss))))
    if tolerance > TOLERANCE:
        ended = [descended(residuals, tolerance, point, sds) for point in ended]
    return min(ended, key=partial(loss, tolerance=tolerance))


def _likely_starts(loss: Callable[[Floats], float], scan: Floats) -> list[Floats]:
    """Return where to descend from: the likeliest for every speed of the API server, and for every one of launches."""
    tried = [
        (loss(point := np.array([log, log, 0.0, eager, server, 0.0])), eager, server, point)
        for log in scan
        for eager in _EAGER
        for server in _SERVER
    ]
    groups = [[each for each in tried if each[1] == eager] for eager in _EAGER]
    groups += [[each for each in tried if each[2] == server] for server in _SERVER]
    return [point for _, _, _, point in {id(best[3]): best for best in map(_least, groups)}.values()]


def _least(tried: Sequence[tuple[float, float, float, Floats]]) -> tuple[float, float, float, Floats]:
    return min(tried, key=lambda each: each[0])


def descended(residuals: Residuals, tolerance: float, start: Floats, sds: Floats) -> Floats:
    """Return where least squares end. Its steps are shares of the point itself, so it works at a distance from 0."""

    def moved(point: Floats) -> Floats:
        return residuals(point - _AWAY, tolerance)

    found = least_squares(moved, start + _AWAY, diff_step=[_STEP / _AWAY], max_nfev=_EVALUATIONS, x_scale=sds)
    return np.asarray(found.x - _AWAY)


def _robust(errors: Floats) -> Floats:
    """Return residuals whose squares are the pseudo-Huber loss."""
    return np.asarray(np.sign(errors) * np.sqrt(2 * (np.sqrt(1 + errors**2) - 1)))


def typical(errors: Floats) -> float:
    """Return the median |predicted / measured - 1|."""
    return float(np.median(np.abs(np.expm1(errors))))
