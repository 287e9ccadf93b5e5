"""What of its budget a study keeps for the proof while it searches: rounds of confirmation, the fleet check. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.study import Trial, TrialKind
from controlplane.domain.studies.tuning_options import Budget
from tuner.answer.confirm import is_likely, is_lost, is_possible, round_starts
from tuner.answer.fleet_check import kept_replicas
from tuner.answer.standing import Standing, standings

_FEWEST_SEARCHED = 2  # the baseline and one candidate
_MIDDLING = 8  # engine starts from which a second candidate is tried rather than a larger fleet be checked
_LARGE = 10  # engine starts that leave room for a second round


def reserved_rounds(budget: Budget) -> int:
    """Return for how many rounds of confirmation starts are kept aside: one, where there is room two."""
    return 2 if budget.engine_starts >= _LARGE else 1


def reserved_replicas(spec: ServiceSpec, trials: Sequence[Trial]) -> int:
    """Return for how many engines of the fleet check starts are kept aside: none when that leaves no search."""
    budget = spec.tuning.budget
    room = budget.engine_starts - _FEWEST_SEARCHED - round_starts(spec, trials) * reserved_rounds(budget)
    leader = _leader(spec, trials)
    second = kept_replicas(spec, leader, room=room - 1) if budget.engine_starts >= _MIDDLING else 0
    return second or kept_replicas(spec, leader, room=room)


def reserved_starts(spec: ServiceSpec, trials: Sequence[Trial]) -> int:
    """Return how many starts the rounds that are kept aside take: what was measured of the baseline stays measured."""
    rounds = reserved_rounds(spec.tuning.budget)
    done = sum(t.kind is TrialKind.CONFIRM_BASELINE for t in trials)
    return rounds + (round_starts(spec, trials) - 1) * max(0, rounds - done)


def wanted_replicas(spec: ServiceSpec, trials: Sequence[Trial]) -> int:
    """Return how many engines the fleet check may take, whether or not the budget has room for them."""
    return kept_replicas(spec, _leader(spec, trials), room=spec.gpus.count)


def _leader(spec: ServiceSpec, trials: Sequence[Trial]) -> Standing | None:
    lost = is_lost(spec, trials)
    possible = (each for each in standings(spec, trials) if is_possible(each, lost=lost))
    return next((each for each in possible if not each.rounds or is_likely(each)), None)
