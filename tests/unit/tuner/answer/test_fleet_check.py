"""The recommended replicas together, behind a gateway: what is checked, what comes of it, and when it is not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.base import EngineId
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.fleet import EngineSpec
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.answer import Answer
from controlplane.domain.studies.study import FleetCheck, Study, StudyState, Trial, TrialKind, TrialState
from controlplane.services.studies.run_study import StudyProgress
from tests.unit.studies.study_world import Killed, World, pending, service_spec, trials

LEVELS: Mapping[str, Any] = {"min_s": 10, "max_s": 20, "warmup_s": 1, "precision": 0.2}
SPACE: Mapping[str, Any] = {"quantization": {"choices": [None, "fp8"]}}  # one candidate is enough here
SLOW = 30.0


def finished(world: World) -> Study:
    pending(world)
    study = world.runner().run_next()
    assert study is not None
    assert not world.fleet.list()
    return study


def check_of(study: Study) -> FleetCheck | None:
    assert study.recommendation is not None
    return study.recommendation.evidence.fleet_check


def checks(world: World) -> list[Trial]:
    return [trial for trial in trials(world) if trial.kind is TrialKind.CONFIRM_FLEET]


def tuned(**tuning: Any) -> ServiceSpec:
    base = {"space": SPACE, "budget": {"engine_starts": 10}, "levels": LEVELS}
    return service_spec(tuning=base | tuning)


def large() -> ServiceSpec:
    """Return a fleet so large that one more replica of the winner is still cheaper than the baseline's."""
    spec = tuned(budget={"engine_starts": 40})
    return spec.evolve(slos=spec.slos.evolve(target_qps=160), gpus=spec.gpus.evolve(count=16))


def test_recommended_replicas_are_loaded_together_with_the_target_rate(tmp_path: Path) -> None:
    world = World(tmp_path, spec=tuned())
    study = finished(world)
    (trial,) = checks(world)
    check = check_of(study)
    assert check is not None
    assert check.held
    assert check.rate_rps == world.spec.slos.target_qps
    assert study.recommendation is not None
    assert trial.replicas == check.replicas == study.recommendation.fleet.replicas == 2
    assert trial.config == study.recommendation.config
    assert world.load.levels[-1].url == "http://gateway-1"
    assert "behind a gateway, they held 46 requests/s" in study.recommendation.summary


def test_cost_per_token_of_the_check_is_by_what_the_fleet_served(tmp_path: Path) -> None:
    world = World(tmp_path, spec=tuned())
    finished(world)
    (trial,) = checks(world)
    report = trial.levels[0].report
    assert trial.fleet is not None
    expected = trial.fleet.usd_per_hour / ((report.prompt_tps + report.output_tps) * 3600) * 1e6
    assert trial.usd_per_million_tokens == pytest.approx(expected)


def test_a_fleet_that_misses_the_target_gets_one_more_replica(tmp_path: Path) -> None:
    world = World(tmp_path, spec=large())
    world.gateways.slower = [SLOW]
    study = finished(world)
    (trial,) = checks(world)
    sizes = [level.replicas for level in trial.levels]
    assert trial.state is TrialState.FEASIBLE
    assert [level.passed for level in trial.levels if level.replicas == sizes[0]][-1] is False
    assert study.recommendation is not None
    assert sizes[0] is not None
    assert trial.replicas == sizes[0] + 1 == study.recommendation.fleet.replicas


def test_the_engine_that_joins_starts_alone(tmp_path: Path) -> None:
    world = World(tmp_path, spec=large())
    world.gateways.slower = [SLOW]
    seen: list[str] = []
    pending(world)
    world.runner(on_progress=lambda progress: seen.append(progress.message)).run_next()
    (trial,) = checks(world)
    starting = [message for message in dict.fromkeys(seen) if message.startswith("starting")]
    assert f"starting {trial.replicas - 1} engines" in starting
    assert f"starting {trial.replicas} engines" not in starting
    assert not world.fleet.list()


def test_a_fleet_that_misses_the_target_at_every_size_is_never_called_proved(tmp_path: Path) -> None:
    world = World(tmp_path, spec=large())
    world.gateways.slower = [SLOW] * 20
    study = finished(world)
    assert {trial.state for trial in checks(world)} == {TrialState.INFEASIBLE}
    assert study.recommendation is not None
    assert study.recommendation.answer is not Answer.IMPROVEMENT
    assert study.recommendation.fleet.gpus <= world.spec.gpus.count


def test_live_replicas_keep_their_gpus_and_the_check_says_what_it_lacks(tmp_path: Path) -> None:
    world = World(tmp_path, spec=tuned())
    live = EngineSpec(
        engine_id=EngineId("live"),
        owner="rollout/chat/chat-1",
        kind=EngineKind.EMULATOR,
        model="llama-8b",
        served_name="llama-8b",
        config=EngineConfig(flags={"tensor-parallel-size": 2}),
        gpus=3,
    )
    world.fleet.start(live)
    pending(world)
    study = world.runner().run_next()
    assert study is not None
    check = check_of(study)
    assert check is not None
    assert check.held is None
    assert check.reason == "it needs 2 GPUs, 1 of this host are free"
    assert study.recommendation is not None
    assert study.recommendation.improvement
    assert [engine.spec.engine_id for engine in world.fleet.list()] == ["live"]


