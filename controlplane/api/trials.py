"""Trials: one configuration tried once in a study."""

from __future__ import annotations

from fastapi import APIRouter

from controlplane.api.context import Ctx, Reader, problems
from controlplane.domain.base import TrialId
from controlplane.domain.studies.study import Trial

router = APIRouter(prefix="/trials", tags=["trials"])


@router.get("/{trial_id}", summary="Show a trial with every rate level it ran", responses=problems(404))
def show_trial(trial_id: TrialId, ctx: Ctx, _: Reader) -> Trial:
    return ctx.store.get_trial(trial_id).value
