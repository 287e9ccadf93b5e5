"""The twin of the engine that a trial measures: what its levels tell, and when it has no opinion."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.studies.study import Trial, TrialKind
from controlplane.services.studies.trial_plan import seed_of, workload_of
from controlplane.services.studies.trial_twin import TrialTwin, trial_twin
from tests.unit.studies.study_world import World, pending, service_spec, trials


def a_twin(world: World, trial: Trial) -> TrialTwin:
    workload, seed = workload_of(world.spec, trial), seed_of(world.spec, trial, tuple(trials(world)))
    found = trial_twin(world.spec, trial.config, workload, seed=seed, start_rps=5.0)
    assert found is not None
    return found


def test_the_levels_of_a_study_lead_their_twins_to_the_capacities_it_found(tmp_path: Path) -> None:
    world = World(tmp_path, noise=0.03)
    pending(world)
    world.runner().run_next()
    measured = [t for t in trials(world) if t.capacity is not None and t.kind is not TrialKind.CONFIRM_FLEET]
    assert len(measured) >= 3
    for trial in measured:
        twin = a_twin(world, trial)
        told = [twin.see(level) for level in trial.levels]
        assert told[-1] == pytest.approx(trial.capacity.rps, rel=0.1)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"name": "chat", "path": "some-org/unknown-model"}},
        {"model": {"name": "llama-70b", "path": "llama-70b"}},  # does not fit on one GPU
        {"gpus": {"type": "unheard-of", "count": 4, "price_usd_per_gpu_hour": 4}},
    ],
)
def test_an_engine_that_no_profile_fits_has_no_twin(changes: dict[str, object]) -> None:
    spec = service_spec(**changes)
    config = EngineConfig(flags={"max-model-len": 8192})
    assert trial_twin(spec, config, spec.workload, seed=1, start_rps=5.0) is None


def test_requests_that_the_engine_refuses_leave_it_without_an_opinion(tmp_path: Path) -> None:
    world = World(tmp_path)
    pending(world)
    world.runner().run_next()
    level = trials(world)[0].levels[0]
    short = EngineConfig(flags={"max-model-len": 64})
    twin = trial_twin(world.spec, short, world.spec.workload, seed=1, start_rps=5.0)
    assert twin is not None
    assert twin.see(level) is None
