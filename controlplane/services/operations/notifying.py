"""Tell people of alerts, of what followed, of drift, of how rollouts ended and of models that wait.

What became an event goes to a service's targets.

At least once: a target is asked again until it took a notice, for ten minutes; then that is an event, and it goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from pydantic import AwareDatetime, Field

from controlplane.domain.base import ServiceName, Value
from controlplane.domain.errors import FleetuneError
from controlplane.domain.event import Event
from controlplane.domain.operations.notify import Notice, NotifyTarget
from controlplane.ports import Clock
from controlplane.ports.notify import Notifier
from controlplane.ports.store import Store, Versioned
from controlplane.services.kept import read_kept

ACTOR = "notifier"
_ALERTS = frozenset({"alert.fired", "alert.acted", "alert.not_acted", "alert.ended"})
_DRIFT = frozenset({"drift.found", "drift.study", "drift.no_study"})
TOLD = _ALERTS | _DRIFT | {"rollout.promoted", "rollout.aborted", "model.waits"}
LOST = "notice.lost"
GIVE_UP = timedelta(minutes=10)


CHECK_EVERY = timedelta(hours=1)
LATE = timedelta(minutes=1)
"""An event may be kept so long after its moment: who takes in many alerts keeps them one by one."""
_MOST = 10_000


class Sent(Value):
    """How far a target has come: the moment of the newest event it was told of, and which of the minute before it."""

    at: AwareDatetime
    marks: tuple[tuple[AwareDatetime, str], ...] = ()
    since: AwareDatetime = Field(description="What was before is not told.")

    @property
    def oldest(self) -> datetime:
        """Return the moment from which on something may not have been told yet."""
        return max(self.since, self.at - LATE)

    def knows(self, event: Event) -> bool:
        """Say whether it was told, or is of before."""
        return event.at < self.oldest or (event.at, _mark(event)) in self.marks

    def told(self, event: Event) -> Sent:
        """Return how far it has come with this one."""
        at = max(self.at, event.at)
        marks = (*self.marks, (event.at, _mark(event)))
        return self.evolve(at=at, marks=tuple(each for each in marks if each[0] >= at - LATE))


class NotifyRunner:
    """One per controller; `run` every few seconds."""

    def __init__(self, *, store: Store, notifier: Notifier, clock: Clock) -> None:
        self._store = store
        self._notifier = notifier
        self._clock = clock
        self._checked: dict[str, datetime] = {}

    def run(self) -> bool:
        """Send what is new. Raises Unavailable, StaleVersion of the store: the next run goes on."""
        services = [saved.value for saved in self._store.list_services()]
        if not any(service.spec.alerts.notify for service in services):
            return False
        targets = [(service.name, target) for service in services for target in service.spec.alerts.notify]
        sent = [self._read(_setting(*each)) for each in targets]
        events = self._events(min(each.value.oldest for each in sent))
        for service, target in targets:
            self._check(service, target)
        for (service, target), known in zip(targets, sent, strict=True):
            self._tell(service, target, known, [event for event in events if event.service in (service, None)])
        return False

    def _check(self, service: ServiceName, target: NotifyTarget) -> None:
        """Say at once, and each hour again, that a target could not be told: not in the night of the first alert."""
        setting, now = _setting(service, target), self._clock()
        checked = self._checked.get(setting)
        if checked is not None and timedelta(0) <= now - checked < CHECK_EVERY:
            return
        self._checked[setting] = now
        try:
            self._notifier.check(target)
        except FleetuneError as error:
            self._store.add_event(_lost(service, target, f"nothing can be told: {error}", now))

    def _events(self, oldest: datetime) -> Sequence[Event]:
        """Return what is to be told since that moment, in the order in which it was kept."""
        since = oldest - timedelta(microseconds=1)
        return self._store.list_events(actions=TOLD, since=since, limit=_MOST)[::-1]

    def _tell(self, service: ServiceName, target: NotifyTarget, sent: Versioned[Sent], events: Sequence[Event]) -> None:
        """Send one target what it was not told yet, the oldest first."""
        setting = _setting(service, target)
        for event in events:
            if sent.value.knows(event):
                continue
            if not self._told(service, target, event):
                return
            after = sent.value.told(event)
            sent = Versioned(after, self._store.write_setting(setting, after.model_dump_json(), sent.version))

    def _told(self, service: ServiceName, target: NotifyTarget, event: Event) -> bool:
        """Send one; say whether to go on with the next."""
        notice = _notice(event)
        if not target.wants(notice.severity):
            return True
        try:
            self._notifier.send(target, notice)
        except FleetuneError as error:
            now = self._clock()
            if now - event.at < GIVE_UP:
                return False
            self._store.add_event(_lost(service, target, f"{notice.alert} could not be told: {error}", now))
        return True

    def _read(self, setting: str) -> Versioned[Sent]:
        """A target that is new hears of what comes, not of what was."""
        found, version = read_kept(self._store, setting, _sent, None)
        if found is not None:
            return Versioned(found, version)
        now = self._clock()
        begins = Sent(at=now, since=now)
        return Versioned(begins, self._store.write_setting(setting, begins.model_dump_json(), version))


def _setting(service: ServiceName, target: NotifyTarget) -> str:
    return f"notified/{service}/{target.name}"


def _sent(text: str) -> Sent | None:
    return Sent.model_validate_json(text)


def _notice(event: Event) -> Notice:
    return Notice(
        at=event.at,
        action=event.action,
        alert="drift" if event.action in _DRIFT else event.subject.removeprefix("alert/"),
        service=event.service,
        severity=str(event.details.get("severity") or ""),
        text=event.reason,
    )


def _lost(service: ServiceName, target: NotifyTarget, reason: str, now: datetime) -> Event:
    return Event(
        at=now,
        actor=ACTOR,
        action=LOST,
        subject=f"notify/{target.name}",
        service=service,
        reason=reason,
    )


def _mark(event: Event) -> str:
    return f"{event.action} {event.subject} {event.details.get('key', '')}"
