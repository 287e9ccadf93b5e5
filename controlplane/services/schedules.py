"""Schedules of a service: keep, list, pause, resume, delete, and fire now. The controller fires the due ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from controlplane.domain.base import ServiceName
from controlplane.domain.errors import Conflict, NotFound
from controlplane.domain.event import Event
from controlplane.domain.schedule import Schedule, ScheduleSpec
from controlplane.domain.service import ServiceSpec
from controlplane.ports.store import Store, Versioned


def list_schedules(store: Store, service: ServiceName | None = None) -> Sequence[Schedule]:
    """Return the schedules of one service or of all, by service and name."""
    found = [schedule for schedule, _ in store.list_schedules(service)]
    return sorted(found, key=lambda schedule: (schedule.service, schedule.spec.name))


def add_schedule(store: Store, service: ServiceName, spec: ScheduleSpec, *, actor: str, now: datetime) -> Schedule:
    """Keep a new schedule. Raises NotFound for an unknown service, Conflict when the name is taken."""
    store.get_service(service)
    if any(schedule.spec.name == spec.name for schedule, _ in store.list_schedules(service)):
        raise Conflict(f"{service} has a schedule '{spec.name}' already", allowed="another name, or delete it first")
    schedule = Schedule(service=service, spec=spec, next_at=spec.next_after(now))
    store.save_schedule(schedule, 0, events=[_event(schedule, "schedule.created", actor=actor, now=now)])
    return schedule


def pause_schedule(store: Store, service: ServiceName, name: str, *, actor: str, now: datetime) -> Schedule:
    """Let it fire no more until it is resumed. Raises NotFound."""
    return _set_paused(store, service, name, paused=True, actor=actor, now=now)


def resume_schedule(store: Store, service: ServiceName, name: str, *, actor: str, now: datetime) -> Schedule:
    """Let it fire again, from its next time on: what a pause skipped is not made up for. Raises NotFound."""
    return _set_paused(store, service, name, paused=False, actor=actor, now=now)


def trigger_schedule(store: Store, service: ServiceName, name: str, *, actor: str, now: datetime) -> Schedule:
    """Make it due: the controller's next pass fires it, paused or not no more than once. Raises NotFound, Conflict."""
    schedule, version = find_schedule(store, service, name)
    _refuse_untimely(schedule, now)
    due = schedule.evolve(next_at=now)
    store.save_schedule(due, version, events=[_event(due, "schedule.triggered", actor=actor, now=now)])
    return due


def _refuse_untimely(schedule: Schedule, now: datetime) -> None:
    """Raise Conflict where firing now could come to nothing: rather said at once than in the audit, later."""
    what = f"schedule '{schedule.spec.name}' of {schedule.service}"
    if schedule.spec.paused:
        raise Conflict(f"{what} is paused", allowed="resume it first")
    if schedule.replay_run is not None:
        raise Conflict(f"{what} cannot fire now", why=f"replay {schedule.replay_run.number} is not over")
    replay = schedule.spec.replay
    if replay is not None and not replay.is_quiet(now):
        hours = f"{replay.quiet_from:%H:%M} to {replay.quiet_to:%H:%M} UTC"
        raise Conflict(
            f"{what} cannot fire now", why=f"it is {now:%H:%M} UTC, outside its quiet hours", allowed=f"from {hours}"
        )


def upcoming(schedule: Schedule, now: datetime) -> str:
    """Say when a schedule fires next, and how to have it sooner where its quiet hours have begun without it."""
    text = f"{schedule.service}/{schedule.spec.name} fires next at {schedule.next_at:%Y-%m-%d %H:%M} UTC"
    replay = schedule.spec.replay
    if schedule.spec.paused:
        return f"{schedule.service}/{schedule.spec.name} is paused"
    if replay is None or replay.quiet_from is None or not replay.is_quiet(now):
        return text
    return (
        f"{text}: its quiet hours have begun, their firing was before this start; "
        f"now: fleetune schedule trigger {schedule.service} {schedule.spec.name}"
    )


def delete_schedule(store: Store, service: ServiceName, name: str, *, actor: str, now: datetime) -> None:
    """Forget a schedule. Raises NotFound."""
    schedule, _ = find_schedule(store, service, name)
    store.delete_schedule(service, name, events=[_event(schedule, "schedule.deleted", actor=actor, now=now)])


def find_schedule(store: Store, service: ServiceName, name: str) -> Versioned[Schedule]:
    """Return one schedule with its version. Raises NotFound."""
    rows = store.list_schedules(service)
    for row in rows:
        if row.value.spec.name == name:
            return row
    names = ", ".join(sorted(row.value.spec.name for row in rows))
    raise NotFound(f"{service} has no schedule '{name}'", allowed=names or "none: `fleetune schedule create` makes one")


def described_schedules(store: Store, spec: ServiceSpec, *, now: datetime) -> Sequence[Versioned[Schedule]]:
    """Return what is to be saved, with the description, of its schedules. Others of the service stay as they are.

    One whose time did not change keeps its memory, so a firing missed while everything was down still happens.
    """
    present = {row.value.spec.name: row for row in store.list_schedules(spec.service)}
    changed = [_described(spec.service, wanted, present.get(wanted.name), now) for wanted in spec.schedules]
    return [row for row in changed if row is not None]


def _described(
    service: ServiceName, wanted: ScheduleSpec, row: Versioned[Schedule] | None, now: datetime
) -> Versioned[Schedule] | None:
    """Return a schedule as it is to be saved, beside the version it replaces; None when it is described so already."""
    if row is None:
        return Versioned(Schedule(service=service, spec=wanted, next_at=wanted.next_after(now)), 0)
    if row.value.spec == wanted:
        return None
    next_at = row.value.next_at if row.value.spec.cron == wanted.cron else wanted.next_after(now)
    return Versioned(row.value.evolve(spec=wanted, next_at=next_at), row.version)


def _set_paused(store: Store, service: ServiceName, name: str, *, paused: bool, actor: str, now: datetime) -> Schedule:
    schedule, version = find_schedule(store, service, name)
    if schedule.spec.paused == paused:
        return schedule
    next_at = schedule.next_at if paused else schedule.spec.next_after(now)
    changed = schedule.evolve(spec=schedule.spec.evolve(paused=paused), next_at=next_at)
    action = "schedule.paused" if paused else "schedule.resumed"
    store.save_schedule(changed, version, events=[_event(changed, action, actor=actor, now=now)])
    return changed


def _event(schedule: Schedule, action: str, *, actor: str, now: datetime) -> Event:
    return Event(
        at=now,
        actor=actor,
        action=action,
        subject=f"schedule/{schedule.service}/{schedule.spec.name}",
        service=schedule.service,
        reason=f"{schedule.spec.cron}: {schedule.spec.action.value}",
    )
