"""Alerts from outside: the webhook that an Alertmanager sends to."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from controlplane.api.context import Actor, Ctx, problems, retry_stale
from controlplane.domain.base import Value
from controlplane.domain.errors import InvalidInput
from controlplane.domain.operations.alerts import Alert, one_line
from controlplane.services.operations.alerts import Taken, take_alerts

router = APIRouter(prefix="/alerts", tags=["alerts"])

MOST_ALERTS = 200


class SentAlert(BaseModel):
    """One alert as Alertmanager writes it (webhook version 4). What is not used here is left unread."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    status: str
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    starts_at: str = Field(default="", alias="startsAt")
    fingerprint: str = ""


class Webhook(BaseModel):
    """What Alertmanager posts, whole groups at once."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    version: str
    alerts: tuple[SentAlert, ...] = Field(max_length=MOST_ALERTS)


class TakenAlerts(Value):
    alerts: tuple[Taken, ...]


@router.post("", summary="Take an Alertmanager's alerts in", responses=problems(409, 422, 503))
def take(body: Webhook, ctx: Ctx, actor: Actor) -> TakenAlerts:
    """Each firing is told once as an event, and leads to what its service declared. Sent again it changes nothing."""
    if body.version != "4":
        raise InvalidInput(f"webhook version '{one_line(body.version)}' is not known", allowed="4")
    alerts = [_alert(each) for each in body.alerts]
    return TakenAlerts(alerts=retry_stale(lambda: take_alerts(ctx.store, alerts, actor=actor, now=ctx.clock())))


def _alert(sent: SentAlert) -> Alert:
    labels = sent.labels
    given: dict[str, Any] = {
        "name": labels.get("alertname", ""),
        "key": f"{sent.fingerprint or sorted(labels.items())}@{sent.starts_at}"[:200],
        "service": labels.get("service"),
        "firing": sent.status == "firing",
        "severity": one_line(labels.get("severity", ""))[:40],
        "summary": one_line(sent.annotations.get("summary", "")),
    }
    try:
        return Alert(**given)
    except ValueError as error:
        raise InvalidInput("an alert cannot be read", why=one_line(str(error))) from error
