"""Which study speaks for a revision: the newest that measured just this one, a confirmation before a trial."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.operations.replica_capacity import Source
from controlplane.domain.service import EmulatorOptions, ModelSpec
from controlplane.domain.start_budget import start_budget_s
from controlplane.domain.studies.capacity import Capacity, FleetSize
from controlplane.domain.studies.study import Confirmed
from controlplane.services.capacities import keep_revision, measured_capacity, with_start_budget
from tests.builders_serving import NOW, a_recommendation, a_revision, a_spec, a_study, a_trial
from tests.fakes.store import FakeStore

BETTER = EngineConfig(flags={"max-num-seqs": 64})
OTHER_GPU = a_spec().gpus.evolve(type="H100")
SLOWER = a_spec().engine.evolve(emulator=EmulatorOptions(startup_s=0, time_lapse=2))


def cap(rps: float) -> Capacity:
    return Capacity(rps=rps, low_rps=0.9 * rps, high_rps=1.1 * rps)


def test_nobody_measured_it() -> None:
    store = FakeStore()
    store.save_study(a_study(), 0)
    store.save_trial(a_trial(config=BETTER, capacity=cap(7)), 0)
    assert measured_capacity(store, a_revision()) is None


def test_the_trial_with_the_highest_rate_speaks_and_every_start_counts() -> None:
    store = FakeStore()
    store.save_study(a_study(), 0)
    for number, (rps, startup_s) in enumerate([(6, 70), (7, 190), (5, 65)]):
        store.save_trial(a_trial(number=number, config=BETTER, capacity=cap(rps), startup_s=startup_s), 0)
    found = measured_capacity(store, a_revision(BETTER))
    assert found is not None
    assert (found.source, found.rate_rps.value) == (Source.TRIAL, 7)
    assert found.startup_s is not None
    assert found.startup_s.value == 70
    assert found.revision == a_revision(BETTER).revision_id


def test_a_confirmation_goes_before_a_trial_and_a_newer_study_before_an_older() -> None:
    store = FakeStore()
    found = a_recommendation("st-1")
    confirmed = Confirmed(capacity=cap(6.5), fleet=FleetSize(replicas=2, gpus=2, usd_per_hour=6))
    evidence = found.evidence.evolve(confirmed_winner=confirmed)
    store.save_study(a_study("st-1", recommendation=found.evolve(evidence=evidence)), 0)
    store.save_trial(a_trial("st-1", config=BETTER, capacity=cap(9)), 0)
    first = measured_capacity(store, a_revision(BETTER))
    assert first is not None
    assert (first.source, first.rate_rps.value) == (Source.CONFIRMED, 6.5)
    store.save_study(a_study("st-2", created_at=NOW + timedelta(days=1)), 0)
    store.save_trial(a_trial("st-2", config=BETTER, capacity=cap(4)), 0)
    second = measured_capacity(store, a_revision(BETTER))
    assert second is not None
    assert second.rate_rps.value == 4


def test_another_models_figures_are_not_this_ones() -> None:
    store = FakeStore()
    other = a_spec(model=ModelSpec(name="llama-8b", path="llama-70b"))
    store.save_study(a_study(spec=other), 0)
    store.save_trial(a_trial(config=BETTER, capacity=cap(7)), 0)
    assert measured_capacity(store, a_revision(BETTER)) is None


def test_a_new_revision_may_take_three_times_the_longest_start_that_trials_saw() -> None:
    store = FakeStore()
    store.save_study(a_study(), 0)
    for number, startup_s in enumerate([70, 190, 65]):
        store.save_trial(a_trial(number=number, config=BETTER, startup_s=startup_s), 0)
    assert keep_revision(store, a_revision(BETTER), a_spec()).start_budget_s == 570


def test_a_start_that_somebody_declares_to_be_longer_counts_where_one_was_seen() -> None:
    store, slow = FakeStore(), a_spec(autoscale={"startup_s": 250})
    store.save_study(a_study(), 0)
    store.save_trial(a_trial(config=BETTER, startup_s=120), 0)
    assert keep_revision(store, a_revision(BETTER), slow).start_budget_s == 750
    assert keep_revision(store, a_revision(), slow).start_budget_s is None


def test_a_revision_keeps_the_budget_it_was_named_with_whatever_is_measured_later() -> None:
    store = FakeStore()
    store.save_study(a_study(), 0)
    unmeasured = keep_revision(store, a_revision(), a_spec())
    store.save_trial(a_trial(config=BETTER, startup_s=120), 0)
    first = keep_revision(store, a_revision(BETTER), a_spec())
    store.save_trial(a_trial(number=1, config=BETTER, startup_s=200), 0)
    store.save_trial(a_trial(number=2, config=EngineConfig(), startup_s=200), 0)
    assert keep_revision(store, a_revision(BETTER), a_spec()) == first == store.get_revision(first.revision_id)
    assert first.start_budget_s == 360
    assert unmeasured.start_budget_s is None
    assert keep_revision(store, a_revision(), a_spec()) == unmeasured
    assert with_start_budget(store, a_revision(BETTER), a_spec()) == first  # what a worker commits


@pytest.mark.parametrize("other", [{"gpus": OTHER_GPU}, {"engine": SLOWER}], ids=["GPU", "pace"])
def test_starts_on_other_gpus_or_at_another_pace_give_no_budget(other: dict[str, Any]) -> None:
    store = FakeStore()
    store.save_study(a_study(spec=a_spec(**other)), 0)
    store.save_trial(a_trial(config=BETTER, startup_s=120), 0)
    assert keep_revision(store, a_revision(BETTER), a_spec()).start_budget_s is None


@pytest.mark.parametrize(
    ("longest_s", "ceiling_s", "budget_s"),
    [(2, 900, 300), (99, 900, 300), (100, 900, 300), (101, 900, 303), (300, 900, 900), (301, 900, 900), (120, 60, 60)],
)
def test_a_start_budget_lies_between_its_floor_and_what_was_declared(
    longest_s: float, ceiling_s: float, budget_s: float
) -> None:
    assert start_budget_s(longest_s, ceiling_s=ceiling_s) == budget_s
