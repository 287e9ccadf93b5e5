"""From a step of a study to the trial that it asks for, saved as running before anything is started."""

from __future__ import annotations

from collections.abc import Callable

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import StaleVersion
from controlplane.domain.studies.study import Trial, TrialKind
from controlplane.ports.fleet import Fleet
from controlplane.services.studies.room import remove_engines
from controlplane.services.studies.search import StudySearch
from controlplane.services.studies.session import StudySession
from controlplane.services.studies.trial_engine import owner
from tuner.answer.policy import Action, Step


def next_trial(
    fleet: Fleet, session: StudySession, search: StudySearch, step: Step, *, sleep: Callable[[float], None]
) -> Trial | str:
    """Return the trial to run now, saved as running; or why the search proposes none.

    Raises StaleVersion when another worker was faster: what was asked of the search for it is given back then.
    """
    study = session.study
    match step.action:
        case Action.RETRY:
            assert step.trial is not None
            again = session.again(step.trial, optuna_number=_open_number(search, step.trial))
            remove_engines(fleet, owner(again), sleep=sleep)  # those of the lost attempt
            return again
        case Action.BASELINE:
            number = search.search.add(search.among.space.point(study.baseline))
            return _begun(session, search, TrialKind.BASELINE, study.baseline, number)
        case Action.SEARCH:
            return _proposed(session, search)
        case Action.CONFIRM_WINNER:
            assert step.candidate is not None
            config = step.candidate.measured.config
            return _begun(session, search, TrialKind.CONFIRM_WINNER, config, None)
        case Action.CONFIRM_BASELINE:
            return _begun(session, search, TrialKind.CONFIRM_BASELINE, study.baseline, None)
        case Action.CHECK_FLEET:
            assert step.candidate is not None
            config, replicas = step.candidate.measured.config, step.candidate.fleet.replicas
            return session.new_trial(TrialKind.CONFIRM_FLEET, config, replicas=replicas)
        case Action.WAIT | Action.FINISH | Action.GIVE_UP:
            raise ValueError(f"nothing is measured to {step.action.value}")


def _open_number(search: StudySearch, trial: Trial) -> int | None:
    """Return a trial's number in the search's record; a new one for a baseline that was closed there as broken for good
    before the study was gone on with.
    """
    number = trial.optuna_number
    if number is None or trial.kind is not TrialKind.BASELINE or search.search.is_open(number):
        return number
    return search.search.add(search.among.space.point(trial.config))


def _proposed(session: StudySession, search: StudySearch) -> Trial | str:
    proposal = search.search.ask()
    if isinstance(proposal, str):
        return proposal
    config = search.among.space.config(proposal.point)
    return _begun(session, search, TrialKind.SEARCH, config, proposal.number)


def _begun(
    session: StudySession, search: StudySearch, kind: TrialKind, config: EngineConfig, number: int | None
) -> Trial:
    expected = search.forecast_rps(config)
    predicted = {} if expected is None else {"capacity_rps": expected}
    try:
        return session.new_trial(kind, config, optuna_number=number, predicted=predicted)
    except StaleVersion:
        if number is not None:
            search.search.fail(number)
        raise
