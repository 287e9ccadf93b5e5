"""What the twin expects of every candidate, at the price of simulating only some of them.

A simulated capacity takes tens of milliseconds, a space has thousands of points. The first simulations are spread over
the space, the next go where the interpolated cost is lowest; what was never simulated gets the interpolated value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from controlplane.domain.engine import EngineConfig
from controlplane.domain.errors import InvalidInput
from controlplane.domain.slo import LatencySlo
from tuner.surrogate import Array, interpolate
from tuner.twin.predict import RequestsAt, capacity
from tuner.twin.profile import Profile
from tuner.twin.setup import DoesNotFit, resolve
from tuner.twin.shapes import ModelShape

CapacityOf = Callable[[EngineConfig], float | None]
"""Returns the expected capacity of one replica, requests/s: 0 when it meets the limits nowhere, None when unknown."""

_SPREAD = 48
_ROUND = 16
_PRECISION = 0.05
_HOPELESS = 1.5  # log cost of a candidate without capacity: this much above the worst that has one


def twin_capacity(
    shape: ModelShape,
    gpu: str,
    requests_at: RequestsAt,
    slos: tuple[LatencySlo, ...],
    *,
    start_rps: float,
    profile: Profile | None = None,
) -> CapacityOf:
    """Return a function that simulates one configuration's capacity.

    `start_rps` is where its search begins (a guess saves simulations). Configurations the twin does not know give None.
    """

    def capacity_of(config: EngineConfig) -> float | None:
        try:
            setup = resolve(shape, gpu, config, profile)
            return capacity(setup, requests_at, slos, start_rps=start_rps, precision=_PRECISION).rps
        except DoesNotFit:
            return 0.0
        except InvalidInput:
            return None

    return capacity_of


def screen(
    configs: Sequence[EngineConfig], features: Array, capacity_of: CapacityOf, *, effort: int, seed: int
) -> Array | None:
    """Return the forecast log cost of every configuration; None when the twin knows none of them.

    At most about `effort` of them are simulated.
    """
    rng = np.random.default_rng(seed)
    costs = np.full(len(configs), np.nan)
    order = rng.permutation(len(configs))
    _simulate(costs, configs, capacity_of, order[: max(_SPREAD, effort // 3)])
    done = int(np.sum(~np.isnan(costs)))
    if done == 0:
        return None
    while done < effort and np.isnan(costs).any():
        guess = interpolate(features, np.flatnonzero(~np.isnan(costs)), costs[~np.isnan(costs)])
        open_rows = np.flatnonzero(np.isnan(costs))
        best = open_rows[np.argsort(guess[open_rows])[:_ROUND]]
        _simulate(costs, configs, capacity_of, best)
        simulated = int(np.sum(~np.isnan(costs)))
        if simulated == done:
            break
        done = simulated
    known = ~np.isnan(costs)
    return costs if known.all() else np.where(known, costs, interpolate(features, np.flatnonzero(known), costs[known]))


def _simulate(costs: Array, configs: Sequence[EngineConfig], capacity_of: CapacityOf, rows: NDArray[np.int64]) -> None:
    for row in rows:
        expected = capacity_of(configs[int(row)])
        if expected:
            costs[row] = math.log(configs[int(row)].gpus_per_replica / expected)
        elif expected is not None:
            costs[row] = math.inf
    finite = costs[np.isfinite(costs)]
    costs[np.isposinf(costs)] = (finite.max() if finite.size else 0.0) + _HOPELESS
