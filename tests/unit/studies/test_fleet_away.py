"""What a trial measured is not lost because the fleet cannot be reached at its end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from controlplane.domain.base import EngineId
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.errors import Unavailable
from controlplane.domain.studies.study import Trial, TrialState
from tests.builders_serving import a_spec, a_trial
from tests.fakes.fleet import FakeClock, FakeFleet
from tests.fakes.trial_engines import trial_engines


class AwayFleet(FakeFleet):
    """One that cannot be reached until some moment."""

    away_until: datetime | None = None

    def list(self) -> Sequence[Engine]:
        self._answer()
        return super().list()

    def stop(self, engine_id: EngineId, *, drain_s: float) -> Engine:
        self._answer()
        return super().stop(engine_id, drain_s=drain_s)

    def forget(self, engine_id: EngineId) -> None:
        self._answer()
        super().forget(engine_id)

    def _answer(self) -> None:
        if self.away_until is not None and self.clock() < self.away_until:
            raise Unavailable("the API server does not answer", why="connection refused")


def measured(fleet: AwayFleet, *, away_s: float) -> Trial:
    """Return the trial whose fleet is away as long once it was measured."""
    clock = fleet.clock
    engines = trial_engines(fleet, clock, clock.go_on)

    def measure(trial: Trial, _: Sequence[Engine]) -> Trial:
        fleet.away_until = clock() + timedelta(seconds=away_s)
        return trial.evolve(state=TrialState.FEASIBLE)

    return engines.run(a_trial(state=TrialState.RUNNING), a_spec(), measure)


def test_a_trial_is_kept_whose_fleet_is_away_for_ten_seconds_at_its_end() -> None:
    fleet = AwayFleet(gpus=1, clock=FakeClock())
    assert measured(fleet, away_s=10).state is TrialState.FEASIBLE
    assert fleet.list() == []


def test_a_fleet_that_stays_away_is_said() -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        measured(AwayFleet(gpus=1, clock=FakeClock()), away_s=600)
