"""What if: the twin's answer for a configuration nobody started."""

from __future__ import annotations

from fastapi import APIRouter

from controlplane.api.context import Ctx, Reader, problems
from controlplane.api.requests import Question
from controlplane.domain.base import ServiceName
from controlplane.domain.operations.what_if import WhatIfAnswer

router = APIRouter(prefix="/predict", tags=["what if"])


@router.post("", summary="Predict latency, capacity and cost", responses=problems(404, 422))
def predict(body: Question, ctx: Ctx, _: Reader) -> WhatIfAnswer:
    """In virtual time; every latency with its 90 % interval."""
    from controlplane.services.what_if import what_if  # the compiled twin: 100 MiB, only where somebody asks it

    spec = ctx.store.get_service(ServiceName(body.service)).value.spec
    return what_if(spec, body)
