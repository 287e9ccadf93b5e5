"""Studies: searches for a better engine configuration."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from fastapi import APIRouter, status

from controlplane.api.context import Actor, CallerOf, Context, Ctx, Limit, Page, Reader, problems, retry_stale
from controlplane.api.requests import NewStudy, Reason, Resumption, service_name
from controlplane.domain.authority import code_in_overrides
from controlplane.domain.base import ServiceName, StudyId
from controlplane.domain.door.identity import Scope
from controlplane.domain.studies.importance import Importance
from controlplane.domain.studies.study import Study, Trial
from controlplane.ports.store import Store
from controlplane.services.studies import manage as studies
from controlplane.services.studies.extend import extend_study

router = APIRouter(prefix="/studies", tags=["studies"])


@router.get("", summary="List studies", responses=problems(422))
def list_studies(ctx: Ctx, _: Reader, service: str | None = None, limit: Limit = 50) -> Page[Study]:
    found = ctx.store.list_studies(service_name(service), limit=limit)
    return Page(items=tuple(each.value for each in found), limit=limit)


@router.post("", summary="Create a study", status_code=status.HTTP_201_CREATED, responses=problems(404, 409, 422))
def create_study(body: NewStudy, ctx: Ctx, actor: Actor, caller: CallerOf) -> Study:
    """A tuner worker takes it up. The baseline is always measured first."""
    code = code_in_overrides(body.overrides)
    if code:
        caller.require(Scope.ADMIN, f"this: {', '.join(code)} runs code on the host")
    study = retry_stale(
        lambda: studies.create_study(
            ctx.store,
            service=ServiceName(body.service),
            actor=actor,
            now=ctx.clock(),
            apply_when_done=body.apply_when_done,
            overrides=body.overrides,
            warm_start=None if body.warm_start is None else StudyId(body.warm_start),
        )
    )
    return study


@router.get("/{study_id}", summary="Show a study", responses=problems(404))
def show_study(study_id: StudyId, ctx: Ctx, _: Reader) -> Study:
    return ctx.store.get_study(study_id).value


@router.get("/{study_id}/trials", summary="List a study's trials, oldest first", responses=problems(404))
def list_trials(study_id: StudyId, ctx: Ctx, _: Reader) -> Page[Trial]:
    ctx.store.get_study(study_id)
    trials = tuple(each.value for each in ctx.store.list_trials(study_id))
    return Page(items=trials, limit=len(trials))


@router.get("/{study_id}/importance", summary="What each flag did to the cost", responses=problems(404))
def list_importance(study_id: StudyId, ctx: Ctx, _: Reader) -> Page[Importance]:
    """Largest effect first; empty while too few trials were measured to tell flags apart."""
    study = ctx.store.get_study(study_id).value
    from tuner.answer.importance import importances  # numpy and the search's regressions, only where asked for

    found = importances(study.spec, [each.value for each in ctx.store.list_trials(study_id)])
    return Page(items=found, limit=len(found))


@router.post("/{study_id}/pause", summary="Start no new trial", responses=problems(404, 409))
def pause_study(study_id: StudyId, body: Reason, ctx: Ctx, actor: Actor) -> Study:
    return _act(studies.pause_study, study_id, body, ctx, actor)


@router.post(
    "/{study_id}/resume", summary="Go on with a paused, failed or done study", responses=problems(404, 409, 422)
)
def resume_study(study_id: StudyId, body: Resumption, ctx: Ctx, actor: Actor) -> Study:
    """A study that is done goes on with what it measured, on a larger `budget`, and answers anew.

    One that failed does so without a `budget` too: what broke is tried again.
    """
    if body.budget is not None:
        larger = body.budget.model_dump(exclude_unset=True)
        return retry_stale(lambda: extend_study(ctx.store, study_id, larger, actor=actor, now=ctx.clock()))
    return _act(studies.resume_study, study_id, body, ctx, actor)


@router.post("/{study_id}/abort", summary="Give a study up", responses=problems(404, 409))
def abort_study(study_id: StudyId, body: Reason, ctx: Ctx, actor: Actor) -> Study:
    return _act(studies.abort_study, study_id, body, ctx, actor)


class _Action(Protocol):
    def __call__(self, store: Store, study_id: StudyId, *, actor: str, reason: str, now: datetime) -> Study: ...


def _act(action: _Action, study_id: StudyId, body: Reason, ctx: Context, actor: str) -> Study:
    study = retry_stale(lambda: action(ctx.store, study_id, actor=actor, reason=body.reason, now=ctx.clock()))
    return study
