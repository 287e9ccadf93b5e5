"""The Store port: one suite for the fake, SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from controlplane.domain.base import RolloutId, ServiceName
from controlplane.domain.door.identity import Grant
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import Conflict, NotFound, StaleVersion
from controlplane.domain.event import Event
from controlplane.domain.replay import ReplayPoint
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.schedule import Schedule, ScheduleSpec
from controlplane.ports.store import Store, Versioned
from controlplane.services.keys import create_key, gateway_keys, key_for, list_keys, revoke_key, rotate_key
from tests.builders_reports import a_load_report
from tests.builders_serving import (
    CHAT,
    NOW,
    a_recommendation,
    a_revision,
    a_rollout,
    a_service,
    a_study,
    a_trial,
    after,
    an_applicable_study,
)


def test_a_saved_service_reads_back_equal(store: Store) -> None:
    service = a_service(stable=a_revision().revision_id, stable_replicas=2)
    version = store.save_service(service, 0)
    assert store.get_service(CHAT) == (service, version)
    assert list(store.list_services()) == [(service, version)]


def test_a_write_with_an_old_version_is_refused_and_changes_nothing(store: Store) -> None:
    first = store.save_service(a_service(), 0)
    second = store.save_service(a_service(stable_replicas=1), first)
    with pytest.raises(StaleVersion):
        store.save_service(a_service(stable_replicas=9), first)
    assert store.get_service(CHAT) == (a_service(stable_replicas=1), second)


def test_a_second_new_one_of_the_same_name_is_refused(store: Store) -> None:
    store.save_service(a_service(), 0)
    with pytest.raises(StaleVersion):
        store.save_service(a_service(), 0)


def test_saving_a_version_of_something_that_is_not_there_is_refused(store: Store) -> None:
    with pytest.raises(StaleVersion):
        store.save_study(a_study(), 3)


@pytest.mark.parametrize(
    "get",
    [
        lambda store: store.get_service(ServiceName("nothing")),
        lambda store: store.get_study("nothing"),
        lambda store: store.get_trial("nothing"),
        lambda store: store.get_revision("nothing"),
        lambda store: store.get_rollout("nothing"),
        lambda store: store.get_load_report("nothing"),
    ],
)
def test_what_does_not_exist_is_not_found_by_name(store: Store, get: Callable[[Store], object]) -> None:
    with pytest.raises(NotFound, match="nothing"):
        get(store)


def test_events_given_to_a_save_are_kept_with_it_or_not_at_all(store: Store) -> None:
    store.save_service(a_service(), 0, events=[_event("kept")])
    with pytest.raises(StaleVersion):
        store.save_service(a_service(), 0, events=[_event("lost")])
    assert [event.action for event in store.list_events()] == ["kept"]


def test_events_are_listed_newest_first_and_filtered(store: Store) -> None:
    for number in range(4):
        store.add_event(_event(f"action-{number}", subject=f"rollout/{number % 2}"))
    assert [event.action for event in store.list_events(subject="rollout/1")] == ["action-3", "action-1"]
    assert [event.action for event in store.list_events(service="chat", limit=1)] == ["action-3"]
    assert not store.list_events(service="other")


def test_events_are_found_by_what_happened_and_when_however_many_others_came_since(store: Store) -> None:
    for number in range(3):
        store.add_event(_event("engine.failed", subject=f"engine/{number}", at=after(number)))
    for number in range(250):
        store.add_event(_event("rollout.step", at=after(3 + number)))
    found = store.list_events(service="chat", actions={"engine.failed", "engine.lost"}, since=NOW)
    assert [event.subject for event in found] == ["engine/2", "engine/1"]
    assert not store.list_events(actions=(), since=NOW)
    assert not store.list_events(service="other", actions={"engine.failed"}, since=NOW)


def test_studies_are_listed_newest_first_per_service(store: Store) -> None:
    for number in (1, 2, 3):
        store.save_study(a_study(f"st-{number}"), 0)
    store.save_study(a_study("st-other", service=ServiceName("other")), 0)
    assert [row.value.study_id for row in store.list_studies(CHAT)] == ["st-3", "st-2", "st-1"]
    assert [row.value.study_id for row in store.list_studies(limit=1)] == ["st-other"]


def test_a_saved_study_keeps_its_claim(store: Store) -> None:
    store.save_study(a_study(), 0)
    claimed = store.claim_study("w1", now=NOW, lease_s=30)
    assert claimed is not None
    store.save_study(claimed.value.evolve(engine_starts=1), claimed.version)
    assert list(store.study_claims(claimed.value.study_id)) == [("w1", NOW)]


def test_trials_are_listed_oldest_first(store: Store) -> None:
    for number in (0, 1, 2):
        store.save_trial(a_trial(number=number), 0)
    assert [row.value.number for row in store.list_trials(a_study().study_id)] == [0, 1, 2]


def test_only_unapplied_improvements_wait_to_be_applied_oldest_first(store: Store) -> None:
    applied = a_recommendation(applied_revision=a_revision().revision_id)
    for study in (
        an_applicable_study("st-1"),
        an_applicable_study("st-2", apply_when_done=False),
        an_applicable_study("st-3", recommendation=a_recommendation(improvement=False)),
        an_applicable_study("st-4", recommendation=applied),
        an_applicable_study("st-5"),
    ):
        store.save_study(study, 0)
    assert [row.value.study_id for row in store.studies_to_apply()] == ["st-1", "st-5"]


def test_a_revision_is_kept_once_and_never_changed(store: Store) -> None:
    revision = a_revision(EngineConfig(flags={"max-num-seqs": 8}))
    store.add_revision(revision)
    store.add_revision(revision.evolve(created_at=after(60)))
    assert store.get_revision(revision.revision_id) == revision
    assert list(store.list_revisions(CHAT)) == [revision]


def test_a_service_has_one_unfinished_rollout(store: Store) -> None:
    version = store.save_rollout(a_rollout(), 0)
    with pytest.raises(Conflict, match="ro-1"):
        store.save_rollout(a_rollout(rollout_id=RolloutId("ro-2")), 0)
    store.save_rollout(a_rollout(state=RolloutState.ABORTED), version)
    store.save_rollout(a_rollout(rollout_id=RolloutId("ro-2")), 0)
    assert [row.value.rollout_id for row in store.list_rollouts(CHAT)] == ["ro-2", "ro-1"]


def test_schedules_are_kept_per_service_and_deleted_by_name(store: Store) -> None:
    schedule = Schedule(service=CHAT, spec=ScheduleSpec(name="weekly", cron="0 2 * * SUN"), next_at=after(60))
    store.save_schedule(schedule, 0)
    assert [row.value for row in store.list_schedules(CHAT)] == [schedule]
    assert not store.list_schedules(ServiceName("other"))
    store.delete_schedule(CHAT, "weekly", events=[_event("schedule.deleted")])
    store.delete_schedule(CHAT, "weekly", events=[_event("schedule.deleted")])
    assert not store.list_schedules()
    assert [event.action for event in store.list_events()] == ["schedule.deleted"]


def test_a_service_and_its_schedules_are_saved_together_or_not_at_all(store: Store) -> None:
    first, second = (
        Schedule(service=CHAT, spec=ScheduleSpec(name=name, cron="0 2 * * SUN"), next_at=after(60))
        for name in ("first", "second")
    )
    store.save_service(a_service(), 0, schedules=[Versioned(first, 0)], events=[_event("one")])
    moved, larger = first.evolve(next_at=after(120)), a_service(stable_replicas=3)
    for version, of_second in ((1, 7), (9, 0)):
        rows = [Versioned(moved, 1), Versioned(second, of_second)]
        with pytest.raises(StaleVersion):
            store.save_service(larger, version, schedules=rows, events=[_event("two")])
    assert store.get_service(CHAT) == (a_service(), 1)
    assert list(store.list_schedules()) == [(first, 1)]
    store.save_service(larger, 1, schedules=[Versioned(moved, 1), Versioned(second, 0)], events=[_event("three")])
    assert store.get_service(CHAT) == (larger, 2)
    assert {(row.value, row.version) for row in store.list_schedules()} == {(moved, 2), (second, 1)}
    assert [event.action for event in store.list_events()] == ["three", "one"]


def test_load_reports_read_back_with_their_moment(store: Store) -> None:
    report = a_load_report()
    store.add_load_report("lr-1", None, report, NOW)
    store.add_load_report("lr-2", CHAT, report, after(1))
    assert store.get_load_report("lr-1") == report
    assert [(name, at) for name, at, _ in store.list_load_reports()] == [("lr-2", after(1)), ("lr-1", NOW)]
    assert [name for name, _, _ in store.list_load_reports(CHAT)] == ["lr-2"]


def test_numbers_are_never_given_twice(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda _: store.next_number("routing"), range(40)))
    assert sorted(numbers) == list(range(1, 41))
    assert store.next_number("other") == 1


def test_keys_made_and_revoked_at_once_do_not_touch_each_other(store: Store) -> None:
    for number in range(6):
        make(store, f"victim-{number}")

    def act(number: int) -> None:
        if number < 6:
            revoke_key(store, f"victim-{number}", actor="x", now=after(1))
        else:
            make(store, f"new-{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(act, range(24)))
    assert {kept.key.name for kept in list_keys(store)} == {f"new-{number}" for number in range(6, 24)}
    keys, required = gateway_keys(store)
    assert (len(keys), required) == (18, True)
    assert len(store.list_events(limit=1000)) == 30


def test_a_name_is_given_to_one_key_however_many_ask_for_it(store: Store) -> None:
    def made(_: int) -> bool:
        try:
            make(store, "ana")
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(made, range(8))) == 1
    assert [event.action for event in store.list_events()] == ["key.created"]


def test_a_key_rotated_by_several_at_once_has_the_last_ones_secret(store: Store) -> None:
    make(store, "ana")

    def rotated(_: int) -> str:
        return rotate_key(store, "ana", overlap_s=60, actor="x", now=NOW).secret

    with ThreadPoolExecutor(2) as pool:
        secrets = list(pool.map(rotated, range(2)))
    valid = [secret for secret in secrets if key_for(list_keys(store), secret, NOW)]
    assert len(valid) == 2  # the other one is the old secret of the last
    assert sum(key_for(list_keys(store), secret, after(60)) is not None for secret in secrets) == 1


def make(store: Store, name: str) -> None:
    create_key(store, name, Grant(), actor="x", now=NOW)


def test_a_setting_is_what_was_written_last(store: Store) -> None:
    assert store.read_setting("odd") is None
    first = store.write_setting("odd", "[]", 0)
    second = store.write_setting("odd", '["é"]', first)
    assert store.read_setting("odd") == ('["é"]', second)
    for stale in (0, first, second + 1):
        with pytest.raises(StaleVersion, match="odd"):
            store.write_setting("odd", "lost", stale)
    assert store.read_setting("odd") == ('["é"]', second)


def test_a_replay_is_what_was_kept_as_one_whatever_reports_are_called(store: Store) -> None:
    point = ReplayPoint(service=CHAT, schedule="nightly", number=3, regressed=True)
    store.add_load_report("replay.x", CHAT, a_load_report(), NOW)
    store.add_load_report("replay.chat.nightly.3", CHAT, a_load_report(), NOW, replay=point)
    store.add_load_report("replay.chat.nightly.x.worse", CHAT, a_load_report(), after(1))
    assert [(found.report_id, found.point) for found in store.list_replays()] == [("replay.chat.nightly.3", point)]
    assert not store.list_replays(ServiceName("other"))
    assert len(store.list_load_reports()) == 3


def _event(action: str, subject: str = "service/chat", at: datetime = NOW) -> Event:
    return Event(at=at, actor="cli", action=action, subject=subject, service="chat")
