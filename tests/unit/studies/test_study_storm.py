"""A study in a storm: a quarter of the space runs out of memory, engines die at random, measurements are noisy."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from controlplane.domain.base import EngineId, StudyId
from controlplane.domain.engines.fleet import Engine, EngineState
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.studies.study import Study, StudyState, Trial, TrialKind, TrialState
from tests.fakes.fleet import FakeClock, FakeFleet
from tests.fakes.twin_load import TwinLoadTester
from tests.unit.studies.study_world import World, service_spec
from tuner.answer.attempts import MAX_ATTEMPTS

STUDY = StudyId("chat-1")
SPACE: dict[str, dict[str, list[str | int | None]]] = {
    "quantization": {"choices": [None, "fp8"]},
    "max-num-seqs": {"choices": [64, 128, 256, 512]},
    "max-num-batched-tokens": {"choices": [1024, 2048, 4096, 8192]},
}


class StormyFleet(FakeFleet):
    """Runs out of memory where 256 sequences are allowed (no memory model says so); kills a share of its engines."""

    def __init__(self, *, gpus: int, clock: FakeClock, deaths: float, seed: int) -> None:
        super().__init__(gpus=gpus, clock=clock)
        self._deaths = deaths
        self._random = random.Random(seed)

    def observe(self, engine_id: EngineId) -> Engine:
        engine = super().observe(engine_id)
        if engine.state is EngineState.READY and engine.spec.config.flags.get("max-num-seqs") == 256:
            return self._keep(
                engine.evolve(state=EngineState.FAILED, failure=StartFailure.OUT_OF_MEMORY, failure_detail="CUDA OOM")
            )
        if engine.state is EngineState.READY and self._random.random() < self._deaths:
            self.crash(engine_id)
            return super().observe(engine_id)
        return engine


def stormy(folder: Path, *, deaths: float, seed: int) -> World:
    tuning = {"space": SPACE, "budget": {"engine_starts": 24}, "levels": {"min_s": 10, "max_s": 20, "precision": 0.1}}
    world = World(folder, spec=service_spec(tuning=tuning))
    world.fleet = StormyFleet(gpus=4, clock=world.clock, deaths=deaths, seed=seed)
    world.load = TwinLoadTester(
        world.fleet, world.clock, gpu="H200", gateways=world.gateways, noise=0.03, breaks=0.01, seed=seed
    )
    study = Study(
        study_id=STUDY,
        service=world.spec.service,
        spec=world.spec,
        baseline=world.spec.baseline,
        state=StudyState.PENDING,
        created_at=world.clock(),
    )
    world.store.save_study(study, 0)
    return world


def trials(world: World) -> list[Trial]:
    return [row.value for row in world.store.list_trials(STUDY)]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[World, Study | None]]:
    """Studies in three storms, each with what came of it."""
    worlds = [stormy(tmp_path_factory.mktemp(f"storm{seed}"), deaths=0.03, seed=seed) for seed in (1, 2, 3)]
    return [(world, world.runner().run_next()) for world in worlds]


def test_the_storm_is_as_bad_as_it_is_said_to_be(ran: list[tuple[World, Study | None]]) -> None:
    """A quarter of the space bursts, and over the studies something did burst and something did die."""
    sizes = SPACE["max-num-seqs"]["choices"]
    assert sizes.count(256) / len(sizes) == 0.25
    found = [trial for world, _ in ran for trial in trials(world)]
    assert any(t.start_failure is StartFailure.OUT_OF_MEMORY for t in found)
    assert any(t.start_failure is StartFailure.CRASHED for t in found)


def test_the_study_ends_with_a_configuration_that_runs(ran: list[tuple[World, Study | None]]) -> None:
    for world, study in ran:
        assert study is not None
        assert study.state is StudyState.DONE
        assert study.recommendation is not None
        assert study.recommendation.config.flags.get("max-num-seqs") != 256
        assert not world.fleet.list()


def test_a_start_out_of_memory_is_never_tried_twice_and_a_death_is_retried(
    ran: list[tuple[World, Study | None]],
) -> None:
    for world, _ in ran:
        found = trials(world)
        burst = [t for t in found if t.start_failure is StartFailure.OUT_OF_MEMORY]
        assert all(t.state is TrialState.INFEASIBLE and t.attempt == 1 for t in burst)
        assert len({t.config.content_hash() for t in burst}) == len(burst)
        died = [t for t in found if t.start_failure is StartFailure.CRASHED]
        assert all(t.attempt == MAX_ATTEMPTS and t.state is TrialState.INFEASIBLE for t in died)  # then it is a result
        kept = [t for t in found if t.kind is TrialKind.SEARCH and t.state is not TrialState.FAILED]
        searched = [t.config.content_hash() for t in kept]
        assert len(searched) == len(set(searched))
