"""Which trial won, and whether it still wins when winner and baseline are measured again in turn. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from controlplane.domain.capacity import Capacity
from controlplane.domain.service import ServiceSpec
from controlplane.domain.study import Trial, TrialKind, TrialState
from tuner.answer.objective import log_cost, shortfalls, smooth_cost
from tuner.search.candidates import MEASUREMENT_SD

_Z95 = 1.96


class Gain(NamedTuple):
    """Winner's cost over baseline's with a 95 % interval; below 1 is cheaper."""

    ratio: float
    low: float
    high: float

    @property
    def is_improvement(self) -> bool:
        """True when even the interval's end is cheaper."""
        return self.high < 1


def trial_log_cost(spec: ServiceSpec, trial: Trial) -> float | None:
    """Return the trial's cost on the search's scale, None when it has no capacity."""
    if trial.state is not TrialState.FEASIBLE or trial.capacity is None or trial.capacity.rps <= 0:
        return None
    return log_cost(spec, trial.capacity.rps, trial.config.gpus_per_replica)


def incumbent(spec: ServiceSpec, trials: Sequence[Trial]) -> Trial | None:
    """Return the cheapest trial with a capacity, the baseline included; None when nothing has one."""
    searched = [t for t in trials if t.kind in (TrialKind.BASELINE, TrialKind.SEARCH)]
    costs = [(cost, t) for t in searched if (cost := trial_log_cost(spec, t)) is not None]
    return min(costs, key=lambda each: each[0], default=(0.0, None))[1]


def choose(spec: ServiceSpec, trials: Sequence[Trial]) -> Trial | None:
    """Return the trial worth confirming: cheapest fleet within the user's ceilings, then the lowest smooth cost.

    None when no trial of the search is better than the baseline by more than measurement noise.
    """
    able = [t for t in trials if t.kind is TrialKind.SEARCH and _is_eligible(spec, t)]
    best = min(able, key=lambda t: _rank(spec, t), default=None)
    baseline = next((t for t in trials if t.kind is TrialKind.BASELINE), None)
    if best is None or baseline is None:
        return None
    before, after = trial_log_cost(spec, baseline), trial_log_cost(spec, best)
    if before is not None and after is not None and after > before - MEASUREMENT_SD:
        return None
    return best


def gain(spec: ServiceSpec, winners: Sequence[Trial], baselines: Sequence[Trial]) -> Gain | None:
    """Return the confirmed gain; None when the winner did not hold a capacity in every confirmation.

    The two are compared in the order they were measured (A B A B), which takes slow drift of the machine out. Each
    capacity's own interval is its bracket; nothing is taken to be more precise than the ladder was built for. A
    baseline that meets the limits at no rate has an infinite cost: the ratio is 0.
    """
    after = [_log_with_sd(spec, trial) for trial in winners]
    before = [_log_with_sd(spec, trial) for trial in baselines]
    if not after or not before or any(value is None for value in after):
        return None
    if any(value is None for value in before):
        return Gain(0.0, 0.0, 0.0)
    mean = _mean([v[0] for v in after if v]) - _mean([v[0] for v in before if v])
    variance = sum(_mean([v[1] ** 2 for v in side if v]) / len(side) for side in (after, before))
    half = _Z95 * math.sqrt(variance)
    return Gain(math.exp(mean), math.exp(mean - half), math.exp(mean + half))


def pooled_capacity(trials: Sequence[Trial]) -> Capacity | None:
    """Return the capacity of several measurements of one configuration: geometric mean, widest bracket."""
    found = [t.capacity for t in trials if t.capacity is not None and t.capacity.rps > 0]
    if not found:
        return None
    return Capacity(
        rps=math.exp(_mean([math.log(c.rps) for c in found])),
        low_rps=min(c.low_rps for c in found),
        high_rps=max(c.high_rps for c in found),
        censored=any(c.censored for c in found),
    )


def _is_eligible(spec: ServiceSpec, trial: Trial) -> bool:
    return trial_log_cost(spec, trial) is not None and trial.fleet is not None and not shortfalls(spec, trial.fleet)


def _rank(spec: ServiceSpec, trial: Trial) -> tuple[float, float]:
    assert trial.fleet is not None
    assert trial.capacity is not None  # eligible trials have both
    return trial.fleet.usd_per_hour, smooth_cost(spec, trial.capacity.rps, trial.config.gpus_per_replica)


def _log_with_sd(spec: ServiceSpec, trial: Trial) -> tuple[float, float] | None:
    cost = trial_log_cost(spec, trial)
    if cost is None or trial.capacity is None:
        return None
    bracket = math.log(trial.capacity.high_rps / trial.capacity.low_rps) if trial.capacity.low_rps > 0 else 0.0
    return cost, max(MEASUREMENT_SD, bracket / (2 * _Z95))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
