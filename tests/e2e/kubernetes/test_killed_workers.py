"""Workers killed with SIGKILL as processes in the middle of trials that are pods; others end their study."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import yaml

from controlplane.adapters.fleet_kubernetes.names import group_name
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.study import STUDY_FINAL, Study, StudyState, Trial, TrialKind, TrialState
from controlplane.host.clock import utc_now
from controlplane.reading.service_file import parse_service
from controlplane.services.studies.manage import create_study
from controlplane.services.studies.trial_engine import owner
from tests.e2e.loop.conftest import HANGS_S
from tests.e2e.loop.installation import SERVICE
from tests.fakes.kubernetes.pod_life import EMULATOR
from tests.integration.controller.process_site import NAMESPACE, ProcessSite

pytestmark = pytest.mark.timeout(HANGS_S)
PATIENCE_S = HANGS_S / 3

STARTS = 5  # baseline, a candidate, both again and the fleet
LEVELS = {"min_s": 4, "max_s": 8, "longest_s": 8, "warmup_s": 0, "precision": 0.6}


class Lost(NamedTuple):
    """What a worker had in hand when it was killed."""

    trial: Trial
    children: list[psutil.Process]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ProcessSite]:
    made = ProcessSite(tmp_path, described(), engine=EMULATOR)
    yield made
    made.close()


def described() -> ServiceSpec:
    tuning = SERVICE["tuning"] | {"budget": {"engine_starts": STARTS}, "levels": LEVELS}
    cluster = {"image": f"registry.example/fleetune/engine@sha256:{0:064}", "namespace": NAMESPACE}
    told = SERVICE | {"tuning": tuning, "kubernetes": cluster, "initial_replicas": 0}
    return parse_service(yaml.safe_dump(told), source="the test's service")


def test_a_study_whose_workers_are_killed_at_every_stage_of_a_trial_ends_right_and_leaves_nothing(
    site: ProcessSite,
) -> None:
    study = create_study(site.store, service=site.spec.service, actor="test", now=utc_now())
    site.start_controller()
    site.start_worker("w0")
    lost = list[Lost]()
    for number, stage in enumerate((_is_begun, _measures, _checks_the_fleet), start=1):
        site.start_worker(f"w{number}")
        lost.append(_kill_one(site, study, stage))
    site.until(lambda: _now(site, study).state in STUDY_FINAL, within_s=PATIENCE_S)

    done, trials = _now(site, study), {trial.trial_id: trial for trial in _trials(site, study)}
    assert (done.state, done.recommendation is not None) == (StudyState.DONE, True), _told(site, study)
    for each in lost:
        ended = trials[each.trial.trial_id]
        assert ended.state in (TrialState.FEASIBLE, TrialState.INFEASIBLE), ended  # as the busy machine measured it
        assert ended.worker != each.trial.worker
        assert ended.attempt > each.trial.attempt
    # Had what was lost taken of the budget, none would have been left for the fleet.
    assert done.engine_starts <= STARTS
    assert done.wasted_starts >= len(lost)
    site.until(lambda: set(site.left().values()) == {0})
    psutil.wait_procs([child for each in lost for child in each.children], timeout=60)
    assert [child for each in lost for child in each.children if child.is_running()] == []


def _kill_one(site: ProcessSite, study: Study, stage: Callable[[ProcessSite, Trial], bool]) -> Lost:
    """Kill the worker of the first trial that comes to a stage. It counts as lost at once, not after 30 s."""
    found: list[Trial] = []

    def comes() -> bool:
        assert _now(site, study).state not in STUDY_FINAL, _told(site, study)
        found.extend(t for t in _trials(site, study) if t.state is TrialState.RUNNING and stage(site, t))
        return bool(found)

    site.until(comes, within_s=PATIENCE_S)
    worker = str(found[0].worker)
    process = psutil.Process(int(worker.rpartition(":")[2]))
    children = process.children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    site.store.release_study(study.study_id, worker)
    return Lost(found[0], children)


def _is_begun(site: ProcessSite, trial: Trial) -> bool:
    """Say whether a trial is counted, and no pod of it is there."""
    pods = [value["metadata"]["name"] for _, value in site.cluster.objects.everything() if value["kind"] == "Pod"]
    return trial.startup_s is None and not any(pod.startswith(group_name(owner(trial))) for pod in pods)


def _measures(_: ProcessSite, trial: Trial) -> bool:
    return trial.startup_s is not None


def _checks_the_fleet(site: ProcessSite, trial: Trial) -> bool:
    return trial.kind is TrialKind.CONFIRM_FLEET and _measures(site, trial)


def _trials(site: ProcessSite, study: Study) -> list[Trial]:
    return [trial for trial, _ in site.store.list_trials(study.study_id)]


def _told(site: ProcessSite, study: Study) -> str:
    told = [f"{t.kind} {t.state} attempt {t.attempt}: {t.reason}" for t in _trials(site, study)]
    return "\n".join([str(_now(site, study).reason), *told])


def _now(site: ProcessSite, study: Study) -> Study:
    return site.store.get_study(study.study_id).value
