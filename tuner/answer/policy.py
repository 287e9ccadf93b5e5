"""What a study does next, from its trials alone: so a killed study goes on where it was. Pure.

Order: baseline → search until the budget's reserve for the confirmation is reached or nothing is worth a start →
winner and baseline in turn → the winner's whole fleet → recommendation. Several workers may ask at once: while one
measures the baseline others search, winner and baseline are re-measured side by side, and nothing is decided that a
running trial may change.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from controlplane.domain.service import Budget, ServiceSpec
from controlplane.domain.study import Study, Trial, TrialKind, TrialState
from tuner.answer.fleet_check import Candidate, kept_replicas, next_check
from tuner.answer.winner import choose

MAX_ATTEMPTS = 3
MIN_STARTS = 4  # baseline, one candidate, and both again to confirm
_ROUND = (TrialKind.CONFIRM_WINNER, TrialKind.CONFIRM_BASELINE)
_MAX_ROUNDS = 2


class Action(StrEnum):
    RETRY = "retry"  # the trial named: its experiment broke
    BASELINE = "baseline"
    SEARCH = "search"
    CONFIRM_WINNER = "confirm_winner"
    CONFIRM_BASELINE = "confirm_baseline"
    CHECK_FLEET = "check_fleet"  # the fleet named, behind a gateway
    WAIT = "wait"  # for trials that other workers run
    FINISH = "finish"
    GIVE_UP = "give_up"  # the baseline's experiment breaks every time: nothing can be compared


class Step(NamedTuple):
    action: Action
    reason: str
    trial: Trial | None = None
    fleet: Candidate | None = None
    unchecked: str | None = None  # why the study finishes without its fleet check


class Spent(NamedTuple):
    """What the study used so far."""

    engine_starts: int
    gpu_seconds: float
    wall_clock_s: float


def spent(study: Study, trials: Sequence[Trial], *, now: datetime) -> Spent:
    """Return what a study used so far. Starts are counted in the trials: one is there before its engine is."""
    wall_s = 0.0 if study.started_at is None else (now - study.started_at).total_seconds()
    return Spent(sum(trial.attempt * trial.replicas for trial in trials), study.gpu_seconds, wall_s)


def next_step(
    spec: ServiceSpec,
    trials: Sequence[Trial],
    used: Spent,
    *,
    search_over: str | None,
    others: Collection[str] = (),
) -> Step:
    """Return what to do next. `search_over` says why the search proposes nothing more, None while it does.

    `others` are the living workers beside the one that asks: any other worker's running trial was lost with it.
    """
    broken = next((t for t in trials if _is_lost(t, others) or _is_retryable(t)), None)
    if broken is not None:
        return Step(Action.RETRY, broken.reason or "the worker was lost", broken)
    baseline = next((t for t in trials if t.kind is TrialKind.BASELINE), None)
    if baseline is None:
        return Step(Action.BASELINE, "the baseline is always measured first")
    if baseline.state is TrialState.FAILED:
        return Step(Action.GIVE_UP, f"the baseline could not be measured: {baseline.reason}", baseline)
    searching = None if _confirming(trials) else _search(spec, trials, used, search_over)
    return searching or _confirmation(spec, trials, used)


def _search(spec: ServiceSpec, trials: Sequence[Trial], used: Spent, search_over: str | None) -> Step | None:
    """Return what belongs to the search; None when what it found is to be confirmed."""
    over = search_over or exhausted(spec, trials, used)
    if over is None:
        return Step(Action.SEARCH, "budget left")
    if any(t.state is TrialState.RUNNING for t in trials):
        return Step(Action.WAIT, f"waits for the trials of others ({over})")
    return Step(Action.FINISH, over) if choose(spec, trials) is None else None


def exhausted(spec: ServiceSpec, trials: Sequence[Trial], used: Spent) -> str | None:
    """Return which limit ends the search, what the confirmation needs kept aside; None while one more trial fits."""
    budget = spec.tuning.budget
    # Wall clock per trial is what all workers together took for one: those under way are half done.
    finished = max(1.0, sum(0.5 if t.state is TrialState.RUNNING else 1.0 for t in trials))
    further = 1 + len(_ROUND) * reserved_rounds(budget)
    if used.engine_starts + further + reserved_replicas(spec, trials) > budget.engine_starts:
        return f"budget of {budget.engine_starts} engine starts"
    gpu_limit = None if budget.gpu_hours is None else budget.gpu_hours * 3600
    if gpu_limit is not None and used.gpu_seconds * (1 + further / finished) > gpu_limit:
        return f"budget of {budget.gpu_hours:g} GPU-hours"
    if budget.wall_clock_s is not None and used.wall_clock_s * (1 + further / finished) > budget.wall_clock_s:
        return f"budget of {budget.wall_clock_s:g} s"
    return None


def reserved_rounds(budget: Budget) -> int:
    """Return for how many rounds of confirmation starts are kept aside: two (A B A B) unless that leaves no search."""
    return _MAX_ROUNDS if budget.engine_starts >= 2 + 2 * _MAX_ROUNDS * len(_ROUND) else 1


def reserved_replicas(spec: ServiceSpec, trials: Sequence[Trial]) -> int:
    """Return for how many engines of the fleet check starts are kept aside: all, unless that leaves no search."""
    budget, wanted = spec.tuning.budget, kept_replicas(spec, trials)
    return wanted if budget.engine_starts >= 3 + len(_ROUND) * reserved_rounds(budget) + wanted else 0


def _confirmation(spec: ServiceSpec, trials: Sequence[Trial], used: Spent) -> Step:
    done = _confirming(trials)
    if len(done) % len(_ROUND):
        return Step(Action.CONFIRM_BASELINE, "the baseline is re-measured in turn with the winner")
    if any(t.state is TrialState.RUNNING for t in done):
        return Step(Action.WAIT, "waits for the other half of the confirmation")
    rounds = len(done) // len(_ROUND)
    over = rounds >= _MAX_ROUNDS or any(t.state is not TrialState.FEASIBLE for t in done if t.kind is _ROUND[0])
    kept = reserved_replicas(spec, trials)
    if over or (rounds and not _fits(spec.tuning.budget, trials, used, starts=len(_ROUND) + kept)):
        return _fleet_check(spec, trials, used)
    return Step(Action.CONFIRM_WINNER, "re-measure the winner in turn with the baseline")


def _fleet_check(spec: ServiceSpec, trials: Sequence[Trial], used: Spent) -> Step:
    confirmed = "winner and baseline were re-measured in turn"
    if any(t.state is TrialState.RUNNING and t.kind is TrialKind.CONFIRM_FLEET for t in trials):
        return Step(Action.WAIT, "waits for the fleet check")
    fleet = next_check(spec, trials)
    if fleet is None:
        return Step(Action.FINISH, confirmed)
    starts = fleet.size.replicas
    if not _fits(spec.tuning.budget, trials, used, starts=starts):
        return Step(Action.FINISH, confirmed, unchecked=f"the budget does not hold {starts} more engine starts")
    return Step(Action.CHECK_FLEET, f"check {starts} replicas together at the target rate", fleet=fleet)


def _fits(budget: Budget, trials: Sequence[Trial], used: Spent, *, starts: int) -> bool:
    """Say whether so many more starts fit, each taking what a trial took so far."""
    share = 1 + starts / len(trials)
    gpu_limit = None if budget.gpu_hours is None else budget.gpu_hours * 3600
    return (
        used.engine_starts + starts <= budget.engine_starts
        and (gpu_limit is None or used.gpu_seconds * share <= gpu_limit)
        and (budget.wall_clock_s is None or used.wall_clock_s * share <= budget.wall_clock_s)
    )


def _confirming(trials: Sequence[Trial]) -> list[Trial]:
    return [t for t in trials if t.kind in _ROUND]


def _is_lost(trial: Trial, others: Collection[str]) -> bool:
    return trial.state is TrialState.RUNNING and trial.worker not in others


def _is_retryable(trial: Trial) -> bool:
    return trial.state is TrialState.FAILED and trial.attempt < MAX_ATTEMPTS
