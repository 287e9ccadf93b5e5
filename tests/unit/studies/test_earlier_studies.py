"""What an earlier study is good for: a prior of a new one, and never a study to go on with on other hardware."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.base import ServiceName, StudyId
from controlplane.domain.errors import Conflict, InvalidInput
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.study import Study, StudyState, TrialKind
from controlplane.services.studies.manage import check_resumable, create_study, resume_study
from controlplane.services.studies.search import open_search
from tests.unit.studies.study_world import World, service_spec
from tuner.search.advisor import advise
from tuner.search.candidates import Tried

CHAT = ServiceName("chat")


def _created(world: World, warm_start: StudyId | None = None) -> Study:
    return create_study(world.store, service=CHAT, actor="ops", now=world.clock(), warm_start=warm_start)


def _register(world: World, spec: ServiceSpec) -> None:
    service, version = world.store.get_service(CHAT)
    world.store.save_service(service.evolve(spec=spec), version)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gpus": {"type": "H100", "count": 4, "price_usd_per_gpu_hour": 4}}, "GPU H200, now H100"),
        (
            {"engine": {"kind": "emulator", "version": "0.33", "flags": {"max-model-len": 8192}}},
            "engine version 0.26, now 0.33",
        ),
    ],
)
def test_a_study_is_not_gone_on_with_on_another_gpu_or_engine_version(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    world = World(tmp_path)
    study = _created(world)
    saved, version = world.store.get_study(study.study_id)
    world.store.save_study(saved.evolve(state=StudyState.PAUSED), version)
    _register(world, service_spec(**change))
    with pytest.raises(Conflict, match=said) as refused:
        resume_study(world.store, study.study_id, actor="ops", now=world.clock())
    assert f"--warm-start {study.study_id}" in str(refused.value)
    assert world.store.get_study(study.study_id).value.state is StudyState.PAUSED


def test_a_study_is_gone_on_with_when_only_limits_or_traffic_changed(tmp_path: Path) -> None:
    study = _created(World(tmp_path))
    check_resumable(study, service_spec(tuning={"budget": {"engine_starts": 20}}))


def test_an_earlier_study_is_a_prior_and_counts_as_nothing_measured(tmp_path: Path) -> None:
    world = World(tmp_path)
    first = _created(world)
    assert world.runner().run_next() is not None
    second = _created(world, warm_start=first.study_id)
    assert second.warm_start is not None
    assert second.warm_start.study_id == first.study_id
    assert second.warm_start.capacities
    earlier = open_search(second, storage_url=None).among.earlier
    assert len(earlier) == len(second.warm_start.capacities)
    done = world.runner().run_next()
    assert done is not None
    assert done.state is StudyState.DONE
    trials = [row.value for row in world.store.list_trials(second.study_id)]
    assert trials[0].kind is TrialKind.BASELINE  # measured again, whatever is known of it
    assert done.recommendation is not None
    assert set(done.recommendation.evidence.trial_ids) <= {trial.trial_id for trial in trials}
    assert done.recommendation.improvement


def test_what_an_earlier_study_found_cheapest_is_tried_first_but_is_not_the_best_known(tmp_path: Path) -> None:
    among = open_search(_created(World(tmp_path)), storage_url=None).among._replace(outlook=None)
    baseline, good = among.points[0], among.points[-1]
    tried = [Tried(baseline, log_cost=0.0)]
    unaware = advise(among, tried, worthwhile=0.006)
    aware = advise(among._replace(earlier=[Tried(baseline, 0.0), Tried(good, -1.0)]), tried, worthwhile=0.006)
    assert unaware.row != len(among.points) - 1
    assert aware.row == len(among.points) - 1
    assert aware.expected_log_cost is not None
    assert -1.0 < aware.expected_log_cost < 0  # wide noise: believed in part


def test_a_study_without_capacities_or_of_another_service_is_no_prior(tmp_path: Path) -> None:
    world = World(tmp_path)
    empty = _created(world)
    with pytest.raises(InvalidInput, match="measured no capacity"):
        _created(world, warm_start=empty.study_id)
    foreign = empty.evolve(study_id=StudyId("other-1"), service=ServiceName("other"))
    world.store.save_study(foreign, 0)
    with pytest.raises(InvalidInput, match="another service's"):
        _created(world, warm_start=foreign.study_id)
