"""What a study does next, from its trials alone: so a killed study goes on where it was. Pure.

Order: baseline → search until the budget's reserve for the proof is reached or nothing is worth a start → the most
promising candidates and the baseline again, in turn → the winner's whole fleet → answer. When nothing that was found
is likely to win and budget is left, the search goes on. Several workers may ask at once: while one measures the
baseline others search, winner and baseline are re-measured side by side, and nothing is decided that a running trial
may change.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import NamedTuple

from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.answer import Answer
from controlplane.domain.studies.study import Study, Trial, TrialKind, TrialState
from controlplane.domain.words import counted
from tuner.answer.attempts import due_at, forgiven_starts, is_beyond_the_usual, may_try_again, waits
from tuner.answer.confirm import (
    NOT_AGAIN,
    Next,
    Proof,
    baseline_is_out,
    next_proofs,
    rounds_of,
)
from tuner.answer.named import LIKELY
from tuner.answer.reserve import reserved_replicas, reserved_starts
from tuner.answer.standing import Standing, decide

MIN_STARTS = 4  # baseline, one candidate, and both again to confirm
_ROUND = (TrialKind.CONFIRM_WINNER, TrialKind.CONFIRM_BASELINE)
SAVED = "engine starts saved: they could prove nothing more"  # the end of a study of which starts were left says it
_FEWEST_BROKEN = 6  # starts that the infrastructure may waste before a study gives up searching


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
    candidate: Standing | None = None  # what is confirmed or checked
    unchecked: str | None = None  # why the study finishes without its fleet check


class Spent(NamedTuple):
    """What the study used so far. Starts that the infrastructure wasted (lost workers, broken load tests, time limits)
    are counted apart and do not use up the budget's engine starts.
    """

    engine_starts: int
    gpu_seconds: float
    wall_clock_s: float
    wasted_starts: int = 0


def least_starts(spec: ServiceSpec) -> int:
    """Return the fewest engine starts that hold a conclusion: the check of a fleet starts an engine of its own."""
    return MIN_STARTS + (1 if spec.tuning.confirm_fleet else 0)


def spent(study: Study, trials: Sequence[Trial], *, now: datetime) -> Spent:
    """Return what a study used so far. Starts are counted in the trials: one is there before its engine is."""
    counted = sum(t.replicas for t in trials if t.state is not TrialState.FAILED)
    return Spent(counted, study.gpu_seconds, study.ran_s(now), sum(t.attempt * t.replicas for t in trials) - counted)


def next_step(
    spec: ServiceSpec,
    trials: Sequence[Trial],
    used: Spent,
    *,
    search_over: str | None,
    others: Collection[str] = (),
    now: datetime | None = None,
) -> Step:
    """Return what to do next. `search_over` says why the search proposes nothing more, None while it does.

    `others` are the living workers beside the one that asks: any other worker's running trial was lost with it. `now`
    is what pauses between attempts are seen by; None: as if all were over.
    """
    first = _again(spec, trials, used, others, now) or _of_the_baseline(trials)
    if first is not None:
        return first
    over = search_over or exhausted(spec, trials, used)
    if over is None and not _confirming(trials):
        return Step(Action.SEARCH, "budget left")
    waits_for = _beside(spec, trials, over)
    if waits_for is not None:
        return waits_for
    proof = _proof(spec, trials, used, over)
    if proof.action is Action.FINISH and search_over is None and _may_yet_reach(spec, trials, used, proof):
        return Step(Action.SEARCH, "nothing measured so far reaches the target, engine starts are left")
    return proof


def _again(
    spec: ServiceSpec, trials: Sequence[Trial], used: Spent, others: Collection[str], now: datetime | None
) -> Step | None:
    """Return what is done of trials that broke or were lost: the first that may be tried now, or wait for its time."""
    lost = next((t for t in trials if _is_lost(t, others)), None)
    if lost is not None:
        return Step(Action.RETRY, lost.reason or "the worker was lost", lost)
    broken = [t for t in trials if may_try_again(t) and not _lacks_patience(spec, used, t)]
    due = next((t for t in broken if now is None or now >= due_at(t)), None)
    if due is not None:
        return Step(Action.RETRY, due.reason or "its experiment broke", due)
    return Step(Action.WAIT, waits(broken[0])) if broken else None


def _of_the_baseline(trials: Sequence[Trial]) -> Step | None:
    """Return what is done before anything else can be; None once the baseline was begun, and did not break for good."""
    baseline = next((t for t in trials if t.kind is TrialKind.BASELINE), None)
    if baseline is None:
        return Step(Action.BASELINE, "the baseline is always measured first")
    if baseline.state is not TrialState.FAILED:
        return None
    why = f"the baseline could not be measured in {baseline.tries} attempts: {baseline.reason}"
    return Step(Action.GIVE_UP, why, baseline)


def _lacks_patience(spec: ServiceSpec, used: Spent, trial: Trial) -> bool:
    """Say whether the budget's time is over for attempts beyond the usual ones."""
    return is_beyond_the_usual(trial) and not fits(spec, (trial,), used, starts=0)


