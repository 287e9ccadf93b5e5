"""Creating, pausing, resuming, aborting and applying studies; and refusing the hopeless at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.base import ServiceName, StudyId
from controlplane.domain.errors import Conflict, InvalidInput, NotFound
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.studies.study import Study, StudyState
from controlplane.domain.studies.tuning_options import Strategy
from controlplane.domain.workload import Lengths, SyntheticWorkload
from controlplane.services.studies.manage import (
    abort_study,
    apply_recommendation,
    create_study,
    pause_study,
    resume_study,
)
from tests.unit.studies.study_world import SPACE, World, service_spec
from tuner.search.search import gp_available


def created(world: World, **options: Any) -> Study:
    return create_study(world.store, service=world.spec.service, actor="me", now=world.clock(), **options)


def world_with(tmp_path: Path, **changes: Any) -> World:
    return World(tmp_path, spec=service_spec(**changes))


def test_a_created_study_waits_for_a_worker_and_says_who_asked(tmp_path: Path) -> None:
    world = World(tmp_path)
    study = created(world)
    assert study.state is StudyState.PENDING
    assert study.study_id == "chat-1"
    assert world.store.list_events(subject="study/chat-1")[0].actor == "me"


def test_overrides_hold_for_this_study_only(tmp_path: Path) -> None:
    world = World(tmp_path)
    study = created(world, overrides={"budget": {"engine_starts": 5}})
    assert study.spec.tuning.budget.engine_starts == 5
    assert study.spec.tuning.levels == world.spec.tuning.levels
    assert world.store.get_service(world.spec.service).value.spec == world.spec


def test_a_study_may_tune_for_other_traffic_than_the_services(tmp_path: Path) -> None:
    world = World(tmp_path)
    other = SyntheticWorkload(prompt_tokens=Lengths(mean=300, cv=0.5), output_tokens=Lengths(mean=40))
    assert created(world, workload=other).spec.workload == other
    assert world.store.get_service(world.spec.service).value.spec.workload == world.spec.workload != other


def test_an_unknown_override_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="unknown field"):
        created(World(tmp_path), overrides={"budgets": {}})


def test_an_unknown_service_is_not_found(tmp_path: Path) -> None:
    world = World(tmp_path)
    with pytest.raises(NotFound):
        create_study(world.store, service=ServiceName("nobody"), actor="me", now=world.clock())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tuning": {"space": SPACE, "budget": {"engine_starts": 4}}}, "the fleet's check.*5 or more; 4 with"),
        (
            {"tuning": {"space": SPACE, "budget": {"engine_starts": 3}, "confirm_fleet": False}},
            "engine starts is too small.*allowed: 4 or more\\)$",
        ),
        ({"tuning": {"space": SPACE, "budget": {"gpu_hours": 0.0001}}}, "GPU-hours is too small.*as its plan expects"),
        (
            {"tuning": {"space": SPACE, "budget": {"wall_clock_s": 5}}},
            "a budget of 5 s is too small.*about \\d{3,} s",
        ),
        (
            {"engine": {"kind": "emulator", "version": "0.26", "flags": {"tensor-parallel-size": 3}}},
            "the baseline cannot run.*attention heads cannot be divided",
        ),
        (
            {"engine": {"kind": "emulator", "version": "0.26", "flags": {"tensor-parallel-size": 16}}},
            "the baseline cannot run.*needs 16 GPUs, there are 4",
        ),
        ({"tuning": {"space": {"max-num-seq": {"choices": [1]}}}}, "did you mean --max-num-seqs"),
        ({"engine": {"kind": "emulator", "version": "0.26", "flags": {"max-nm-seqs": 1}}}, "did you mean"),
        ({"tuning": {"space": {"tensor-parallel-size": {"choices": [3]}}}}, "attention heads cannot be divided"),
        ({"tuning": {"space": {"tensor-parallel-size": {"choices": [8]}}}}, "needs 8 GPUs, there are 4"),
        (
            {
                "slos": {
                    "latency": [{"metric": "ttft_ms", "percentile": 99, "limit_ms": 0.2}],
                    "target_qps": 5,
                }
            },
            "cannot be met",
        ),
        (
            {
                "slos": {
                    "latency": [{"metric": "ttft_ms", "percentile": 99, "limit_ms": 500}],
                    "target_qps": 5,
                    "max_usd_per_hour": 1,
                }
            },
            "cannot be kept",
        ),
    ],
)
def test_the_hopeless_is_refused_before_a_gpu_is_spent(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        created(world_with(tmp_path, **changes))


@pytest.mark.skipif(gp_available(), reason="torch is here")
def test_a_strategy_that_cannot_run_here_is_refused_with_those_that_can(tmp_path: Path) -> None:
    world = World(tmp_path)
    with pytest.raises(InvalidInput, match="twin, tpe, random"):
        created(world, overrides={"strategy": "gp"})
    assert created(world, overrides={"strategy": "tpe"}).spec.tuning.strategy is Strategy.TPE


def test_pause_resume_and_abort_are_events_with_their_reason(tmp_path: Path) -> None:
    world = World(tmp_path)
    study = created(world)
    for act in (pause_study, resume_study, abort_study):
        act(world.store, study.study_id, actor="me", reason="because", now=world.clock())
    actions = [event.action for event in world.store.list_events(subject="study/chat-1")]
    assert actions[:3] == ["study.aborted", "study.resumed", "study.paused"]
    with pytest.raises(Conflict, match="is over"):
        pause_study(world.store, study.study_id, actor="me", now=world.clock())


def test_only_a_paused_or_failed_study_can_be_resumed(tmp_path: Path) -> None:
    world = World(tmp_path)
    study = created(world)
    with pytest.raises(Conflict, match="only a paused or failed study"):
        resume_study(world.store, study.study_id, actor="me", now=world.clock())


def test_a_recommendation_is_applied_once_as_a_rollout(tmp_path: Path) -> None:
    world = World(tmp_path)
    created(world)
    study = world.runner().run_next()
    assert study is not None
    rollout = apply_recommendation(world.store, study.study_id, actor="me", now=world.clock())
    assert rollout.state is RolloutState.PENDING
    assert rollout.study_id == study.study_id
    with pytest.raises(Conflict, match="applied already"):
        apply_recommendation(world.store, study.study_id, actor="me", now=world.clock())


def test_a_study_without_improvement_has_nothing_to_apply(tmp_path: Path) -> None:
    world = World(tmp_path)
    study = created(world)
    with pytest.raises(Conflict, match="nothing to apply"):
        apply_recommendation(world.store, StudyId(study.study_id), actor="me", now=world.clock())
