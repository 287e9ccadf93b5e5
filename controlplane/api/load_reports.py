"""Load reports: what load tests measured."""

from __future__ import annotations

from fastapi import APIRouter, status
from pydantic import AwareDatetime

from controlplane.api.context import Actor, Ctx, Limit, Page, Reader, problems
from controlplane.api.requests import NewLoadReport, service_name
from controlplane.domain.base import Value
from controlplane.domain.errors import InvalidInput
from controlplane.domain.event import Event
from controlplane.domain.report import LoadTestReport
from controlplane.services.replays.series import PREFIX

router = APIRouter(prefix="/load-reports", tags=["load reports"])


class StoredReport(Value):
    report_id: str
    at: AwareDatetime
    report: LoadTestReport


@router.get("", summary="List load reports", responses=problems(422))
def list_load_reports(ctx: Ctx, _: Reader, service: str | None = None, limit: Limit = 50) -> Page[StoredReport]:
    found = ctx.store.list_load_reports(service_name(service), limit=limit)
    items = tuple(StoredReport(report_id=name, at=at, report=report) for name, at, report in found)
    return Page(items=items, limit=limit)


@router.get("/{report_id}", summary="Show a load report", responses=problems(404))
def show_load_report(report_id: str, ctx: Ctx, _: Reader) -> LoadTestReport:
    return ctx.store.get_load_report(report_id)


@router.post("", summary="Upload a load report", status_code=status.HTTP_201_CREATED, responses=problems(404, 409, 422))
def upload_load_report(body: NewLoadReport, ctx: Ctx, actor: Actor) -> StoredReport:
    """For reports of `fleetune load` run elsewhere. Figures only: records stay where they were measured."""
    service = service_name(body.service)
    if service is not None:
        ctx.store.get_service(service)
    _refuse_reserved(body.report_id)
    now = ctx.clock()
    ctx.store.add_load_report(body.report_id, service, body.report, now)
    subject = f"load-report/{body.report_id}"
    ctx.store.add_event(Event(at=now, actor=actor, action="load_report.uploaded", subject=subject, service=service))
    return StoredReport(report_id=body.report_id, at=now, report=body.report)


def _refuse_reserved(report_id: str) -> None:
    if report_id.startswith(PREFIX):
        raise InvalidInput(
            f"a load report cannot be named '{report_id}'",
            why=f"replays are named {PREFIX}…",
            allowed="another id",
        )
