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

_Residuals = Callable[[Floats, float], Floats]
"""Of a point, with the tolerance that percentiles have."""

_PARTS = tuple(Factors.model_fields)
_KNOWN_SD, _UNKNOWN_SD, _HOST_SD = 0.25, 0.8, 0.3
"""Of the logarithm of a factor: a GPU and model of the tables, else, and of what the host does."""
_TOLERANCE, _EXPLAINED = 0.04, 0.06
"""Of the logarithm of a percentile: what levels differ by, and the median error up to which factors explain them."""
_ALIKE = 3.0
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
    gpu_sd = _KNOWN_SD if known else _UNKNOWN_SD
    sds = np.array([gpu_sd, gpu_sd, _HOST_SD, gpu_sd, _HOST_SD, _HOST_SD])

    def errors(point: Floats) -> Floats:
        setup = setup_of(_factors(point))
        return np.concatenate([_errors(setup, level) for level in levels])

    def residuals(point: Floats, tolerance: float) -> Floats:
        told = _robust(errors(point) / tolerance)
        return np.concatenate((told, _robust(point / sds)))

    ended = _most_likely(residuals, errors, _SCAN if not known else _SCAN / 2, sds)
    before, after = errors(np.zeros(len(_PARTS))), errors(ended)
    return Found(_factors(ended), _typical(before), _typical(after), max(_LEAST_UNCERTAINTY, 1.4826 * _typical(after)))


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


def _factors(point: Floats) -> Factors:
    return Factors(**{name: float(np.exp(value)) for name, value in zip(_PARTS, point, strict=True)})


def _most_likely(residuals: _Residuals, errors: Callable[[Floats], Floats], scan: Floats, sds: Floats) -> Floats:
    """Return the likeliest factors. What none of them explains is no reason to believe in a part that is far off: where
    errors remain, percentiles tell as much less.
    """

    def loss(point: Floats, tolerance: float = _TOLERANCE) -> float:
        return float(np.sum(residuals(point, tolerance) ** 2))

    ended = [_descended(residuals, _TOLERANCE, start, sds) for start in _likely_starts(loss, scan)]
    left = _typical(errors(min(ended, key=loss)))
    if left <= _EXPLAINED:
        return min(ended, key=loss)
    doubted = left * math.sqrt(_ALIKE)
    again = [_descended(residuals, doubted, point, sds) for point in ended]
    return min(again, key=partial(loss, tolerance=doubted))


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


def _descended(residuals: _Residuals, tolerance: float, start: Floats, sds: Floats) -> Floats:
    """Return where least squares end. Its steps are shares of the point itself, so it works at a distance from 0."""

    def moved(point: Floats) -> Floats:
        return residuals(point - _AWAY, tolerance)

    found = least_squares(moved, start + _AWAY, diff_step=[_STEP / _AWAY], max_nfev=_EVALUATIONS, x_scale=sds)
    return np.asarray(found.x - _AWAY)


def _robust(errors: Floats) -> Floats:
    """Return residuals whose squares are the pseudo-Huber loss."""
    return np.asarray(np.sign(errors) * np.sqrt(2 * (np.sqrt(1 + errors**2) - 1)))


def _typical(errors: Floats) -> float:
    return float(np.median(np.abs(np.expm1(errors))))
