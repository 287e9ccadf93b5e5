"""Alerts from outside: the webhook that an Alertmanager sends to."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from controlplane.api.context import Ctx, problems, retry_stale
from controlplane.api.signed import Sender
from controlplane.domain.base import Value
from controlplane.domain.errors import InvalidInput
from controlplane.domain.operations.alerts import MOST_AT_ONCE, Alert, one_line
from controlplane.services.operations.alerts import Taken, take_alerts

log = logging.getLogger(__name__)
router = APIRouter(prefix="/alerts", tags=["alerts"])

_VERSIONS = ("4", "1")


class SentAlert(BaseModel):
    """One alert as Alertmanager (webhook version 4) and Grafana (1) write it. What is not used here is left unread."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    status: str
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    starts_at: str = Field(default="", alias="startsAt")
    fingerprint: str = ""


class Webhook(BaseModel):
    """What is posted, whole groups at once."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    version: str
    alerts: tuple[SentAlert, ...] = Field(max_length=MOST_AT_ONCE)


class TakenAlerts(Value):
    alerts: tuple[Taken, ...]
    unread: tuple[str, ...] = Field(default=(), description="Why each that could not be read was left out.")


@router.post("", summary="Take an Alertmanager's alerts in", responses=problems(409, 422, 503))
def take(body: Webhook, ctx: Ctx, actor: Sender) -> TakenAlerts:
    """Each firing is told once as an event, and leads to what its service declared. Sent again it changes nothing.

    What cannot be read is told in `unread` beside what could, and refused where nothing could: an Alertmanager never
    sends again what was refused, and one odd alert must not take the others of its group along.
    """
    if body.version not in _VERSIONS:
        allowed = "4 (Alertmanager) or 1 (Grafana)"
        raise InvalidInput(f"webhook version '{one_line(body.version)}' is not known", allowed=allowed)
    alerts, unread = list[Alert](), list[InvalidInput]()
    for each in body.alerts:
        try:
            alerts.append(_alert(each))
        except InvalidInput as error:
            unread.append(error)
    if unread and not alerts:
        raise unread[0]
    taken = retry_stale(lambda: take_alerts(ctx.store, alerts, actor=actor, now=ctx.clock()))
    for why in map(str, unread):
        log.warning("an alert that came with others is left out: %s", why)
    return TakenAlerts(alerts=taken, unread=tuple(map(str, unread)))


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
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        allowed = "labels alertname (letters, digits, _), service and severity"
        why = one_line(f"{'.'.join(map(str, first['loc']))} '{first['input']}': {first['msg']}")
        raise InvalidInput("an alert cannot be read", why=why, allowed=allowed) from error
