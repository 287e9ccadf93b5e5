"""Which study speaks for a revision: the newest that measured just this one, a confirmation before a trial."""

from __future__ import annotations

from datetime import timedelta

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.operations.replica_capacity import Source
from controlplane.domain.service import ModelSpec
from controlplane.domain.studies.capacity import Capacity, FleetSize
from controlplane.domain.studies.study import Confirmed
from controlplane.services.capacities import measured_capacity
from tests.builders_serving import NOW, a_recommendation, a_revision, a_spec, a_study, a_trial
from tests.fakes.store import FakeStore

BETTER = EngineConfig(flags={"max-num-seqs": 64})


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
