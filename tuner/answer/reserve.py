"""What of its budget a study keeps for the proof while it searches: rounds of confirmation, the fleet check. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.study import Trial, TrialKind
from controlplane.domain.studies.tuning_options import Budget
from tuner.answer.confirm import (
    is_checked_at_once,
    is_likely,
    is_lost,
    is_possible,
    odds_per_start,
    round_starts,
)
from tuner.answer.fleet_check import kept_replicas
from tuner.answer.standing import Standing, standings

_FEWEST_SEARCHED = 2  # the baseline and one candidate
_MIDDLING = 8  # engine starts from which a second candidate is tried rather than a larger fleet be checked
_LARGE = 10  # engine starts that leave room for a second round, or a second check


def reserved_rounds(spec: ServiceSpec, trials: Sequence[Trial]) -> int:
    """Return for how many rounds of confirmation starts are kept aside: one, where there is room two; none where fleets
    are checked at once.
    """
    return 0 if is_checked_at_once(spec, trials) else _at_most(spec.tuning.budget)


def reserved_replicas(spec: ServiceSpec, trials: Sequence[Trial]) -> int:
    """Return for how many engines of the fleet check starts are kept aside: none when that leaves no search.

    Of two checks where there is room and no round goes before: the first of a fleet that rather misses tells little of
    the next one.
    """
    budget = spec.tuning.budget
    room = budget.engine_starts - _FEWEST_SEARCHED - round_starts(spec, trials) * reserved_rounds(spec, trials)
    leader = _leader(spec, trials)
    second = kept_replicas(spec, leader, room=room - 1) if budget.engine_starts >= _MIDDLING else 0
    kept = second or kept_replicas(spec, leader, room=room)
    if not is_checked_at_once(spec, trials) or leader is None or leader.exists:
        return kept
    return min(_at_most(budget) * kept, max(kept, room - 1))


def _at_most(budget: Budget) -> int:
    return 2 if budget.engine_starts >= _LARGE else 1


def reserved_starts(spec: ServiceSpec, trials: Sequence[Trial]) -> int:
    """Return how many starts the rounds that are kept aside take: what was measured of the baseline stays measured."""
    rounds = reserved_rounds(spec, trials)
    done = sum(t.kind is TrialKind.CONFIRM_BASELINE for t in trials)
    return rounds + (round_starts(spec, trials) - 1) * max(0, rounds - done)


def wanted_replicas(spec: ServiceSpec, trials: Sequence[Trial]) -> int:
    """Return how many engines the fleet check may take, whether or not the budget has room for them."""
    return kept_replicas(spec, _leader(spec, trials), room=spec.gpus.count)


def _leader(spec: ServiceSpec, trials: Sequence[Trial]) -> Standing | None:
    lost = is_lost(spec, trials)
    possible = (each for each in standings(spec, trials) if is_possible(each, lost=lost))
    open_ = [each for each in possible if not each.rounds or is_likely(each)]
    if open_ and not open_[0].exists and is_checked_at_once(spec, trials):
        return max(open_, key=lambda each: odds_per_start(spec, each))
    return next(iter(open_), None)