def _beside(spec: ServiceSpec, trials: Sequence[Trial], over: str | None) -> Step | None:
    """Return what to do while others measure: the other half of a confirmation, or wait."""
    running = [t for t in trials if t.state is TrialState.RUNNING]
    if not running:
        return None
    if all(t.kind is TrialKind.CONFIRM_WINNER for t in running) and not baseline_is_out(spec, trials):
        again = rounds_of(trials, TrialKind.CONFIRM_WINNER, running[0].config.content_hash())
        if sum(t.kind is TrialKind.CONFIRM_BASELINE for t in trials) < again:
            return Step(Action.CONFIRM_BASELINE, "the baseline is re-measured in turn with the winner")
    return Step(Action.WAIT, _waits(running, over))


def _waits(running: Sequence[Trial], over: str | None) -> str:
    if any(t.kind is TrialKind.CONFIRM_FLEET for t in running):
        return "waits for the fleet check"
    if any(t.kind in _ROUND for t in running):
        return "waits for the other half of the confirmation"
    return f"waits for the trials of others ({over or 'what comes next depends on them'})"


def _proof(spec: ServiceSpec, trials: Sequence[Trial], used: Spent, over: str | None) -> Step:
    """Return the next measurement that proves something; more search, or the end, when there is none."""
    wanted = next_proofs(spec, trials)
    if over is None and not any(each.likely for each in wanted):
        return Step(Action.SEARCH, "nothing found so far is likely to win, budget left")
    chosen = _affordable(spec, trials, used, wanted)
    if chosen is not None:
        return _step(chosen, alone=baseline_is_out(spec, trials))
    if not wanted:
        return _nothing_wanted(spec, trials, used, over)
    first = wanted[0]
    starts = first.standing.fleet.replicas if first.standing.rounds else first.starts
    what = "" if in_time(spec, trials, used, starts) else "'s time"
    short = f"the budget{what} does not hold {counted(starts, 'more engine start')}"
    return Step(Action.FINISH, over or short, unchecked=short)


def _may_yet_reach(spec: ServiceSpec, trials: Sequence[Trial], used: Spent, end: Step) -> bool:
    """Say whether one candidate more is tried with starts kept aside for a proof, as there is nothing to prove.

    Where the target is out of reach of all that was measured, a start saved says nothing; what holds the target with
    all GPUs, likely enough, is an answer unproved too.
    """
    if end.unchecked is not None or _is_broken(spec, trials, used) or not fits(spec, trials, used, starts=1):
        return False
    return decide(spec, trials).answer is Answer.OUT_OF_REACH


def _nothing_wanted(spec: ServiceSpec, trials: Sequence[Trial], used: Spent, over: str | None) -> Step:
    """Return the end of a study with nothing left to prove; of one that looked at no candidate that says nothing."""
    ended = over or "nothing is left to prove"
    searched = _searched(trials)
    if over is not None and searched and all(t.state is TrialState.FAILED for t in searched):
        why = searched[-1].reason or "every experiment broke"
        return Step(Action.GIVE_UP, f"no candidate could be measured ({over}): {why}")
    if not searched and (limit := exhausted(spec, trials, used)) is not None:
        return Step(Action.GIVE_UP, f"{limit}: it held no candidate beside the baseline, so nothing was compared")
    return Step(Action.FINISH, f"{ended}{_saved(spec, trials, used)}")


def _saved(spec: ServiceSpec, trials: Sequence[Trial], used: Spent) -> str:
    """Say what of the budget was left when nothing was left to prove; nothing where its time was over first."""
    starts = spec.tuning.budget.engine_starts
    saved = starts - used.engine_starts
    if saved <= 0 or not fits(spec, trials, used, starts=1):
        return ""
    return f"; {saved} of {starts} {SAVED}"


