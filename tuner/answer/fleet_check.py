"""The last question of a study: do the recommended replicas carry the target together? Pure.

One replica's capacity times their number is only a promise: requests spread unevenly, and the gateway takes its share.
So they are started side by side, behind a gateway, and loaded with the target rate once. When they miss it, one more
replica is checked, as long as that is still cheaper than the baseline's fleet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from controlplane.domain.capacity import Capacity, FleetSize, fleet_size
from controlplane.domain.engine import EngineConfig
from controlplane.domain.service import ObjectiveKind, ServiceSpec
from controlplane.domain.study import FleetCheck, Trial, TrialKind, TrialState
from tuner.answer.objective import fleet_for, shortfalls
from tuner.answer.winner import choose, gain, incumbent, pooled_capacity

_MAX_CHECKS = 2


class Candidate(NamedTuple):
    """A fleet that the confirmations speak for."""

    config: EngineConfig
    capacity: Capacity  # of one replica
    size: FleetSize


def candidate(spec: ServiceSpec, trials: Sequence[Trial]) -> Candidate | None:
    """Return the winner's fleet by its confirmed capacity; None when it is no improvement or not affordable."""
    winner, winners = choose(spec, trials), _of(trials, TrialKind.CONFIRM_WINNER)
    found = gain(spec, winners, _of(trials, TrialKind.CONFIRM_BASELINE))
    capacity = pooled_capacity(winners)
    if winner is None or capacity is None or found is None or not found.is_improvement:
        return None
    size = fleet_for(spec, capacity.rps, winner.config.gpus_per_replica)
    return None if shortfalls(spec, size) else Candidate(winner.config, capacity, size)


def next_check(spec: ServiceSpec, trials: Sequence[Trial]) -> Candidate | None:
    """Return the fleet to check next; None when there is none, the check is off, or its answer is there."""
    found = candidate(spec, trials) if spec.tuning.confirm_fleet else None
    if found is None:
        return None
    checks = _of(trials, TrialKind.CONFIRM_FLEET)
    if not checks:
        return found
    if checks[-1].state is not TrialState.INFEASIBLE or len(checks) >= _MAX_CHECKS:
        return None
    larger = fleet_size(checks[-1].replicas + 1, found.config.gpus_per_replica, spec.gpus)
    return found._replace(size=larger) if _is_worth_it(spec, trials, larger) else None


def fleet_rate(spec: ServiceSpec, capacity: Capacity, replicas: int) -> float:
    """Return requests per second to check a fleet with: the target, or for highest goodput all but the headroom."""
    match spec.tuning.objective.kind:
        case ObjectiveKind.LOWEST_COST:
            return spec.slos.target_qps
        case ObjectiveKind.HIGHEST_GOODPUT:
            return capacity.rps * replicas * (1 - spec.tuning.objective.headroom)


def kept_replicas(spec: ServiceSpec, trials: Sequence[Trial]) -> int:
    """Return how many engines the check may start, by the cheapest configuration so far; 0 when it is off.

    One more than its capacity asks for: the best of many measurements was lucky, and confirmed it is often less.
    """
    if not spec.tuning.confirm_fleet:
        return 0
    best = incumbent(spec, trials)
    if best is None or best.capacity is None:
        return 1
    gpus = best.config.gpus_per_replica
    return max(1, min(fleet_for(spec, best.capacity.rps, gpus).replicas + 1, spec.gpus.count // gpus))


def fleet_answer(spec: ServiceSpec, trials: Sequence[Trial], *, unchecked: str | None) -> FleetCheck | None:
    """Return what the check said of the candidate; `unchecked` is why it was not made. None when it is off."""
    found = candidate(spec, trials)
    if found is None or not spec.tuning.confirm_fleet:
        return None
    checks = _of(trials, TrialKind.CONFIRM_FLEET)
    if not checks:
        return FleetCheck(held=None, reason=unchecked or "the study ended before it", replicas=found.size.replicas)
    last = checks[-1]
    rate = last.levels[-1].rate_rps if last.levels else None
    held = None if last.state in (TrialState.FAILED, TrialState.RUNNING) else last.state is TrialState.FEASIBLE
    reason = last.reason or "meets every limit"
    return FleetCheck(held=held, reason=reason, replicas=last.replicas, rate_rps=rate, trial_id=last.trial_id)


def _is_worth_it(spec: ServiceSpec, trials: Sequence[Trial], size: FleetSize) -> bool:
    before = pooled_capacity(_of(trials, TrialKind.CONFIRM_BASELINE))
    baseline = next(t for t in trials if t.kind is TrialKind.BASELINE)
    if shortfalls(spec, size):
        return False
    if before is None:
        return True
    return size.usd_per_hour < fleet_for(spec, before.rps, baseline.config.gpus_per_replica).usd_per_hour


def _of(trials: Sequence[Trial], kind: TrialKind) -> list[Trial]:
    return [trial for trial in trials if trial.kind is kind]
