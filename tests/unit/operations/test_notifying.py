"""Whoever is to be told is told everything, in order; one that does not answer is asked again, and not for ever."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from pydantic import ValidationError

from controlplane.domain.errors import InvalidInput, Unavailable
from controlplane.domain.event import Event
from controlplane.domain.operations.alerts import AlertOptions
from controlplane.domain.operations.notify import Notice, NotifyTarget, SecretRef, SmtpOptions, slack_body, subject
from controlplane.domain.serving import Service
from controlplane.services.operations.notifying import NotifyRunner
from tests.builders_serving import CHAT, a_service, a_spec
from tests.fakes.fleet import FakeClock
from tests.fakes.store import FakeStore

OPS = NotifyTarget.model_validate({"name": "ops", "kind": "webhook", "url": {"env": "OPS_URL"}})


@dataclass
class Told:
    """A notifier in memory; `down` names targets that do not answer."""

    notices: list[tuple[str, str]] = field(default_factory=list)
    down: set[str] = field(default_factory=set)
    without_secret: set[str] = field(default_factory=set)

    def check(self, target: NotifyTarget) -> None:
        if target.name in self.without_secret:
            raise InvalidInput("a secret is missing", why="OPS_URL is empty")

    def send(self, target: NotifyTarget, notice: Notice) -> None:
        if target.name in self.down:
            raise Unavailable(f"{target.name} was not told")
        self.notices.append((target.name, notice.alert))


class Watched:
    def __init__(self, *targets: NotifyTarget) -> None:
        self.store, self.clock, self.told = FakeStore(), FakeClock(), Told()
        service: Service = a_service(spec=a_spec(alerts=AlertOptions(notify=targets)))
        self.store.save_service(service, 0)
        self.run()

    def run(self) -> None:
        """As a new process each time."""
        NotifyRunner(store=self.store, notifier=self.told, clock=self.clock).run()

    def fires(
        self, alert: str, *, severity: str = "page", service: str | None = CHAT, action: str = "alert.fired"
    ) -> None:
        self.clock.go_on(1)
        details: dict[str, str | int | float | bool | None] = {"severity": severity, "key": alert}
        event = Event(
            at=self.clock(), actor="watch", action=action, subject=f"alert/{alert}", service=service, details=details
        )
        self.store.add_event(event)


def test_alerts_and_what_followed_are_told_once_in_order() -> None:
    watched = Watched(OPS)
    watched.fires("First")
    watched.fires("First", action="alert.acted")
    watched.fires("Second", service=None)
    watched.run()
    watched.run()
    assert watched.told.notices == [("ops", "First"), ("ops", "First"), ("ops", "Second")]


def test_nothing_is_lost_among_many_other_events() -> None:
    watched = Watched(OPS)
    watched.fires("First")
    for _ in range(300):
        watched.fires("Replica", action="engine.started")
    watched.run()
    assert watched.told.notices == [("ops", "First")]


def test_of_a_flood_nothing_is_lost() -> None:
    watched = Watched(OPS)
    for number in range(1500):
        watched.fires(f"Alert{number}")
    watched.run()
    assert watched.told.notices == [("ops", f"Alert{number}") for number in range(1500)]


def test_one_that_was_kept_after_a_later_one_was_told_is_told_too() -> None:
    watched = Watched(OPS)
    watched.fires("Early")
    (early,) = watched.store.list_events()
    watched.fires("Late")
    watched.run()
    watched.store.add_event(early.evolve(subject="alert/Slow"))
    watched.run()
    watched.run()
    assert watched.told.notices == [("ops", "Early"), ("ops", "Late"), ("ops", "Slow")]


def test_a_new_target_hears_of_what_comes() -> None:
    watched = Watched()
    watched.fires("Before")
    service, version = watched.store.get_service(CHAT)
    changed = service.evolve(spec=service.spec.evolve(alerts=AlertOptions(notify=(OPS,))))
    watched.store.save_service(changed, version)
    watched.clock.go_on(1)
    watched.run()
    watched.fires("After")
    watched.run()
    assert watched.told.notices == [("ops", "After")]


def test_a_version_that_waits_for_a_person_is_told() -> None:
    watched = Watched(OPS, OPS.evolve(name="pager", severities=("page",)))
    waits = Event(at=watched.clock(), actor="mlflow", action="model.waits", subject="model/llama", service=CHAT)
    watched.store.add_event(waits)
    watched.run()
    assert watched.told.notices == [("ops", "model/llama")]
    notice = Notice(at=waits.at, action=waits.action, alert=waits.subject, service=CHAT, severity="", text="")
    assert subject(notice) == "[alert] chat: model/llama waits"


def test_other_services_and_other_events_are_not_told() -> None:
    watched = Watched(OPS)
    watched.fires("Other", service="code")
    watched.fires("Started", action="engine.started")
    watched.run()
    assert watched.told.notices == []


def test_one_that_is_down_is_asked_again_and_holds_up_nobody() -> None:
    watched = Watched(OPS, OPS.evolve(name="late"))
    watched.told.down = {"late"}
    watched.fires("First")
    watched.run()
    watched.told.down = set()
    watched.clock.go_on(60)
    watched.run()
    assert watched.told.notices == [("ops", "First"), ("late", "First")]


def test_after_ten_minutes_it_goes_on_and_says_so() -> None:
    watched = Watched(OPS)
    watched.told.down = {"ops"}
    watched.fires("First")
    watched.run()
    watched.clock.go_on(601)
    watched.run()
    watched.told.down = set()
    watched.fires("Second")
    watched.run()
    assert watched.told.notices == [("ops", "Second")]
    assert [e.subject for e in watched.store.list_events() if e.action == "notice.lost"] == ["notify/ops"]


def test_a_target_hears_of_the_severities_it_wants() -> None:
    watched = Watched(OPS.evolve(severities=("page",)))
    watched.fires("Small", severity="ticket")
    watched.fires("Large")
    watched.run()
    assert watched.told.notices == [("ops", "Large")]


@pytest.mark.parametrize(
    "given",
    [
        {"name": "ops", "kind": "webhook"},
        {"name": "ops", "kind": "email", "to": ["a@b.example"]},
        {"name": "ops", "kind": "webhook", "url": {}},
        {"name": "ops", "kind": "webhook", "url": {"env": "A", "file": "b"}},
        {"name": "ops", "kind": "webhook", "url": "https://hooks.example/secret"},
    ],
)
def test_half_a_target_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        NotifyTarget.model_validate(given)


def test_a_password_is_not_sent_in_the_clear() -> None:
    with pytest.raises(ValidationError, match="starttls"):
        SmtpOptions(host="mail", starttls=False, user="u", password=SecretRef(env="P"))


def test_nothing_in_slack_is_taken_for_markup() -> None:
    notice = Notice(
        at=FakeClock()(), action="alert.fired", alert="A", service=None, severity="page", text="<!channel> &"
    )
    assert slack_body(notice) == {"text": "[page] A fired\n&lt;!channel&gt; &amp;"}


def test_drift_what_came_of_it_and_how_a_rollout_ended_are_told() -> None:
    watched = Watched(OPS)
    for action, of in (
        ("drift.found", "service/chat"),
        ("drift.study", "service/chat"),
        ("rollout.promoted", "rollout/r-1"),
    ):
        watched.clock.go_on(1)
        watched.store.add_event(Event(at=watched.clock(), actor="drift", action=action, subject=of, service=CHAT))
    watched.run()
    assert watched.told.notices == [("ops", "drift"), ("ops", "drift"), ("ops", "rollout/r-1")]
    notice = Notice(at=watched.clock(), action="drift.found", alert="drift", service=CHAT, severity="", text="")
    assert subject(notice) == "[alert] chat: drift found"


def test_that_an_alert_is_over_is_told() -> None:
    watched = Watched(OPS.evolve(severities=("page",)))
    watched.fires("Queue")
    watched.fires("Queue", action="alert.ended")
    watched.run()
    assert watched.told.notices == [("ops", "Queue"), ("ops", "Queue")]


def test_a_target_without_its_secret_is_said_before_any_alert_and_hourly() -> None:
    watched = Watched(OPS, OPS.evolve(name="late"))
    watched.told.without_secret = {"ops"}
    runner = NotifyRunner(store=watched.store, notifier=watched.told, clock=watched.clock)
    for _ in range(3):
        runner.run()
        watched.clock.go_on(1900)
    lost = watched.store.list_events(actions=("notice.lost",))
    assert [(each.subject, "OPS_URL is empty" in each.reason) for each in lost] == [("notify/ops", True)] * 2
