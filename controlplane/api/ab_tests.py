"""A/B tests: several revisions at fixed shares for a fixed question."""

from __future__ import annotations

from fastapi import APIRouter, status
from pydantic import Field

from controlplane.api.context import Actor, Ctx, Limit, Page, Reader, problems, retry_stale
from controlplane.api.requests import Reason, service_name
from controlplane.domain.ab_tests.ab_test import MOST_ARMS, AbOptions, AbTest, AbTestId
from controlplane.domain.base import ServiceName, Value
from controlplane.domain.service import Name
from controlplane.services.ab_tests.manage import ArmWish, Asked, start_ab_test
from controlplane.services.ab_tests.planned import Expected
from controlplane.services.rollouts.shares import stop_ab_test

router = APIRouter(prefix="/ab-tests", tags=["A/B tests"])


class NewAbTest(Value):
    """What is asked, of which arms, and how sure the answer is to be."""

    service: Name
    arms: tuple[ArmWish, ...] = Field(min_length=2, max_length=MOST_ARMS, description="The control, `stable`, first.")
    options: AbOptions
    question: str = Field(default="", max_length=300)
    expected: Expected | None = Field(default=None, description="Where the control's last day says too little.")


@router.get("", summary="List A/B tests", responses=problems(422))
def list_tests(ctx: Ctx, _: Reader, service: str | None = None, limit: Limit = 50) -> Page[AbTest]:
    found = ctx.store.list_ab_tests(service_name(service), limit=limit)
    return Page(items=tuple(each.value for each in found), limit=limit)


@router.post("", summary="Start an A/B test", status_code=status.HTTP_201_CREATED, responses=problems(404, 409, 422))
def start_test(body: NewAbTest, ctx: Ctx, actor: Actor) -> AbTest:
    """The plan says at once how many users the answer takes. Refused while a rollout or another test is under way."""
    asked = Asked(body.arms, body.options, body.question, body.expected)
    return retry_stale(
        lambda: start_ab_test(
            ctx.store,
            ctx.records,
            ctx.scores,
            ctx.judged,
            service=ServiceName(body.service),
            asked=asked,
            actor=actor,
            now=ctx.clock(),
        )
    )


@router.get("/{test_id}", summary="Show an A/B test: who is better, by how much", responses=problems(404))
def show_test(test_id: AbTestId, ctx: Ctx, _: Reader) -> AbTest:
    return ctx.store.get_ab_test(test_id).value


@router.post("/{test_id}/stop", summary="Give all traffic back to the control", responses=problems(404, 409))
def stop_test(test_id: AbTestId, body: Reason, ctx: Ctx, actor: Actor) -> AbTest:
    return retry_stale(lambda: stop_ab_test(ctx.store, test_id, actor=actor, reason=body.reason, now=ctx.clock()))
