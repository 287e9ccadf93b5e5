"""Trials run on spot GPUs where the service says so, and none is ruled out by being taken back."""

from __future__ import annotations

import pytest

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.operations.spot import SpotOptions
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.study import Trial, TrialState
from controlplane.services.studies.trial_engine import free_for_trials
from tests.builders_serving import a_spec, a_trial
from tests.fakes.fleet import FakeClock, FakeFleet
from tests.fakes.trial_engines import trial_engines
from tuner.answer.attempts import MAX_ATTEMPTS, after_last_attempt

SPOT = a_spec(spot=SpotOptions(trials=True))


class Bench:
    """A fleet of GPUs 0 and 1, of which 1 is spot, and what ran on it."""

    def __init__(self, *, gpus: int = 2) -> None:
        self.clock = FakeClock()
        self.fleet = FakeFleet(gpus=gpus, clock=self.clock, spot={1})
        self.ran: list[bool] = []

    def run(self, spec: ServiceSpec, *, attempt: int = 1, gpus: int = 1, taken_back: bool = False) -> Trial:
        engines = trial_engines(self.fleet, self.clock, self.clock.go_on)

        def measure(trial: Trial, running: list[Engine]) -> Trial:
            self.ran += [each.spec.spot for each in running]
            if taken_back:
                self.fleet.crash(running[0].spec.engine_id)
            return engines.died(trial, running) or trial.evolve(state=TrialState.FEASIBLE)

        config = EngineConfig(flags={"tensor-parallel-size": gpus})
        trial = a_trial(state=TrialState.RUNNING, attempt=attempt, config=config)
        return engines.run(trial, spec, measure)  # type: ignore[arg-type]


def test_a_trial_takes_a_spot_gpu_where_the_service_says_so() -> None:
    bench = Bench()
    bench.run(SPOT)
    bench.run(a_spec(spot=SpotOptions()))
    bench.run(a_spec())
    assert bench.ran == [True, False, False]
    assert [free_for_trials(bench.fleet, spec) for spec in (SPOT, a_spec(spot=SpotOptions()), a_spec())] == [2, 1, 1]


def test_without_a_free_spot_gpu_it_runs_on_demand() -> None:
    bench = Bench()
    bench.fleet.leaving = {1}
    assert bench.run(SPOT).state is TrialState.FEASIBLE
    assert bench.ran == [False]


def test_one_that_does_not_fit_on_spot_gpus_runs_on_demand() -> None:
    bench = Bench(gpus=3)
    assert bench.run(SPOT, gpus=2).state is TrialState.FEASIBLE
    assert bench.ran == [False]


def test_one_that_is_taken_back_is_tried_again_and_at_last_on_demand() -> None:
    bench = Bench()
    for attempt in range(1, MAX_ATTEMPTS):
        lost = after_last_attempt(bench.run(SPOT, attempt=attempt, taken_back=True))
        assert lost.state is TrialState.FAILED
        assert "may have been taken back" in (lost.reason or "")
    assert bench.run(SPOT, attempt=MAX_ATTEMPTS).state is TrialState.FEASIBLE
    assert bench.ran == [True] * (MAX_ATTEMPTS - 1) + [False]


@pytest.mark.parametrize("attempt", [1, MAX_ATTEMPTS])
def test_a_death_on_demand_says_nothing_of_spot(attempt: int) -> None:
    died = Bench().run(a_spec(), attempt=attempt, taken_back=True)
    assert "spot" not in (died.reason or "")
