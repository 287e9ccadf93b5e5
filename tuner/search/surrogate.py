"""What is believed about the cost of every candidate: a forecast corrected by the trials measured so far.

The unknown is y(x), the logarithm of GPUs per request per second. Given the twin's forecast m(x), the belief is

    y(x) = m(x) + offset + slope · (m(x) − mean m) + Σ main_d(x_d) + interaction(x)

with Gaussian priors on offset and slope, and Gaussian processes (Matérn 5/2) for what each flag alone and what all of
them together do differently than forecast. A twin is mostly wrong flag by flag (communication too cheap, fp8 too
fast), so one trial with two GPUs already says something about every other configuration with two. How far the twin can
be trusted is not known either, so several such models are kept side by side, from "right up to a factor" to "says
nothing" (m dropped), each weighted by how well it predicted the trials (its marginal likelihood). A wrong profile
thereby talks itself out of the room after a few trials. Without a forecast only the last kind of model remains.

Gaussian process regression: Rasmussen & Williams, "Gaussian Processes for Machine Learning", 2006, chapter 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import log_ndtr, ndtr  # scipy.stats has them as `norm`, and takes half a second of CPU to import

from tuner.search.hypotheses import Hypothesis, hypotheses_of
from tuner.space.space import Dimension, Point, Space

Array = NDArray[np.float64]


_RELEVANCE = {0.1: -0.7, 0.35: -0.3, 1.0: 0.0}
"""How much a dimension may matter beside the others, and the logarithm of how likely that is beforehand."""
_SWEEPS = 2
_LENGTH = 0.6
_TEMPER = 0.5
_DOUBT = 0.1
_FLOOR_SD = 0.06


class Measured(NamedTuple):
    """What trials said: row numbers of the candidates, log costs, and the standard deviation of each.

    `floors` are of trials that were dropped: row number and what its log cost is at least, by how much is not known.
    """

    rows: Sequence[int]
    log_costs: Sequence[float]
    noise_sds: Sequence[float]
    floors: Sequence[tuple[int, float]] = ()

    @property
    def all_rows(self) -> tuple[int, ...]:
        """The rows of `rows` and then of `floors`."""
        return (*self.rows, *(row for row, _ in self.floors))


class Belief(NamedTuple):
    """Posterior per hypothesis (first axis) and candidate (second axis), weights; `trust`: of those with a forecast.

    `leader` is the place of the forecast that the trials bear out best among all: 0, or that of a rival after it.
    """

    means: Array
    sds: Array
    weights: Array
    trust: float = 0.0
    leader: int = 0

    @property
    def mean(self) -> Array:
        """Expected log cost of every candidate."""
        return np.asarray(self.weights @ self.means)

    @property
    def sd(self) -> Array:
        """Standard deviation of the mixture for every candidate."""
        second = self.weights @ (self.sds**2 + self.means**2)
        return np.sqrt(np.maximum(second - self.mean**2, 1e-12))

    def expected_improvement(self, best: float, noise_sd: float) -> Array:
        """Return how much lower than `best` each candidate's log cost is expected to be, 0 where it is higher.

        Jones, Schonlau, Welch, "Efficient Global Optimization", 1998, averaged over the hypotheses and lessened by what
        a measurement with `noise_sd` cannot tell (Huang, Allen, Notz, Zeng, "Global optimization of stochastic
        black-box systems", 2006): without that a search with noise circles among copies of the best one.
        """
        gap = best - self.means
        ratio = gap / self.sds
        told = 1 - noise_sd / np.hypot(self.sds, noise_sd)
        return np.asarray(self.weights @ (told * (gap * ndtr(ratio) + self.sds * np.exp(_log_pdf(ratio)))))


def encode(space: Space, points: Sequence[Point]) -> Array:
    """Return the points as rows of [0, 1] columns: numbers by the logarithm of their size, other values one-hot."""
    columns = [column for dimension in space.dimensions for column in _columns(dimension, points)]
    return np.array(columns, dtype=float).T.reshape(len(points), -1)


def believe(
    features: Array,
    groups: Sequence[int],
    forecast: Array | None,
    measured: Measured,
    *,
    rivals: Sequence[tuple[Array, float]] = (),
    bent: Sequence[Array] = (),
    relevance: Sequence[float] | None = None,
) -> Belief:
    """Return what to believe of every row of `features` after the trials in `measured`.

    `groups` says of each column which dimension it belongs to; `forecast` is the twin's log cost per row, None when
    there is no twin for this engine, `rivals` other twins' with their shares of the likelihood (the rest is its),
    `bent` the first with its bends elsewhere (`tuner.search.bends`). `relevance` says of each dimension how much it
    matters beside the others; left out, all alike.
    """
    usable = hypotheses_of(forecast, bent, rivals)
    kernels = _kernels(features, np.array(measured.all_rows, dtype=int), groups, relevance)
    fits = [_fit(hypothesis, kernels, len(features), base, measured) for hypothesis, base in usable]
    evidence = np.array([np.log(h.weight) / _TEMPER + fit.evidence for (h, _), fit in zip(usable, fits, strict=True)])
    weights = np.exp(_TEMPER * (evidence - evidence.max()))
    # Trials lie where the leading hypothesis sent them, so they say little about how it fares elsewhere: none is ever
    # believed so firmly that the others no longer count.
    prior = np.array([h.weight for h, _ in usable])
    mixed = (1 - _DOUBT) * weights / weights.sum() + _DOUBT * prior / prior.sum()
    trust = mixed[[h.trusts_forecast for h, _ in usable]].sum()
    borne_out = [mixed[[base is each for _, base in usable]].sum() for each in (forecast, *(r for r, _ in rivals))]
    means, sds = np.array([f.mean for f in fits]), np.array([f.sd for f in fits])
    return Belief(means, sds, mixed, float(trust), int(np.argmax(borne_out)))


def column_groups(space: Space) -> tuple[int, ...]:
    """Return the dimension's number of every column that `encode` makes."""
    return tuple(
        number for number, dimension in enumerate(space.dimensions) for _ in range(len(_columns(dimension, ())))
    )


class _Prior(NamedTuple):
    """Before any trial: mean and variance of every row, and its covariance with the rows that were tried."""

    level: Array
    variance: Array
    covariance: Array


class _Fit(NamedTuple):
    mean: Array
    sd: Array
    evidence: float


class _Kernels(NamedTuple):
    """Correlations of every row with the measured rows: by single dimensions (their mean), and by all at once."""

    main: Array
    interaction: Array


def _kernels(
    features: Array, rows: NDArray[np.int64], groups: Sequence[int], relevance: Sequence[float] | None = None
) -> _Kernels:
    of, dimensions = np.array(groups, dtype=int), sorted(set(groups))
    single = [_matern(features[:, of == d], features[rows][:, of == d], _LENGTH) for d in dimensions]
    if relevance is None:
        return _Kernels(np.mean(single, axis=0), _matern(features, features[rows], _LENGTH))
    scaled = features * np.array(relevance)[of]
    main = np.average(single, axis=0, weights=np.square(relevance))
    return _Kernels(main, _matern(scaled, scaled[rows], _LENGTH))


def relevances(features: Array, groups: Sequence[int], measured: Measured) -> tuple[float, ...]:
    """Return how much each dimension matters beside the others, by what was measured (automatic relevance
    determination: Rasmussen & Williams, section 5.1), a few values each; all alike while nothing tells them apart.
    """
    at = features[list(measured.all_rows)]
    local = measured._replace(
        rows=range(len(measured.rows)),
        floors=[(len(measured.rows) + n, floor) for n, (_, floor) in enumerate(measured.floors)],
    )

    def evidence(chosen: Sequence[float]) -> float:
        kernels = _kernels(at, np.arange(len(at)), groups, chosen)
        usable = hypotheses_of(None)
        fits = [_fit(h, kernels, len(at), base, local).evidence + np.log(h.weight) for h, base in usable]
        return float(np.logaddexp.reduce(fits)) + sum(_RELEVANCE[each] for each in chosen)

    found = [1.0] * (max(groups) + 1)
    best = evidence(found) if len(at) else 0.0
    for dimension in list(range(len(found))) * (_SWEEPS if len(at) else 0):
        for value in _RELEVANCE:
            changed = [*found[:dimension], value, *found[dimension + 1 :]]
            if (told := evidence(changed)) > best + 1e-9:
                found, best = changed, told
    return tuple(found)


def _columns(dimension: Dimension, points: Sequence[Point]) -> list[list[float]]:
    values = [point[dimension.flag] for point in points]
    if dimension.is_numeric and len(dimension.choices) > 1:
        places = _places(dimension)
        return [[places.get(value, 0.0) for value in values]]
    # Two different values lie a distance of 1 apart, like the two ends of a numeric dimension.
    return [[float(value == choice) / np.sqrt(2) for value in values] for choice in (*dimension.choices, None)]


def _places(dimension: Dimension) -> dict[object, float]:
    numbers = [float(value) for value in dimension.choices if isinstance(value, int | float)]
    scaled = np.log(numbers) if min(numbers) > 0 else np.array(numbers)
    return dict(zip(dimension.choices, (scaled - scaled[0]) / (scaled[-1] - scaled[0]), strict=True))


def _fit(h: Hypothesis, kernels: _Kernels, count: int, forecast: Array | None, measured: Measured) -> _Fit:
    """Condition on what was measured, then on the floors at what the first makes of them."""
    base = forecast if h.trusts_forecast and forecast is not None else np.zeros(count)
    level = base if h.trusts_forecast else base + _typical(measured)
    wide = _covariance(h, kernels, base, base[list(measured.all_rows)], float(base.mean()))
    prior = _Prior(level, _diagonal(h, base), wide)
    first = _conditioned(prior, measured.rows, np.array(measured.log_costs), np.array(measured.noise_sds))
    if not measured.floors:
        return first
    rows, floors = [row for row, _ in measured.floors], np.array([floor for _, floor in measured.floors])
    gap = (floors - first.mean[rows]) / first.sd[rows]
    beyond = np.exp(_log_pdf(gap) - log_ndtr(-gap))  # how far above its mean a normal is that exceeds the floor
    values = np.concatenate((measured.log_costs, first.mean[rows] + first.sd[rows] * beyond))
    noises = np.concatenate((measured.noise_sds, np.maximum(_FLOOR_SD, first.sd[rows] * _narrowed(gap, beyond))))
    last = _conditioned(prior, measured.all_rows, values, noises)
    return _Fit(last.mean, last.sd, first.evidence + float(log_ndtr(-gap).sum()))


def _conditioned(prior: _Prior, rows: Sequence[int], values: Array, noise_sds: Array) -> _Fit:
    """Return the Gaussian process given `values` at `rows`, which are the first columns of the covariance."""
    if not rows:
        return _Fit(prior.level, np.sqrt(prior.variance), 0.0)
    wide, at = prior.covariance[:, : len(rows)], list(rows)
    factor = cho_factor(wide[at] + np.diag(np.square(noise_sds) + 1e-8), lower=True)
    error = values - prior.level[at]
    mean = prior.level + wide @ cho_solve(factor, error)
    # A handful of trials against thousands of candidates: the small matrix is inverted once, not solved for each.
    explained = np.einsum("ij,ij->i", wide @ cho_solve(factor, np.eye(len(rows))), wide)
    evidence = -0.5 * error @ cho_solve(factor, error) - np.log(np.diag(factor[0])).sum()
    return _Fit(mean, np.sqrt(np.maximum(prior.variance - explained, 1e-10)), float(evidence))


def _narrowed(gap: Array, beyond: Array) -> Array:
    """Return what share of its standard deviation a normal keeps that is known to exceed `gap`."""
    return np.sqrt(np.clip(1 + gap * beyond - beyond**2, 0.0, 1.0))


def _log_pdf(at: Array) -> Array:
    return np.asarray(-(at**2 + np.log(2 * np.pi)) / 2)


def _typical(measured: Measured) -> float:
    known = [*measured.log_costs, *(floor for _, floor in measured.floors)]
    return float(np.median(known)) if known else 0.0


def _diagonal(h: Hypothesis, base: Array) -> Array:
    return np.asarray(h.offset_sd**2 + h.slope_sd**2 * (base - base.mean()) ** 2 + h.main_sd**2 + h.interaction_sd**2)


def _covariance(h: Hypothesis, kernels: _Kernels, m_left: Array, m_right: Array, middle: float) -> Array:
    slope = h.slope_sd**2 * np.outer(m_left - middle, m_right - middle)
    return np.asarray(h.offset_sd**2 + slope + h.main_sd**2 * kernels.main + h.interaction_sd**2 * kernels.interaction)


def _matern(left: Array, right: Array, length: float) -> Array:
    squared = np.square(left).sum(axis=1)[:, None] + np.square(right).sum(axis=1)[None, :] - 2 * left @ right.T
    scaled = np.sqrt(5 * np.maximum(squared, 0)) / length
    return np.asarray((1 + scaled + scaled**2 / 3) * np.exp(-scaled))


def interpolate(features: Array, rows: NDArray[np.int64], values: Array, *, length: float = 0.6) -> Array:
    """Return a smooth guess for every row of `features` from exact values at some `rows` (same kernel, no noise)."""
    middle = float(values.mean())
    kernel = _matern(features, features[rows], length)
    factor = cho_factor(kernel[rows] + 1e-4 * np.eye(len(rows)), lower=True)
    return np.asarray(middle + kernel @ cho_solve(factor, values - middle))
