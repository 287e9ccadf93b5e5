"""Whether a trial whose experiment broke is tried again, and when. Pure.

What an engine refuses is a result. What broke otherwise is tried three times. Where its place was gone (a lost node, a
download that hung, no room in a cluster) three attempts are over within a minute or two, and places come back: so each
attempt waits longer than the last, and what a study cannot do without (all but the candidates of its search, of which
there are others) is given more of them, for half an hour at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.studies.study import Trial, TrialKind, TrialState

MAX_ATTEMPTS = 3
PATIENT_ATTEMPTS = 10
PATIENCE_S = 1800.0
"""From the first attempt to the end of the last one that another may follow."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 15.0, 300.0
_WHAT = {
    TrialKind.BASELINE: "the baseline",
    TrialKind.SEARCH: "a candidate",
    TrialKind.CONFIRM_WINNER: "the winner",
    TrialKind.CONFIRM_BASELINE: "the baseline",
    TrialKind.CONFIRM_FLEET: "the winner's fleet",
}


def may_try_again(trial: Trial) -> bool:
    """Say whether a trial broke and has attempts left."""
    if trial.state is not TrialState.FAILED:
        return False
    if trial.tries < MAX_ATTEMPTS:
        return True
    return _is_patient(trial) and trial.tries < PATIENT_ATTEMPTS and _took_s(trial) < PATIENCE_S


def is_unfinished(trial: Trial) -> bool:
    """Say whether a trial runs or will run again: nothing can be said of its configuration yet."""
    return trial.state is TrialState.RUNNING or may_try_again(trial)


def pause_s(trial: Trial) -> float:
    """Return seconds between the end of a broken attempt and the next one: 15, 30, 60, ... 300; 0 where waiting is no
    help.
    """
    if trial.tries == 0 or trial.start_failure is None or not trial.start_failure.may_pass:
        return 0.0
    return float(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (trial.tries - 1)))


def due_at(trial: Trial) -> datetime:
    """Return when a broken trial may be tried again."""
    return (trial.finished_at or trial.started_at) + timedelta(seconds=pause_s(trial))


def waits(trial: Trial) -> str:
    """Say what a broken trial waits for."""
    times = "once" if trial.tries == 1 else f"{trial.tries} times"
    why = trial.reason or "its experiment broke"
    return f"{_WHAT[trial.kind]} could not be measured {times}: {why}; next attempt in {pause_s(trial):g} s"


def waiting(trials: Sequence[Trial]) -> str | None:
    """Say what the first trial that waits for its place to come back waits for; None where none does."""
    return next((waits(t) for t in trials if may_try_again(t) and pause_s(t) > 0), None)


def is_beyond_the_usual(trial: Trial) -> bool:
    """Say whether only patience gives a broken trial another attempt."""
    return trial.tries >= MAX_ATTEMPTS


def forgiven_starts(trials: Sequence[Trial]) -> int:
    """Return engine starts that say nothing of whether experiments break here now: those that patience gave, as their
    place was gone, and those before the study was gone on with.
    """
    return sum((t.attempts_before + max(0, t.tries - MAX_ATTEMPTS)) * t.replicas for t in trials)


def anew(trial: Trial, *, now: datetime) -> Trial:
    """Return a trial that broke with all its attempts before it again: the study was gone on with."""
    return trial.evolve(attempts_before=trial.attempt, first_started_at=now)


def after_last_attempt(trial: Trial) -> Trial:
    """Return an ended trial as a result of its configuration, where that keeps dying under load.

    One death under load may be the host's; one after every retry is what the configuration does.
    """
    keeps_dying = trial.state is TrialState.FAILED and trial.start_failure is StartFailure.CRASHED
    if not keeps_dying or may_try_again(trial):
        return trial
    return trial.evolve(state=TrialState.INFEASIBLE, reason=f"in each of {trial.attempt} attempts: {trial.reason}")


def _is_patient(trial: Trial) -> bool:
    failure = trial.start_failure
    return trial.kind is not TrialKind.SEARCH and failure is not None and failure.may_pass


def _took_s(trial: Trial) -> float:
    """Return seconds since the first attempt began, as its end saw it."""
    begun, ended = trial.first_started_at or trial.started_at, trial.finished_at or trial.started_at
    return (ended - begun).total_seconds()
