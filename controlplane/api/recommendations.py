"""Recommendations: what studies came to. One is named by its study."""

from __future__ import annotations

from fastapi import APIRouter, status

from controlplane.api.context import Actor, Context, Ctx, Limit, Page, Reader, problems, retry_stale
from controlplane.api.requests import service_name
from controlplane.domain.base import StudyId
from controlplane.domain.errors import NotFound
from controlplane.domain.rollouts.rollout import Rollout
from controlplane.domain.studies.study import Recommendation
from controlplane.services.studies import manage as studies
from controlplane.services.studies.commit import ask_for_commit

router = APIRouter(prefix="/recommendations", tags=["recommendations"])


@router.get("", summary="List recommendations", responses=problems(422))
def list_recommendations(ctx: Ctx, _: Reader, service: str | None = None, limit: Limit = 50) -> Page[Recommendation]:
    found = (each.value.recommendation for each in ctx.store.list_studies(service_name(service), limit=limit))
    return Page(items=tuple(each for each in found if each is not None), limit=limit)


@router.get("/{study_id}", summary="Show a recommendation with its evidence", responses=problems(404))
def show_recommendation(study_id: StudyId, ctx: Ctx, _: Reader) -> Recommendation:
    return _recommendation(ctx, study_id)


@router.post(
    "/{study_id}/apply",
    summary="Start a rollout to the winner",
    status_code=status.HTTP_201_CREATED,
    responses=problems(404, 409),
)
def apply_recommendation(study_id: StudyId, ctx: Ctx, actor: Actor) -> Rollout:
    """Refused when the study found no improvement, or while another rollout of the service is under way."""
    _recommendation(ctx, study_id)
    return retry_stale(lambda: studies.apply_recommendation(ctx.store, study_id, actor=actor, now=ctx.clock()))


@router.post(
    "/{study_id}/commit",
    summary="Commit the winner's manifests to the service's repository",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problems(404, 409, 422),
)
def commit_recommendation(study_id: StudyId, ctx: Ctx, actor: Actor) -> Recommendation:
    """A worker commits it within a minute; the events of the study say which commit it is, or why there is none."""
    _recommendation(ctx, study_id)
    return retry_stale(lambda: ask_for_commit(ctx.store, study_id, actor=actor, now=ctx.clock()))


def _recommendation(ctx: Context, study_id: StudyId) -> Recommendation:
    study = ctx.store.get_study(study_id).value
    if study.recommendation is None:
        raise NotFound(f"study {study_id} has no recommendation", why=f"it is {study.state}")
    return study.recommendation
