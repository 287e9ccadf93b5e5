"""A configuration whose engines die under load: tried again as the host may be at fault, then never again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.base import EngineId
from controlplane.domain.engines.fleet import Engine, EngineState
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.studies.study import StudyState, TrialState
from tests.fakes.fleet import FakeClock, FakeFleet
from tests.fakes.twin_load import TwinLoadTester
from tests.unit.studies.study_world import SHORT, World, pending, service_spec, trials
from tuner.answer.attempts import MAX_ATTEMPTS

DYING = 256  # sequences at once
SPACE = {"max-num-seqs": {"choices": [64, 128, DYING]}, "max-num-batched-tokens": {"choices": [2048, 8192]}}


class DyingFleet(FakeFleet):
    """Engines that take so many sequences become ready, and are gone at the second look under load."""

    def __init__(self, *, clock: FakeClock, failure: StartFailure) -> None:
        super().__init__(gpus=4, clock=clock)
        self._failure = failure
        self._looks: dict[EngineId, int] = {}

    def observe(self, engine_id: EngineId) -> Engine:
        engine = super().observe(engine_id)
        if engine.state is not EngineState.READY or engine.spec.config.flags.get("max-num-seqs") != DYING:
            return engine
        looks = self._looks[engine_id] = self._looks.get(engine_id, 0) + 1
        if looks < 2:
            return engine
        gone: dict[str, Any] = {"state": EngineState.FAILED, "failure": self._failure, "failure_detail": "no memory"}
        return self._keep(engine.evolve(**gone))


@pytest.mark.parametrize(
    ("failure", "attempts"), [(StartFailure.CRASHED, MAX_ATTEMPTS), (StartFailure.OUT_OF_MEMORY, 1)]
)
def test_what_dies_under_load_is_infeasible_and_never_proposed_again(
    failure: StartFailure, attempts: int, tmp_path: Path
) -> None:
    tuning = {"space": SPACE, "budget": {"engine_starts": 16}, "levels": SHORT}
    world = World(tmp_path, spec=service_spec(tuning=tuning))
    world.fleet = DyingFleet(clock=world.clock, failure=failure)
    world.load = TwinLoadTester(world.fleet, world.clock, gpu="H200", gateways=world.gateways, seed=1)
    pending(world)
    study = world.runner().run_next()
    died = [trial for trial in trials(world) if trial.config.flags.get("max-num-seqs") == DYING]
    assert died
    assert {(trial.state, trial.start_failure, trial.attempt) for trial in died} == {
        (TrialState.INFEASIBLE, failure, attempts)
    }
    assert all("died under load" in (trial.reason or "") for trial in died)
    assert len({str(sorted(trial.config.flags.items())) for trial in died}) == len(died)
    assert study is not None
    assert study.state is StudyState.DONE
    assert study.recommendation is not None
    assert study.recommendation.config.flags.get("max-num-seqs") != DYING
    assert world.fleet.list() == []