def _affordable(spec: ServiceSpec, trials: Sequence[Trial], used: Spent, wanted: Sequence[Next]) -> Next | None:
    """Return the first measurement that leaves what its candidate's proof takes after it.

    Where there is none: the check of a candidate that was confirmed, rather than another round of it, or a first one of
    another candidate that could not be checked any more. Where that fits neither: what fits.
    """
    fit = partial(fits, spec, trials, used)
    whole = next((each for each in wanted if fit(starts=each.starts + each.kept)), None)
    if whole is not None:
        return whole
    for each in wanted:
        starts = each.standing.fleet.replicas
        if _may_be_checked(each) and fit(starts=starts):
            return each._replace(proof=Proof.FLEET, starts=starts, kept=0)
    return next((each for each in wanted if each.proof is not Proof.FLEET and fit(starts=each.starts)), None)


def _may_be_checked(wanted: Next) -> bool:
    """Say whether a check is what is left of its proof, rounds aside."""
    found = wanted.standing
    return wanted.kept > 0 and (wanted.last or found.rounds > 0) and found.cheaper >= LIKELY


def _step(wanted: Next, *, alone: bool) -> Step:
    found = wanted.standing
    match wanted.proof:
        case Proof.WINNER:
            why = (
                "re-measure the winner in turn with the baseline"
                if not alone
                else f"re-measure the winner; {NOT_AGAIN}"
            )
            return Step(Action.CONFIRM_WINNER, why, candidate=found)
        case Proof.BASELINE:
            why = "the baseline is re-measured in turn with the winner"
            return Step(Action.CONFIRM_BASELINE, why, candidate=found)
        case Proof.FLEET:
            why = f"check {found.fleet.replicas} replicas together at the target rate"
            return Step(Action.CHECK_FLEET, why, candidate=found)


def exhausted(spec: ServiceSpec, trials: Sequence[Trial], used: Spent) -> str | None:
    """Return which limit ends the search, what the proof needs kept aside; None while one more trial fits."""
    budget = spec.tuning.budget
    # Wall clock per trial is what all workers together took for one: those under way are half done.
    finished = max(1.0, sum(0.5 if t.state is TrialState.RUNNING else 1.0 for t in trials))
    further = 1 + reserved_starts(spec, trials)
    if _is_broken(spec, trials, used):
        return f"{used.wasted_starts} engine starts were lost to interruptions and broken experiments"
    if used.engine_starts + further + reserved_replicas(spec, trials) > budget.engine_starts:
        return f"budget of {budget.engine_starts} engine starts"
    # Of time nothing is kept aside before a first candidate: without one there is nothing to prove.
    share = 1 + (further if _searched(trials) else 1) / finished
    if budget.gpu_hours is not None and used.gpu_seconds * share > budget.gpu_hours * 3600:
        return f"budget of {budget.gpu_hours:g} GPU-hours"
    if budget.wall_clock_s is not None and used.wall_clock_s * share > budget.wall_clock_s:
        return f"budget of {budget.wall_clock_s:g} s"
    return None


def _is_broken(spec: ServiceSpec, trials: Sequence[Trial], used: Spent) -> bool:
    return used.wasted_starts - forgiven_starts(trials) > max(_FEWEST_BROKEN, spec.tuning.budget.engine_starts)


def fits(spec: ServiceSpec, trials: Sequence[Trial], used: Spent, *, starts: int) -> bool:
    """Say whether the budget holds so many more engine starts, each taking what a trial took so far."""
    return used.engine_starts + starts <= spec.tuning.budget.engine_starts and in_time(spec, trials, used, starts)


def in_time(spec: ServiceSpec, trials: Sequence[Trial], used: Spent, starts: int) -> bool:
    """Say whether the budget's hours hold so many more engine starts, each taking what a trial took so far."""
    budget, share = spec.tuning.budget, 1 + starts / len(trials)
    gpu_hours, wall_s = budget.gpu_hours, budget.wall_clock_s
    held = gpu_hours is None or used.gpu_seconds * share <= gpu_hours * 3600
    return held and (wall_s is None or used.wall_clock_s * share <= wall_s)


def _confirming(trials: Sequence[Trial]) -> list[Trial]:
    return [t for t in trials if t.kind in _ROUND]


def _searched(trials: Sequence[Trial]) -> list[Trial]:
    return [t for t in trials if t.kind is TrialKind.SEARCH]


def _is_lost(trial: Trial, others: Collection[str]) -> bool:
    return trial.state is TrialState.RUNNING and trial.worker not in others
