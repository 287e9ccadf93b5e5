"""Take alerts in: tell them as events, and do what the service declared. Remembered first, then done.

A crash in between leaves an alert that was remembered and not acted on: too little, never twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby

from pydantic import TypeAdapter, ValidationError

from controlplane.domain.base import ServiceName, Value
from controlplane.domain.errors import FleetuneError, NotFound, Unavailable
from controlplane.domain.event import Event
from controlplane.domain.operations.alerts import (
    Acted,
    Alert,
    AlertAction,
    AlertOptions,
    Reaction,
    lasting,
    over,
    reaction,
    remembered,
)
from controlplane.ports.store import Store
from controlplane.services.fleet.scaling import nudge
from controlplane.services.rollouts.manage import abort_rollout, active_rollout
from controlplane.services.studies.manage import create_study

_PAST = TypeAdapter(tuple[Acted, ...])
NOBODY = "-"
"""Stands for the service of an alert that names none, or one that is not known."""
TOGETHER = 50
"""Alerts of a service that are remembered with one write; a crash behind it leaves so many untold at most."""


class Taken(Value):
    """What came of one alert."""

    alert: str
    service: str | None
    action: AlertAction | None
    done: bool
    reason: str = ""


def take_alerts(store: Store, alerts: Sequence[Alert], *, actor: str, now: datetime) -> tuple[Taken, ...]:
    """Tell each alert once, and once that it is over; act where that is declared.

    Raises Unavailable, StaleVersion: send them again.
    """
    taken = list[Taken]()
    for _, of_one in groupby(alerts, key=lambda alert: alert.service):
        mine = list(of_one)
        for first in range(0, len(mine), TOGETHER):
            taken += _take(store, mine[first : first + TOGETHER], actor=actor, now=now)
    return tuple(taken)


def _take(store: Store, alerts: Sequence[Alert], *, actor: str, now: datetime) -> Sequence[Taken]:
    """Take some alerts of one service in."""
    service, options = _service_of(store, alerts[0])
    setting = f"alerts/{service or NOBODY}"
    saved = store.read_setting(setting)
    before = () if saved is None else _read(saved.value)
    past = tuple(each.evolve(at=min(each.at, now)) for each in before)  # a clock may have been set back since
    found = list[tuple[Alert, Reaction | Acted | None]]()
    for alert in alerts:
        ended = over(alert, past)
        found.append((alert, what := ended or reaction(options, alert, past, now)))
        if ended is not None:
            past = tuple(each.evolve(ended=True) if each is ended else each for each in past)
        elif isinstance(what, Reaction):
            past = remembered(past, _remembered(alert, what, now), now)
    if past != before:
        store.write_setting(setting, _PAST.dump_json(past).decode(), 0 if saved is None else saved.version)
    return [_told(store, alert, service, what, actor=actor, now=now) for alert, what in found]


def _remembered(alert: Alert, found: Reaction, now: datetime) -> Acted:
    action = found.action if found.acts else AlertAction.TELL
    return Acted(at=now, key=alert.key, action=action, name=alert.name, severity=alert.severity)


def alerts_that_last(store: Store, service: ServiceName | None) -> Mapping[str, datetime]:
    """Return the alerts of a service that fire now, and when each was told; None: those of no service.

    What nobody says the end of lasts for as long as it is remembered, a week. Raises Unavailable.
    """
    saved = store.read_setting(f"alerts/{service or NOBODY}")
    return lasting(() if saved is None else _read(saved.value))


def _told(
    store: Store,
    alert: Alert,
    service: ServiceName | None,
    found: Reaction | Acted | None,
    *,
    actor: str,
    now: datetime,
) -> Taken:
    if isinstance(found, Acted):
        lasted = f"over {(now - found.at).total_seconds() / 60:.0f} min after it was told"
        was = alert.evolve(severity=found.severity)
        store.add_event(_event(was, service, "alert.ended", lasted, actor=actor, now=now))
        return Taken(alert=alert.name, service=service, action=None, done=False, reason=lasted)
    if found is None:
        return Taken(alert=alert.name, service=service, action=None, done=False, reason="told before, or over")
    store.add_event(_event(alert, service, "alert.fired", alert.summary, actor=actor, now=now))
    if found.action is AlertAction.TELL or service is None:
        return Taken(alert=alert.name, service=service, action=found.action, done=False, reason=found.reason)
    return _acted(store, alert, service, found, actor=actor, now=now)


def _acted(store: Store, alert: Alert, service: ServiceName, found: Reaction, *, actor: str, now: datetime) -> Taken:
    done, reason = False, found.reason
    if found.acts:
        try:
            reason, done = _do(store, service, found.action, alert, now), True
        except Unavailable:
            raise
        except FleetuneError as error:  # the state does not allow it: that is said, and not tried again
            reason = str(error)
    action = "alert.acted" if done else "alert.not_acted"
    said = f"{alert.name}: {found.action.value}: {reason}"
    store.add_event(_event(alert, service, action, said, actor=actor, now=now))
    return Taken(alert=alert.name, service=service, action=found.action, done=done, reason=reason)


def _do(store: Store, service: ServiceName, action: AlertAction, alert: Alert, now: datetime) -> str:
    """Do it and say what was done. Raises what the use case raises."""
    actor = f"alert/{alert.name}"
    match action:
        case AlertAction.TELL:
            return ""
        case AlertAction.SCALE_OUT:
            replicas = nudge(store, service, actor=actor, reason=alert.name, now=now)
            return f"{replicas} replicas are wanted"
        case AlertAction.STUDY:
            study = create_study(store, service=service, actor=actor, now=now)
            return f"study {study.study_id} waits for a worker"
        case AlertAction.ABORT_ROLLOUT:
            active = active_rollout(store, service)
            if active is None:
                raise NotFound(f"{service} has no rollout under way")
            rollout = abort_rollout(store, active.value.rollout_id, actor=actor, reason=alert.name, now=now)
            return f"rollout {rollout.rollout_id} is given up"


def _service_of(store: Store, alert: Alert) -> tuple[ServiceName | None, AlertOptions]:
    if alert.service is None:
        return None, AlertOptions()
    try:
        found = store.get_service(ServiceName(alert.service)).value
    except NotFound:
        return None, AlertOptions()
    return found.name, found.spec.alerts


def _read(text: str) -> tuple[Acted, ...]:
    try:
        return _PAST.validate_json(text)
    except ValidationError:  # of another version: what it did is told by the events
        return ()


def _event(alert: Alert, service: str | None, action: str, reason: str, *, actor: str, now: datetime) -> Event:
    return Event(
        at=now,
        actor=actor,
        action=action,
        subject=f"alert/{alert.name}",
        service=service,
        reason=reason,
        details={"severity": alert.severity, "key": alert.key},
    )
