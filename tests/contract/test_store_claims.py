"""Who works on a study, and that nobody is told so twice: one suite for the fake, SQLite and PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from controlplane.domain.errors import StaleVersion
from controlplane.domain.studies.study import StudyState
from controlplane.ports.store import Store
from tests.builders_serving import (
    NOW,
    a_study,
    a_trial,
    after,
)


def test_the_oldest_pending_study_is_claimed_and_runs(store: Store) -> None:
    store.save_study(a_study("st-1", state=StudyState.PAUSED), 0)
    store.save_study(a_study("st-2"), 0)
    store.save_study(a_study("st-3"), 0)
    claimed = store.claim_study("w1", now=after(5), lease_s=30)
    assert claimed is not None
    assert claimed == store.get_study(claimed.value.study_id)
    assert (claimed.value.study_id, claimed.value.state, claimed.value.started_at) == (
        "st-2",
        StudyState.RUNNING,
        after(5),
    )


def test_a_claim_lasts_as_long_as_its_heartbeat(store: Store) -> None:
    store.save_study(a_study(), 0)
    claimed = store.claim_study("w1", now=NOW, lease_s=30)
    assert claimed is not None
    assert store.heartbeat(claimed.value.study_id, "w1", now=after(20))
    assert store.claim_study("w2", now=after(45), lease_s=30) is None
    taken = store.claim_study("w2", now=after(51), lease_s=30)
    assert taken is not None
    assert taken.value.started_at == NOW
    assert not store.heartbeat(claimed.value.study_id, "w1", now=after(52))
    assert list(store.study_claims(claimed.value.study_id)) == [("w2", after(51))]


def test_several_workers_hold_one_study_and_the_lost_are_dropped_by_whoever_joins(store: Store) -> None:
    store.save_study(a_study(), 0)
    study_id = a_study().study_id
    first = store.join_study(study_id, "w1", now=NOW, lease_s=30)
    assert first is not None
    assert first == store.get_study(study_id)
    assert (first.value.state, first.value.started_at) == (StudyState.RUNNING, NOW)
    second = store.join_study(study_id, "w2", now=after(20), lease_s=30)
    assert second is not None
    assert second.value.started_at == NOW
    assert list(store.study_claims(study_id)) == [("w1", NOW), ("w2", after(20))]
    assert store.claim_study("w3", now=after(40), lease_s=30) is None  # w2 lives
    assert store.join_study(study_id, "w3", now=after(40), lease_s=30) is not None
    assert list(store.study_claims(study_id)) == [("w2", after(20)), ("w3", after(40))]
    assert not store.heartbeat(study_id, "w1", now=after(41))
    store.release_study(study_id, "w3")
    assert list(store.study_claims(study_id)) == [("w2", after(20))]


def test_a_worker_that_joins_again_renews_its_claim(store: Store) -> None:
    store.save_study(a_study(), 0)
    for seconds in (0, 5):
        assert store.join_study(a_study().study_id, "w1", now=after(seconds), lease_s=30) is not None
    assert list(store.study_claims(a_study().study_id)) == [("w1", after(5))]


@pytest.mark.parametrize("state", [StudyState.PAUSED, StudyState.DONE, StudyState.ABORTED, None])
def test_a_study_that_is_not_to_be_worked_on_is_not_joined(store: Store, state: StudyState | None) -> None:
    if state is not None:
        store.save_study(a_study(state=state), 0)
    assert store.join_study(a_study().study_id, "w1", now=NOW, lease_s=30) is None
    assert not store.study_claims(a_study().study_id)


def test_a_trial_number_is_taken_once_however_many_workers_begin_it(store: Store) -> None:
    def begins(worker: int) -> bool:
        try:
            store.save_trial(a_trial(number=0, worker=f"w{worker}"), 0)
        except StaleVersion:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(begins, range(8))) == 1
    assert len(store.list_trials(a_study().study_id)) == 1


def test_a_released_running_study_can_be_claimed_at_once(store: Store) -> None:
    store.save_study(a_study(), 0)
    claimed = store.claim_study("w1", now=NOW, lease_s=30)
    assert claimed is not None
    store.release_study(claimed.value.study_id, "somebody else")
    assert store.claim_study("w2", now=NOW, lease_s=30) is None
    store.release_study(claimed.value.study_id, "w1")
    assert not store.study_claims(claimed.value.study_id)
    assert store.claim_study("w2", now=NOW, lease_s=30) is not None


def test_a_study_is_claimed_once_however_many_claim_at_once(store: Store) -> None:
    for again in range(10):  # the race that this is about is not lost every time
        for number in range(6):
            store.save_study(a_study(f"st-{again}-{number}"), 0)
        with ThreadPoolExecutor(8) as pool:
            claims = list(pool.map(lambda n: store.claim_study(f"w{n}", now=NOW, lease_s=30), range(8)))
        taken = [claim.value.study_id for claim in claims if claim is not None]
        assert len(set(taken)) == len(taken)
        pending = [s for s in store.list_studies() if s.value.state is StudyState.PENDING]
        assert len(taken) + len(pending) == 6
        while store.claim_study("cleaner", now=NOW, lease_s=30) is not None:
            pass
