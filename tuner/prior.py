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
from tuner.advisor import Outlook
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
    precision: float = _PRECISION,
) -> CapacityOf:
    """Return a function that simulates one configuration's capacity.

    `start_rps` is where its search begins (a guess saves simulations). Configurations the twin does not know give None.
    """

    def capacity_of(config: EngineConfig) -> float | None:
        try:
            setup = resolve(shape, gpu, config, profile)
            return capacity(setup, requests_at, slos, start_rps=start_rps, precision=precision).rps
        except DoesNotFit:
            return 0.0
        except InvalidInput:
            return None

    return capacity_of


def screen(
    configs: Sequence[EngineConfig], features: Array, capacity_of: CapacityOf, *, effort: int, seed: int
) -> Outlook | None:
    """Return what the twin expects of every configuration; None when it knows none of them.

    At most about `effort` of them are simulated now, others when the search looks at them.
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
    hopeless = float(costs[known].max())
    if not known.all():
        costs[~known] = interpolate(features, np.flatnonzero(known), costs[known])[~known]
    return Outlook(costs, known, lambda row: _log_cost(configs[row], capacity_of(configs[row]), hopeless))


def _simulate(costs: Array, configs: Sequence[EngineConfig], capacity_of: CapacityOf, rows: NDArray[np.int64]) -> None:
    for row in rows:
        found = _log_cost(configs[int(row)], capacity_of(configs[int(row)]), math.inf)
        if found is not None:
            costs[row] = found
    finite = costs[np.isfinite(costs)]
    costs[np.isposinf(costs)] = (finite.max() if finite.size else 0.0) + _HOPELESS


def _log_cost(config: EngineConfig, capacity_rps: float | None, hopeless: float) -> float | None:
    if capacity_rps is None:
        return None
    return math.log(config.gpus_per_replica / capacity_rps) if capacity_rps > 0 else hopeless
