"""What each flag did: its effect on the cost per request, with how sure the trials make us. Pure.

Bayesian linear regression of log cost on the flags' values (the twin is not asked): every value shifts it by an amount
with a Gaussian prior (Bishop, "Pattern Recognition and Machine Learning", 2006, section 3.3). A flag's importance is
the distance between its best and its worst value tried, and its interval that distance's posterior. Flags that were
only changed together share what they did and get wide intervals: which of them it was is not known, and is said.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.importance import Importance
from controlplane.domain.studies.study import Trial
from tuner.answer.winner import trial_log_cost

_SHIFT_SD = 0.6  # of one value, before any trial: about what the search's hypotheses expect (`hypotheses.HYPOTHESES`)
_NOISE_SD = 0.1  # what a ladder leaves open, and what flags do together
_Z95 = 1.96
_FEWEST = 3

Column = tuple[str, FlagValue | None]


class _Fit(NamedTuple):
    """Posterior of the shift of every column: a flag at one of its values."""

    columns: Sequence[Column]
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]


def importances(spec: ServiceSpec, trials: Sequence[Trial]) -> tuple[Importance, ...]:
    """Return the flags that were tried at more than one value, largest effect first; empty below three trials."""
    measured = [(trial.config, cost) for trial in trials if (cost := trial_log_cost(spec, trial)) is not None]
    configs, costs = [config for config, _ in measured], np.array([cost for _, cost in measured])
    parts = {flag: part for flag in _flags(configs) if len(set(part := _part(flag, configs))) > 1}
    if len(measured) < _FEWEST or not parts:
        return ()
    fit = _fitted(configs, costs, list(parts))
    alike = list(parts.values())
    found = [_importance(fit, flag, told_apart=alike.count(part) == 1) for flag, part in parts.items()]
    return tuple(sorted(found, key=lambda item: -item.effect))


def _flags(configs: Sequence[EngineConfig]) -> list[str]:
    return sorted({name for config in configs for name in config.flags})


def _part(flag: str, configs: Sequence[EngineConfig]) -> tuple[int, ...]:
    """Return which trials had equal values: two flags with the same parts were only changed together."""
    numbers: dict[Hashable, int] = {}
    return tuple(numbers.setdefault(config.flags.get(flag), len(numbers)) for config in configs)


def _fitted(configs: Sequence[EngineConfig], costs: NDArray[np.float64], flags: Sequence[str]) -> _Fit:
    columns: list[Column] = [(flag, v) for flag in flags for v in dict.fromkeys(c.flags.get(flag) for c in configs)]
    design = np.array([[float(config.flags.get(flag) == v) for flag, v in columns] for config in configs])
    centred = costs - costs.mean()
    mean, covariance = _posterior(design, centred, _NOISE_SD)
    spare = len(costs) - float(np.trace(design @ covariance @ design.T)) / _NOISE_SD**2  # less the parameters they fix
    left = math.sqrt(float(((centred - design @ mean) ** 2).sum()) / max(spare, 1.0))
    return _Fit(columns, *_posterior(design, centred, max(_NOISE_SD, left)))


def _posterior(
    design: NDArray[np.float64], costs: NDArray[np.float64], noise_sd: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    precision = design.T @ design / noise_sd**2 + np.eye(design.shape[1]) / _SHIFT_SD**2
    covariance: NDArray[np.float64] = np.linalg.inv(precision).astype(np.float64)
    return covariance @ design.T @ costs / noise_sd**2, covariance


def _importance(fit: _Fit, flag: str, *, told_apart: bool) -> Importance:
    rows = [row for row, (name, _) in enumerate(fit.columns) if name == flag]
    best, worst = min(rows, key=lambda row: fit.mean[row]), max(rows, key=lambda row: fit.mean[row])
    spread = float(fit.mean[worst] - fit.mean[best])
    variance = fit.covariance[worst, worst] + fit.covariance[best, best] - 2 * fit.covariance[worst, best]
    reach = _Z95 * math.sqrt(float(variance))
    return Importance(
        flag=flag,
        effect=math.expm1(spread),
        low=math.expm1(max(0.0, spread - reach)),
        high=math.expm1(spread + reach),
        best=fit.columns[best][1],
        told_apart=told_apart,
    )
