"""What the twin expects of every candidate, at the price of simulating only some of them.

A simulated capacity takes tens of milliseconds, a space has thousands of points. The first simulations are spread over
the space, the next go where the interpolated cost is lowest, the rest along each flag through the best; what was never
simulated gets the interpolated value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import InvalidInput
from controlplane.domain.slo import LatencySlo
from tuner.search.candidates import KINDS, Mask, Outlook
from tuner.search.surrogate import Array, encode, interpolate
from tuner.space.space import Point, Space
from tuner.twin.predict import RequestsAt, capacity
from tuner.twin.setup import DoesNotFit, EngineSetup

CapacityOf = Callable[[EngineConfig], float | None]
"""Returns the expected capacity of one replica, requests/s: 0 when it meets the limits nowhere, None when unknown."""

CostOf = Callable[[EngineConfig, float], float]
"""Returns the log cost of a configuration whose replica has a capacity in requests/s, above 0."""

_SPREAD = 48
_SPREAD_SHARE, _GUESSED_SHARE = 1 / 3, 2 / 3  # of the simulations: spread, and with those where the guess leads
_ROUND = 16
_PRECISION = 0.05
_HOPELESS = 1.5  # log cost of a candidate without capacity: this much above the worst that has one


SetupOf = Callable[[EngineConfig], EngineSetup]
"""Returns the engine a configuration makes; raises DoesNotFit, or InvalidInput where the twin does not know."""


def twin_capacity(
    setup_of: SetupOf,
    requests_at: RequestsAt,
    slos: tuple[LatencySlo, ...],
    *,
    start_rps: float,
    precision: float = _PRECISION,
    step: float = 2.0,
) -> CapacityOf:
    """Return a function that simulates one configuration's capacity.

    `start_rps` is where its search begins (a guess saves simulations). Configurations the twin does not know give None.
    """

    def capacity_of(config: EngineConfig) -> float | None:
        try:
            setup = setup_of(config)
            return capacity(setup, requests_at, slos, start_rps=start_rps, precision=precision, step=step).rps
        except DoesNotFit:
            return 0.0
        except InvalidInput:
            return None

    return capacity_of


def gpus_per_request(config: EngineConfig, capacity_rps: float) -> float:
    """Return the logarithm of GPUs per request and second."""
    return math.log(config.gpus_per_replica / capacity_rps)


def screen(
    space: Space,
    points: Sequence[Point],
    capacity_of: CapacityOf,
    *,
    effort: int,
    seed: int,
    cost_of: CostOf = gpus_per_request,
) -> Outlook | None:
    """Return what the twin expects of every point; None when it knows none of them.

    At most about `effort` of them are simulated now, others when the search looks at them.
    """
    configs = [space.config(point) for point in points]
    expected = partial(_log_cost, capacity_of=capacity_of, cost_of=cost_of)
    known = _Known(np.full(len(points), np.nan), configs, expected)
    order = np.random.default_rng(seed).permutation(len(points))
    known.simulate(order[: max(_SPREAD, round(effort * _SPREAD_SHARE))])
    if not known.count:
        return None
    features = encode(space, points)
    _follow_the_guess(known, features, round(effort * _GUESSED_SHARE))
    _sweep(known, _codes(space, points), _kinds(space, points), effort)
    simulated, hopeless = ~np.isnan(known.costs), float(np.nanmax(known.costs))
    costs = known.costs.copy()
    if not simulated.all():
        costs[~simulated] = interpolate(features, np.flatnonzero(simulated), costs[simulated])[~simulated]
    return Outlook(costs, simulated, lambda row: expected(configs[row], hopeless=hopeless))


class _Known:
    """What was simulated so far: a log cost per point, NaN where none was."""

    def __init__(self, costs: Array, configs: Sequence[EngineConfig], expected: Callable[..., float | None]) -> None:
        self.costs = costs
        self._configs = configs
        self._expected = expected

    @property
    def count(self) -> int:
        return int(np.sum(~np.isnan(self.costs)))

    def simulate(self, rows: NDArray[np.int64]) -> None:
        for row in rows[np.isnan(self.costs[rows])]:
            found = self._expected(self._configs[int(row)], hopeless=math.inf)
            if found is not None:
                self.costs[row] = found
        finite = self.costs[np.isfinite(self.costs)]
        self.costs[np.isposinf(self.costs)] = (finite.max() if finite.size else 0.0) + _HOPELESS


def _follow_the_guess(known: _Known, features: Array, effort: int) -> None:
    """Simulate where the interpolated cost is lowest, a few at a time."""
    done = 0
    while done < known.count < effort and np.isnan(known.costs).any():
        done = known.count
        simulated = ~np.isnan(known.costs)
        guess = interpolate(features, np.flatnonzero(simulated), known.costs[simulated])
        open_rows = np.flatnonzero(~simulated)
        known.simulate(open_rows[np.argsort(guess[open_rows])[:_ROUND]])


def _sweep(known: _Known, codes: NDArray[np.int64], kinds: NDArray[np.int64], effort: int) -> None:
    """Simulate all that is one flag away from the best of each kind, the cheapest kind first, until none gets better.

    A limit makes cost fall off a cliff, where a smooth guess misses a small region that is best; a sweep of one flag
    does not.
    """
    swept = set[int]()
    while known.count < effort:
        best_of = [_best(known.costs, kinds == kind) for kind in np.unique(kinds)]
        unswept = [row for row in best_of if row is not None and row not in swept]
        if not unswept:
            return
        pivot = min(unswept, key=lambda row: float(known.costs[row]))
        swept.add(pivot)
        near = ((codes != codes[pivot]).sum(axis=1) == 1) & (kinds == kinds[pivot])
        known.simulate(np.flatnonzero(near))


def _best(costs: Array, among: Mask) -> int | None:
    rows = np.flatnonzero(among & ~np.isnan(costs))
    return int(rows[np.argmin(costs[rows])]) if rows.size else None


def _codes(space: Space, points: Sequence[Point]) -> NDArray[np.int64]:
    """Return per point and dimension a number that is the same for equal values."""
    return np.array(
        [[(*d.choices, None).index(point[d.flag]) for d in space.dimensions] for point in points], dtype=np.int64
    )


def _kinds(space: Space, points: Sequence[Point]) -> NDArray[np.int64]:
    """Return per point the number of its kind: what the twin has a profile of its own for."""
    names = [tuple(point[flag] for flag in KINDS if flag in space.names) for point in points]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], dtype=np.int64)


def _log_cost(config: EngineConfig, *, capacity_of: CapacityOf, cost_of: CostOf, hopeless: float) -> float | None:
    capacity_rps = capacity_of(config)
    if capacity_rps is None:
        return None
    return cost_of(config, capacity_rps) if capacity_rps > 0 else hopeless
