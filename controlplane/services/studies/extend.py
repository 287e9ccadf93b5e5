"""Going on with a study that is over: one that is done on a larger budget, one that failed also on the one it has. What
it measured is kept, what broke is tried again, its answer is made anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from controlplane.domain.base import StudyId
from controlplane.domain.errors import Conflict, InvalidInput
from controlplane.domain.event import Event
from controlplane.domain.studies.study import Study, StudyState, Trial, TrialKind, TrialState
from controlplane.domain.studies.tuning_options import Budget
from controlplane.ports.store import Store
from controlplane.reading.problems import describe
from tuner.answer.attempts import anew

_ENDED = (StudyState.DONE, StudyState.FAILED)


def extend_study(store: Store, study_id: StudyId, budget: Mapping[str, Any], *, actor: str, now: datetime) -> Study:
    """Let a worker take up a study that ended, with fields of its budget changed; e.g. `{"engine_starts": 20}`.

    Raises NotFound, InvalidInput when the budget is none or holds no further start, Conflict when the study is neither
    done nor failed or what it recommended was applied.
    """
    study, version = store.get_study(study_id)
    if study.state not in _ENDED:
        raise Conflict(
            f"study {study_id} is {study.state}", why="only one that is done or failed goes on with a budget"
        )
    if study.recommendation is not None and study.recommendation.applied_revision is not None:
        raise Conflict(
            f"study {study_id} was applied already",
            why=f"as revision {study.recommendation.applied_revision}",
            allowed=f"a new study with this one as a prior: `fleetune tune --warm-start {study_id}`",
        )
    larger = _larger(study, budget)
    spec = study.spec.evolve(tuning=study.spec.tuning.evolve(budget=larger))
    why = f"with a budget of {larger.engine_starts} engine starts"
    return _reopen(store, study.evolve(spec=spec), version, _event(study, why, actor, now))


def retry_study(store: Store, study_id: StudyId, *, actor: str, reason: str = "", now: datetime) -> Study:
    """Let a worker take up a study that failed, on the budget it has.

    Raises NotFound, Conflict when it did not fail.
    """
    study, version = store.get_study(study_id)
    if study.state is not StudyState.FAILED:
        raise Conflict(f"study {study_id} is {study.state}", why="only one that failed is tried again as it is")
    return _reopen(store, study, version, _event(study, reason or "what broke is tried again", actor, now))


def _reopen(store: Store, study: Study, version: int, event: Event) -> Study:
    """Save and return a study that ended as one that waits for a worker; its trials first, as then one may take it."""
    for trial, known in store.list_trials(study.study_id):
        if trial.state is TrialState.FAILED and (study.state is StudyState.FAILED or _proves(trial)):
            store.save_trial(anew(trial, now=event.at), known)
    idle_s = 0.0 if study.finished_at is None else max(0.0, (event.at - study.finished_at).total_seconds())
    reopened = study.evolve(
        state=StudyState.PENDING,
        recommendation=None,
        reason=None,
        finished_at=None,
        idle_s=study.idle_s + idle_s,
    )
    store.save_study(reopened, version, events=(event,))
    return reopened


def _proves(trial: Trial) -> bool:
    """Say whether an answer hangs on this very trial; a candidate that broke has others beside it."""
    return trial.kind is not TrialKind.SEARCH


def parse_budget(text: str) -> dict[str, float]:
    """Read `20` (engine starts) or `engine_starts=20,wall_clock_s=900`. Raises InvalidInput."""
    fields = [f"engine_starts={text}"] if "=" not in text else text.split(",")
    found = {}
    for field in fields:
        name, _, value = field.partition("=")
        if name.strip() not in Budget.model_fields:
            raise InvalidInput(f"unknown budget {name.strip()!r}", allowed=", ".join(Budget.model_fields))
        try:
            found[name.strip()] = float(value)
        except ValueError as error:
            raise InvalidInput(f"budget {field!r} is no number", allowed="e.g. 20 or wall_clock_s=900") from error
    return found


def _larger(study: Study, budget: Mapping[str, Any]) -> Budget:
    old = study.spec.tuning.budget
    try:
        new = Budget.model_validate(old.model_dump() | dict(budget))
    except ValidationError as error:
        raise InvalidInput("this budget cannot be used", why=describe(error)) from error
    if new.engine_starts <= study.engine_starts:
        raise _used_up(
            study, f"{new.engine_starts} engine starts", str(study.engine_starts), f"{study.engine_starts + 1} or more"
        )
    hours, used_h = new.gpu_hours, study.gpu_seconds / 3600
    if hours is not None and hours <= used_h:
        raise _used_up(study, f"{hours:g} GPU-hours", f"{used_h:.3g}", f"more, e.g. gpu_hours={2 * used_h:.3g}")
    wall_s, ended_at = new.wall_clock_s, study.finished_at
    used_s = 0.0 if ended_at is None else study.ran_s(ended_at)
    if wall_s is not None and wall_s <= used_s:
        raise _used_up(study, f"{wall_s:g} s", f"{used_s:.0f}", f"more, e.g. wall_clock_s={2 * used_s:.0f}")
    return new


def _used_up(study: Study, budget: str, used: str, allowed: str) -> InvalidInput:
    why = f"study {study.study_id} used {used}"
    return InvalidInput(f"a budget of {budget} holds nothing more", why=why, allowed=allowed)


def _event(study: Study, reason: str, actor: str, now: datetime) -> Event:
    return Event(
        at=now,
        actor=actor,
        action="study.resumed",
        subject=f"study/{study.study_id}",
        service=study.service,
        reason=reason,
    )
