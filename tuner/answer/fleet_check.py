"""The last question of a candidate: do the replicas carry the target together? A sequential test. Pure.

One replica's capacity times their number is only a promise: requests spread unevenly, and the gateway takes its share.
So they are started side by side, behind a gateway, and loaded with the target rate: level after level, each under fresh
arrivals, until they held, or clearly miss. Then one more replica joins them, as long as that fleet is still likely
cheaper than the baseline's, and the test goes on. When they held, one fewer is tried (`fewer`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.capacity import fleet_size
from controlplane.domain.studies.study import FleetCheck, Trial, TrialKind, TrialState
from tuner.answer.after_check import levels_of, met_together
from tuner.answer.evidence import measured
from tuner.answer.fewer import Fewer, held_rate_rps, next_without, told
from tuner.answer.fleets import cheaper, exists, holds, may_need, sized
from tuner.answer.named import LIKELY
from tuner.answer.standing import Standing, baseline_of

_MOST_LEVELS = 4  # at one number of replicas
_MOST_AT_LAST = 6  # where no further replica can join
_HOPELESS = 0.3
_TWICE = 2


class Move(StrEnum):
    AGAIN = "again"  # one more level, under other arrivals
    GROW = "grow"  # one more replica
    HELD = "held"
    ENOUGH = "enough"  # of trying fewer replicas than held


def next_move(spec: ServiceSpec, trials: Sequence[Trial], check: Trial, *, in_time: bool = True) -> Move:
    """Return how a running fleet check goes on, by all trials and its own levels so far.

    Where no replica can join, levels that missed end it only when it is unlikely to hold, and half as likely as when it
    was begun (a last resort is checked at odds of 10 %): engines that run already take minutes to tell more, and
    nothing else will. A level that passed ends none. After the last one, a fleet of which all levels together met the
    limits held them. `in_time` is False where the budget holds no further level.
    """
    if check.held_replicas is not None:
        return _WITHOUT[next_without(spec, trials, check)]
    here = levels_of(check, check.replicas)
    if not here:
        return Move.AGAIN
    others = [t for t in trials if t.trial_id != check.trial_id]
    chance, failed = _chance(spec, [*others, check], check), sum(not level.passed for level in here)
    passed = len(here) - failed
    if here[-1].passed and (chance >= spec.tuning.confidence or (passed >= _TWICE and not failed)):
        return Move.HELD
    at_last = in_time and failed > 0 and cannot_grow(spec, trials, check) is not None
    hopeless = min(_HOPELESS, _chance(spec, others, check) / 2) if at_last else _HOPELESS
    if (chance <= hopeless and not here[-1].passed) or (failed >= _TWICE and not at_last):
        return Move.GROW
    if len(here) < (_MOST_AT_LAST if at_last and failed >= _TWICE else _MOST_LEVELS):
        return Move.AGAIN
    held = (passed > failed and here[-1].passed) or (at_last and met_together(here))
    return Move.HELD if held else Move.GROW


def _chance(spec: ServiceSpec, trials: Sequence[Trial], check: Trial) -> float:
    """Return the probability that a check's fleet holds, by these trials; 1 where they say nothing of it."""
    found = measured(trials).get(check.config.content_hash())
    return 1.0 if found is None else holds(spec, found.belief, check.replicas)


_WITHOUT = {Fewer.AGAIN: Move.AGAIN, Fewer.HELD: Move.HELD, Fewer.STOP: Move.ENOUGH}


def cannot_grow(spec: ServiceSpec, trials: Sequence[Trial], check: Trial) -> str | None:
    """Return why one more replica is not worth it, None when it is."""
    found = measured([*(t for t in trials if t.trial_id != check.trial_id), check])
    mine, baseline = found[check.config.content_hash()], baseline_of(found)
    larger = fleet_size(check.replicas + 1, mine.config.gpus_per_replica, spec.gpus)
    if not exists(spec, larger):
        return f"{larger.replicas} replicas are more than the service's GPUs and ceilings allow"
    if baseline is None or not exists(spec, sized(spec, baseline)):
        return None
    if cheaper(spec, larger, mine, baseline) < LIKELY:
        return f"{larger.replicas} replicas are hardly cheaper than the baseline's fleet"
    return None


def kept_replicas(spec: ServiceSpec, leader: Standing | None, *, room: int) -> int:
    """Return for how many engines of the check starts are kept aside; `room` are all that may be.

    As many as the leader's fleet takes if its capacity is not what it looks (the luckiest of many leads), fewer where
    there is no room for so many; none where there is none for what it takes at best. 1 before anything is known.
    """
    if not spec.tuning.confirm_fleet:
        return 0
    if leader is None:
        return min(1, max(0, room))
    most = max(1, spec.gpus.count // leader.measured.config.gpus_per_replica)
    few, many = (min(replicas, most) for replicas in may_need(spec, leader.measured))
    return min(many, room) if room >= few else 0


def checked(trials: Sequence[Trial], standing: Standing, *, unchecked: str | None) -> FleetCheck:
    """Return what the check said of a candidate's fleet; `unchecked` is why it was not made."""
    config = standing.measured.config
    checks = [t for t in trials if t.kind is TrialKind.CONFIRM_FLEET and t.config == config]
    if not checks:
        reason = unchecked or "the study ended before it"
        return FleetCheck(held=None, reason=reason, replicas=standing.fleet.replicas)
    last = checks[-1]
    held = None if last.state in (TrialState.FAILED, TrialState.RUNNING) else last.state is TrialState.FEASIBLE
    return FleetCheck(
        held=held,
        reason="meets every limit" if held else last.reason or "it was not clear",
        replicas=last.held_together,
        rate_rps=held_rate_rps(last),
        trial_id=last.trial_id,
        fewer=told(last),
    )