def test_a_spare_replica_runs_and_carries_nothing(tmp_path: Path) -> None:
    """N+1 is held by what is left when one is lost; with all of them loaded each would carry less than it has to."""
    world = World(tmp_path, spec=tuned(objective={"kind": "lowest_cost", "spare_replicas": 1}))
    study = finished(world)
    assert study.recommendation is not None
    check = check_of(study)
    assert check is not None
    assert check.held
    (trial,) = checks(world)
    assert check.replicas == study.recommendation.fleet.replicas == trial.held_together
    assert trial.held_together > 1
    loaded = [len(route.revisions[0].backends) for route in world.gateways.seen]
    assert set(loaded) == {(level.replicas or 0) - 1 for level in trial.levels}
    for level in trial.levels:
        assert level.spare == 1
        assert level.each_rps(trial) == level.rate_rps / ((level.replicas or 0) - 1)


def test_without_engine_starts_left_the_check_is_not_made(tmp_path: Path) -> None:
    world = World(tmp_path, spec=tuned(budget={"engine_starts": 4}))
    study = finished(world)
    check = check_of(study)
    assert check is not None
    assert check.held is None
    assert check.reason == "the budget does not hold 2 more engine starts"
    assert study.engine_starts <= 4


def test_the_last_starts_go_to_the_check_rather_than_to_another_round(tmp_path: Path) -> None:
    study = finished(World(tmp_path, spec=tuned(budget={"engine_starts": 5})))
    check = check_of(study)
    assert check is not None
    assert check.held
    assert study.engine_starts == 5


def test_switched_off_nothing_is_checked_and_nothing_claimed(tmp_path: Path) -> None:
    world = World(tmp_path, spec=tuned(confirm_fleet=False))
    study = finished(world)
    assert check_of(study) is None
    assert not checks(world)
    assert study.recommendation is not None
    assert "gateway" not in study.recommendation.summary


def test_a_gateway_that_does_not_come_up_is_retried_and_then_said(tmp_path: Path) -> None:
    world = World(tmp_path, spec=tuned(budget={"engine_starts": 16}))
    world.gateways.breaks = True
    study = finished(world)
    check = check_of(study)
    assert world.gateways.opened == 3
    assert check is not None
    assert check.held is None
    assert "did not start" in check.reason
    assert study.recommendation is not None
    assert study.recommendation.improvement


@pytest.mark.parametrize("phase", ["starting 2 engines", "level"])
def test_a_worker_killed_in_the_check_repeats_only_the_check(tmp_path: Path, phase: str) -> None:
    world = World(tmp_path, spec=tuned(budget={"engine_starts": 12}))
    pending(world)

    def kill(progress: StudyProgress) -> None:
        trial = progress.trial
        if trial is not None and trial.kind is TrialKind.CONFIRM_FLEET and progress.message == phase:
            raise Killed

    with pytest.raises(Killed):
        world.runner("w1", on_progress=kill).run_next()
    before = {t.trial_id: t for t in trials(world) if t.state is not TrialState.RUNNING}
    world.clock.go_on(60)
    study = world.runner("w2").run_next()
    assert study is not None
    assert study.state is StudyState.DONE
    (trial,) = checks(world)
    assert trial.attempt == 2
    assert trial.state is TrialState.FEASIBLE
    assert {t.trial_id: t for t in trials(world) if t.trial_id in before} == before
    assert not world.fleet.list()


def test_baseline_and_winner_are_shown_as_measured_again_not_as_the_search_saw_them(tmp_path: Path) -> None:
    world = World(tmp_path, spec=tuned(), noise=0.05)
    study = finished(world)
    assert study.recommendation is not None
    evidence = study.recommendation.evidence
    baseline, winner = evidence.sides()
    assert winner.fleet == study.recommendation.fleet
    assert (baseline.trial.kind, winner.trial.kind) == (TrialKind.CONFIRM_BASELINE, TrialKind.CONFIRM_WINNER)
    rates = [t.capacity.rps for t in evidence.confirmations if t.kind is TrialKind.CONFIRM_WINNER and t.capacity]
    assert winner.capacity is not None
    assert winner.capacity.low_rps <= math.prod(rates) ** (1 / len(rates)) <= winner.capacity.high_rps


def test_without_improvement_the_baseline_stands_on_both_sides(tmp_path: Path) -> None:
    spec = tuned()
    world = World(tmp_path, spec=spec.evolve(slos=spec.slos.evolve(target_qps=2)))  # one replica of anything
    study = finished(world)
    assert study.recommendation is not None
    baseline, winner = study.recommendation.evidence.sides()
    assert baseline.trial.config == winner.trial.config == world.spec.baseline


def test_for_highest_goodput_all_gpus_are_loaded_up_to_the_headroom(tmp_path: Path) -> None:
    world = World(tmp_path, spec=tuned(objective={"kind": "highest_goodput"}, budget={"engine_starts": 14}))
    study = finished(world)
    check = check_of(study)
    assert study.recommendation is not None
    assert study.recommendation.evidence.confirmed_winner is not None
    capacity_rps = study.recommendation.evidence.confirmed_winner.capacity.rps
    assert check is not None
    assert check.held
    assert check.replicas == 4
    assert check.rate_rps == pytest.approx(4 * capacity_rps * 0.85, rel=0.1)  # as believed before the check
