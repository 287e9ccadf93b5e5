"""The cheapest trial so far, by what each measured alone: where the search and its ladders orient themselves. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.study import Trial, TrialKind, TrialState
from tuner.answer.objective import fleet_for, log_cost, shortfalls


def trial_log_cost(spec: ServiceSpec, trial: Trial) -> float | None:
    """Return the trial's cost on the search's scale, None when it has no capacity."""
    if trial.state is not TrialState.FEASIBLE or trial.capacity is None or trial.capacity.rps <= 0:
        return None
    return log_cost(spec, trial.capacity.rps, trial.config.gpus_per_replica)


def incumbent(spec: ServiceSpec, trials: Sequence[Trial]) -> Trial | None:
    """Return the trial with the cheapest whole fleet, of several the one with most room, the baseline included.

    None when nothing has a capacity.
    """
    searched = [t for t in trials if t.kind in (TrialKind.BASELINE, TrialKind.SEARCH)]
    ranks = [(rank, t) for t in searched if (rank := _rank(spec, t)) is not None]
    return min(ranks, key=lambda each: each[0], default=((0, 0.0), None))[1]


def is_within_reach(spec: ServiceSpec, trial: Trial) -> bool:
    """Say whether the fleet that a measured trial needs, by its own capacity alone, exists on these GPUs."""
    if trial.capacity is None or trial.capacity.rps <= 0:
        return False
    return not shortfalls(spec, fleet_for(spec, trial.capacity.rps, trial.config.gpus_per_replica))


def _rank(spec: ServiceSpec, trial: Trial) -> tuple[int, float] | None:
    cost = trial_log_cost(spec, trial)
    if cost is None or trial.capacity is None:
        return None
    return fleet_for(spec, trial.capacity.rps, trial.config.gpus_per_replica).gpus, cost
