"""What is recommended for a service that another tool applies: asked for over HTTP, committed by a worker."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from controlplane.adapters.fleet_kubernetes.manifests import as_yaml, manifests
from controlplane.adapters.manifests_git import GitManifests
from controlplane.domain.base import StudyId
from controlplane.domain.cluster import CommitOptions
from controlplane.domain.errors import Unavailable
from controlplane.domain.revision import Revision
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.service import ServiceSpec
from controlplane.ports.manifests import ManifestRepository
from controlplane.services.controller.jobs import apply_finished
from controlplane.services.studies.commit import AGAIN_S, CommitKeeper
from controlplane.settings import Settings
from controlplane.wiring.machine import open_store
from controlplane.wiring.work import commit_keeper
from tests.builders_serving import (
    CHAT,
    a_recommendation,
    a_revision,
    a_rollout,
    a_service,
    a_spec,
    a_study,
    a_trial,
    an_applicable_study,
)
from tests.fakes.fleet import FakeClock
from tests.fakes.manifest_repository import FakeManifestRepository
from tests.fakes.store import FakeStore
from tests.integration.api.conftest import problem

STUDY = StudyId("st-1")
IMAGE = f"registry.example/engine@sha256:{0:064}"


def committing(repository: str = "/srv/fleet.git") -> ServiceSpec:
    commit = {"repository": repository, "branch": "fleet", "folder": "apps/llm"}
    return a_spec(kubernetes={"image": IMAGE, "namespace": "inference", "commit": commit})


def rendered(spec: ServiceSpec, revision: Revision, replicas: int) -> str:
    assert spec.kubernetes is not None
    budget_s = revision.start_budget_s
    return as_yaml(manifests(spec, spec.kubernetes, revision.config, replicas=replicas, start_budget_s=budget_s))


def recommended(spec: ServiceSpec) -> str:
    """Return what is recommended, as it is rendered when no start of it was seen."""
    found = a_recommendation(STUDY)
    return rendered(spec, a_revision(found.config, spec), found.fleet.replicas)


class Repositories:
    """Opens the one there is, unless it is away."""

    def __init__(self) -> None:
        self.one, self.is_away = FakeManifestRepository(), False

    def __call__(self, options: CommitOptions) -> ManifestRepository:
        if self.is_away:
            raise Unavailable("the repository is away")
        return self.one


class Desk:
    def __init__(self, store: FakeStore) -> None:
        self.store, self.clock, self.repositories = store, FakeClock(), Repositories()
        self.store.save_service(a_service(spec=committing()), 0)

    def worker(self) -> CommitKeeper:
        return CommitKeeper(store=self.store, open_repository=self.repositories, render=rendered, clock=self.clock)

    def actions(self) -> list[str]:
        return [event.action for event in self.store.list_events(subject=f"study/{STUDY}")]


@pytest.fixture
def desk(store: FakeStore) -> Desk:
    return Desk(store)


def test_a_finished_study_is_committed_instead_of_rolled_out_exactly_as_it_is_rendered(desk: Desk) -> None:
    desk.store.save_study(an_applicable_study(), 0)
    apply_finished(desk.store, now=desk.clock())
    assert not desk.store.list_rollouts(CHAT)
    assert desk.worker().run_next()
    assert desk.repositories.one.files == {"apps/llm/chat.yaml": recommended(committing())}
    saved = desk.store.get_study(STUDY).value.recommendation
    assert saved is not None
    assert [each.revision_id for each in desk.store.list_revisions(CHAT)] == [saved.applied_revision]
    assert desk.actions()[0] == "study.committed"
    assert not desk.worker().run_next()


def test_what_is_committed_starts_within_what_trials_measured(desk: Desk) -> None:
    found = a_recommendation(STUDY)
    desk.store.save_study(an_applicable_study(), 0)
    desk.store.save_trial(a_trial(STUDY, config=found.config, startup_s=120), 0)
    assert desk.worker().run_next()
    (kept,) = desk.store.list_revisions(CHAT)
    assert kept.start_budget_s == 360
    text = desk.repositories.one.files["apps/llm/chat.yaml"]
    assert text == rendered(committing(), kept, found.fleet.replicas)
    assert text != recommended(committing())


def test_a_worker_that_died_after_its_commit_makes_no_other(desk: Desk) -> None:
    desk.store.save_study(an_applicable_study(), 0)
    text = recommended(committing())
    desk.repositories.one.write("apps/llm/chat.yaml", text, subject="by the one that died")
    assert desk.worker().run_next()
    assert desk.repositories.one.commits == ["by the one that died"]
    assert desk.actions()[0] == "study.committed"


def test_a_file_that_somebody_changed_is_said_once_and_tried_again_later(desk: Desk) -> None:
    desk.store.save_study(an_applicable_study(), 0)
    desk.repositories.one.edit("apps/llm/chat.yaml", "mine: 1\n")
    worker = desk.worker()
    for _ in range(3):
        assert not worker.run_next()
        desk.clock.go_on(AGAIN_S)
    assert desk.actions().count("study.not_committed") == 1
    (event,) = desk.store.list_events(subject=f"study/{STUDY}", limit=1)
    assert "by hand" in event.reason
    assert desk.repositories.one.files == {"apps/llm/chat.yaml": "mine: 1\n"}


def test_a_repository_that_is_away_is_asked_again_after_a_while(desk: Desk) -> None:
    desk.store.save_study(an_applicable_study(), 0)
    desk.repositories.is_away, worker = True, desk.worker()
    assert not worker.run_next()
    desk.repositories.is_away = False
    assert not worker.run_next()
    desk.clock.go_on(AGAIN_S)
    assert worker.run_next()


def test_a_person_asks_for_the_commit_and_a_rollout_is_refused(api: TestClient, desk: Desk) -> None:
    desk.store.save_study(an_applicable_study(apply_when_done=False), 0)
    refused = problem(api.post(f"/recommendations/{STUDY}/apply"), 409)
    assert refused["allowed"] == f"fleetune recommendation commit {STUDY}"
    assert api.post(f"/recommendations/{STUDY}/commit").status_code == 202
    assert api.post(f"/recommendations/{STUDY}/commit").status_code == 202  # asked for already
    assert desk.worker().run_next()
    problem(api.post(f"/recommendations/{STUDY}/commit"), 409)


def test_a_commit_of_what_cannot_be_is_one_message(api: TestClient, store: FakeStore) -> None:
    store.save_service(a_service(), 0)
    store.save_study(an_applicable_study(), 0)
    assert "commits nothing" in problem(api.post(f"/recommendations/{STUDY}/commit"), 422)["what"]
    store.save_study(a_study("st-2"), 0)
    problem(api.post("/recommendations/st-2/commit"), 404)
    problem(api.post("/recommendations/nobody/commit"), 404)


def test_into_a_real_repository_it_goes_as_one_commit(desk: Desk, tmp_path: Path) -> None:
    bare = tmp_path / "fleet.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(bare)], check=True)
    saved = desk.store.get_service(CHAT)
    desk.store.save_service(saved.value.evolve(spec=committing(str(bare))), saved.version)
    desk.store.save_study(an_applicable_study(), 0)
    worker = CommitKeeper(store=desk.store, open_repository=GitManifests, render=rendered, clock=desk.clock)
    assert worker.run_next()
    shown = subprocess.run(
        ["git", "show", "fleet:apps/llm/chat.yaml"], cwd=bare, check=True, capture_output=True, text=True
    )
    assert shown.stdout == recommended(committing())
    assert str(bare) in desk.store.list_events(subject=f"study/{STUDY}")[0].reason


def test_the_worker_of_an_installation_commits_with_the_start_budget_of_the_revision(tmp_path: Path) -> None:
    settings, bare = Settings(data_dir=tmp_path / "data"), tmp_path / "fleet.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(bare)], check=True)
    spec, found, store = committing(str(bare)), a_recommendation(STUDY), open_store(settings)
    store.save_service(a_service(spec=spec), 0)
    store.save_study(an_applicable_study(), 0)
    store.save_trial(a_trial(STUDY, config=found.config, startup_s=150), 0)
    assert commit_keeper(settings).run_next()
    (kept,) = store.list_revisions(CHAT)
    assert kept.start_budget_s == 450
    shown = subprocess.run(
        ["git", "show", "fleet:apps/llm/chat.yaml"], cwd=bare, check=True, capture_output=True, text=True
    )
    assert shown.stdout == rendered(spec, kept, found.fleet.replicas)


def test_the_verdict_of_a_service_is_that_of_its_newest_rollout(api: TestClient, store: FakeStore) -> None:
    problem(api.get("/services/chat/verdict"), 404)
    store.save_service(a_service(), 0)
    assert api.get("/services/chat/verdict").json()["verdict"] == "undecided"
    store.save_rollout(a_rollout(state=RolloutState.ABORTED, reason="too slow"), 0)
    found = api.get("/services/chat/verdict?weight=20").json()
    assert (found["verdict"], found["reason"], found["rollout_id"]) == ("harm", "too slow", "ro-1")
    problem(api.get("/services/chat/verdict?weight=101"), 422)
