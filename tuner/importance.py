"""What each flag did: its effect on the cost per request, with how sure the trials make us. Pure.

Effects are those of a ridge regression of log cost on the flags' values (the twin is not asked); a flag's importance is
the spread of its effect between the best and the worst value tried. The interval is a jackknife over the trials: with
a handful of trials it is wide, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from controlplane.domain.engine import EngineConfig, FlagValue
from controlplane.domain.importance import Importance
from controlplane.domain.service import ServiceSpec
from controlplane.domain.study import Trial
from tuner.winner import trial_log_cost

_RIDGE = 0.05
_Z95 = 1.96
_FEWEST = 3


def importances(spec: ServiceSpec, trials: Sequence[Trial]) -> tuple[Importance, ...]:
    """Return the flags that were tried at more than one value, largest effect first; empty below three trials."""
    measured = [(trial.config, cost) for trial in trials if (cost := trial_log_cost(spec, trial)) is not None]
    flags = _varied([config for config, _ in measured])
    if len(measured) < _FEWEST or not flags:
        return ()
    whole = _effects(measured, flags)
    left_out = [_effects(measured[:i] + measured[i + 1 :], flags) for i in range(len(measured))]
    found = [_importance(flag, whole[flag], [each[flag] for each in left_out]) for flag in flags]
    return tuple(sorted(found, key=lambda item: -item.effect))


def _varied(configs: Sequence[EngineConfig]) -> list[str]:
    names = sorted({name for config in configs for name in config.flags})
    return [name for name in names if len({config.flags.get(name) for config in configs}) > 1]


def _effects(
    measured: Sequence[tuple[EngineConfig, float]], flags: Sequence[str]
) -> Mapping[str, Mapping[FlagValue | None, float]]:
    """Return the fitted shift of log cost per flag and value."""
    columns = [(flag, value) for flag in flags for value in dict.fromkeys(c.flags.get(flag) for c, _ in measured)]
    design = np.array([[float(config.flags.get(flag) == value) for flag, value in columns] for config, _ in measured])
    costs = np.array([cost for _, cost in measured])
    gram = design.T @ design + _RIDGE * np.eye(len(columns))
    weights = np.linalg.solve(gram, design.T @ (costs - costs.mean()))
    found: dict[str, dict[FlagValue | None, float]] = {flag: {} for flag in flags}
    for (flag, value), weight in zip(columns, weights, strict=True):
        found[flag][value] = float(weight)
    return found


def _importance(
    flag: str, shifts: Mapping[FlagValue | None, float], left_out: Sequence[Mapping[FlagValue | None, float]]
) -> Importance:
    spreads = [_spread(each) for each in left_out]
    n, middle = len(spreads), sum(spreads) / len(spreads)
    error = math.sqrt((n - 1) / n * sum((spread - middle) ** 2 for spread in spreads))
    spread = _spread(shifts)
    best = min(shifts, key=lambda value: shifts[value])
    low, high = max(0.0, spread - _Z95 * error), spread + _Z95 * error
    return Importance(flag=flag, effect=math.expm1(spread), low=math.expm1(low), high=math.expm1(high), best=best)


def _spread(shifts: Mapping[FlagValue | None, float]) -> float:
    return max(shifts.values()) - min(shifts.values()) if shifts else 0.0
