"""A study that tries a second engine beside the service's own, on the twin and a fake clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from controlplane.domain.engines.engine import ENGINE, EngineKind
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.answer import Answer
from controlplane.domain.studies.study import Study, TrialState
from controlplane.services.rollouts.manage import revision_of
from tests.unit.studies.study_world import LONG, SHORT, World, pending, service_spec, trials


def spec_of(*, levels: Any, checked: bool, starts: int) -> ServiceSpec:
    raw = service_spec().model_dump(mode="json")
    raw["tuning"] |= {
        "space": {"max-num-seqs": {"choices": [64, 256]}},
        "levels": levels,
        "budget": {"engine_starts": starts},
        "quality": {"enabled": checked},
        "confirm_fleet": False,
    }
    raw["slos"]["target_qps"] = 40  # three replicas of the service's own engine, two of a faster one
    raw["alternatives"] = {
        "sglang": {"engine": {"kind": "sglang"}, "space": {"max-running-requests": {"choices": [64, 256]}}}
    }
    return ServiceSpec.model_validate(raw)


def ran(world: World) -> Study:
    pending(world)
    study = world.runner().run_next()
    assert study is not None
    return study


def test_the_second_engine_wins_where_it_is_faster_and_its_flags_say_so(tmp_path: Path) -> None:
    spec = spec_of(levels=LONG, checked=False, starts=7)
    world = World(tmp_path, spec=spec, speeds={EngineKind.SGLANG: 4.0})
    study = ran(world)
    assert study.recommendation is not None
    assert study.recommendation.answer in (Answer.IMPROVEMENT, Answer.IMPROVEMENT_UNCHECKED)
    config = study.recommendation.config
    assert config.flags[ENGINE] == "sglang"
    assert "max-num-seqs" not in config.flags
    assert study.recommendation.evidence.cost_ratio < 1
    assert {trial.config.alternative for trial in trials(world)} == {None, "sglang"}
    revision = revision_of(spec, config, now=world.clock())
    assert (revision.engine.kind, revision.model) == (EngineKind.SGLANG, spec.model)
    assert study.plan is not None
    assert "SGLang has no twin" in (study.plan.note or "")


def test_another_engine_is_only_as_good_as_its_answers(tmp_path: Path) -> None:
    """Nothing here can compare its answers, so however cheap it is it does not win."""
    world = World(tmp_path, spec=spec_of(levels=SHORT, checked=True, starts=6), speeds={EngineKind.SGLANG: 2.0})
    study = ran(world)
    others = [trial for trial in trials(world) if trial.config.alternative == "sglang"]
    assert others
    assert all(trial.state is TrialState.INFEASIBLE for trial in others)
    assert any("answers differ" in (trial.reason or "") for trial in others)
    assert study.recommendation is None or study.recommendation.config.alternative is None
