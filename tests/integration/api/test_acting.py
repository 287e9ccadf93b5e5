"""What the API does: each action changes the state, is told in the audit, and is refused when the state forbids it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.replay import ReplayPoint
from controlplane.domain.rollouts.rollout import RolloutState, StepRecord
from controlplane.domain.studies.study import StudyState
from tests.builders_serving import (
    CHAT,
    NOW,
    a_recommendation,
    a_revision,
    a_rollout,
    a_service,
    a_spec,
    a_study,
    an_applicable_study,
)
from tests.e2e.dashboard.seed_reports import a_report
from tests.fakes.store import FakeStore
from tests.integration.api.conftest import problem

STEP = StepRecord(index=0, weight_percent=5, started_at=NOW)


@pytest.fixture
def serving(store: FakeStore) -> FakeStore:
    """A store in which `chat` serves one revision."""
    revision = a_revision()
    store.add_revision(revision)
    store.save_service(a_service(stable=revision.revision_id, stable_replicas=1), 0)
    return store


@pytest.mark.parametrize("text", [yaml.safe_dump(a_spec().model_dump(mode="json")), a_spec().model_dump_json()])
def test_a_service_is_registered_from_yaml_or_json(api: TestClient, store: FakeStore, text: str) -> None:
    response = api.post("/services", content=text)
    assert response.status_code == 201, response.text
    assert store.get_service(CHAT).value.spec == a_spec()
    assert store.list_events(subject="service/chat")[0].actor == "local"


def test_a_service_with_an_unknown_field_is_refused_and_nothing_is_kept(api: TestClient, store: FakeStore) -> None:
    text = yaml.safe_dump(a_spec().model_dump(mode="json") | {"colour": "red"})
    assert "colour: unknown field" in problem(api.post("/services", content=text), 422)["why"]
    assert not store.list_services()


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"- a list", b"a: b: c"])
def test_a_body_that_is_no_service_is_a_problem(api: TestClient, body: bytes) -> None:
    problem(api.post("/services", content=body), 422)


def test_a_body_too_long_to_be_a_service_is_refused(api: TestClient) -> None:
    assert "bytes" in problem(api.post("/services", content=b"#" * (2 << 20)), 422)["allowed"]


def test_the_status_of_a_service_says_what_is_wanted_and_what_is_there(api: TestClient, serving: FakeStore) -> None:
    body = api.get("/services/chat/status").json()
    revision = a_revision().revision_id
    assert body["desired_replicas"] == {revision: 1}
    assert body["service"]["name"] == "chat"


def test_a_study_is_created_with_what_was_overridden(api: TestClient, serving: FakeStore) -> None:
    body = {"service": "chat", "apply_when_done": True, "overrides": {"budget": {"engine_starts": 6}}}
    response = api.post("/studies", json=body)
    assert response.status_code == 201, response.text
    study = serving.get_study(response.json()["study_id"]).value
    assert study.spec.tuning.budget.engine_starts == 6
    assert study.apply_when_done


def test_a_study_of_an_unknown_service_is_refused(api: TestClient) -> None:
    problem(api.post("/studies", json={"service": "nobody"}), 404)


def test_a_study_is_paused_resumed_and_aborted(api: TestClient, store: FakeStore) -> None:
    store.save_study(a_study(state=StudyState.RUNNING), 0)
    assert api.post("/studies/st-1/pause", json={"reason": "night"}).json()["state"] == "paused"
    assert api.post("/studies/st-1/resume", json={}).json()["state"] == "pending"
    assert api.post("/studies/st-1/abort", json={}).json()["state"] == "aborted"
    problem(api.post("/studies/st-1/pause", json={}), 409)
    assert store.list_events(subject="study/st-1")[-1].reason == "night"


def test_a_recommendation_is_applied_once(api: TestClient, serving: FakeStore) -> None:
    serving.save_study(an_applicable_study(), 0)
    response = api.post("/recommendations/st-1/apply")
    assert response.status_code == 201, response.text
    assert response.json()["state"] == "pending"
    problem(api.post("/recommendations/st-1/apply"), 409)


def test_no_improvement_cannot_be_applied(api: TestClient, serving: FakeStore) -> None:
    serving.save_study(an_applicable_study(recommendation=a_recommendation(improvement=False)), 0)
    problem(api.post("/recommendations/st-1/apply"), 409)


def test_a_rollout_of_flags_is_started_and_only_one_at_a_time(api: TestClient, serving: FakeStore) -> None:
    body = {"service": "chat", "flags": {"max_num_seqs": 64}, "replicas": 2}
    response = api.post("/rollouts", json=body)
    assert response.status_code == 201, response.text
    canary = serving.get_revision(response.json()["canary"])
    assert canary.config.flags == {"max-num-seqs": 64}
    problem(api.post("/rollouts", json=body), 409)


def test_a_rollout_of_flags_that_the_engine_does_not_know_is_refused(api: TestClient, serving: FakeStore) -> None:
    body = {"service": "chat", "flags": {"swap-space": 4}, "replicas": 1}
    assert "--swap-space was removed" in problem(api.post("/rollouts", json=body), 422)["why"]
    assert serving.list_rollouts() == []


def test_more_replicas_than_gpus_are_refused(api: TestClient, serving: FakeStore) -> None:
    body = {"service": "chat", "flags": {"max-num-seqs": 64}, "replicas": 99}
    problem(api.post("/rollouts", json=body), 422)


@pytest.mark.parametrize(
    ("before", "verb", "after"),
    [
        (RolloutState.PROGRESSING, "pause", "paused"),
        (RolloutState.PAUSED, "resume", "progressing"),
        (RolloutState.PROGRESSING, "promote", "promoting"),
        (RolloutState.PROGRESSING, "abort", "aborting"),
        (RolloutState.PROMOTING, "halt", "halted"),
        (RolloutState.HALTED, "resume", "promoting"),
    ],
)
def test_a_rollout_is_steered(api: TestClient, store: FakeStore, before: RolloutState, verb: str, after: str) -> None:
    store.save_rollout(a_rollout(state=before, steps=(STEP,)), 0)
    response = api.post(f"/rollouts/ro-1/{verb}", json={"reason": "because"})
    assert response.status_code == 200, response.text
    assert response.json()["state"] == after
    event = store.list_events(subject="rollout/ro-1")[0]
    assert event.actor == "local"
    assert "because" in event.reason


def test_a_promotion_that_has_begun_cannot_be_aborted(api: TestClient, store: FakeStore) -> None:
    store.save_rollout(a_rollout(state=RolloutState.PROMOTING, steps=(STEP,)), 0)
    assert "halt" in problem(api.post("/rollouts/ro-1/abort", json={}), 409)["allowed"]


def test_a_service_is_rolled_back_to_an_earlier_revision(api: TestClient, serving: FakeStore) -> None:
    earlier = a_revision(config=a_recommendation().config)
    serving.add_revision(earlier)
    body = {"revision": earlier.revision_id, "replicas": 1}
    response = api.post("/services/chat/roll-back", json=body)
    assert response.status_code == 201, response.text
    assert response.json()["canary"] == earlier.revision_id
    names = {item["revision_id"] for item in api.get("/services/chat/revisions").json()["items"]}
    assert earlier.revision_id in names


def test_a_roll_back_may_be_asked_for_at_once_and_what_it_leaves_is_not_kept(
    api: TestClient, serving: FakeStore
) -> None:
    earlier = a_revision(config=a_recommendation().config)
    serving.add_revision(earlier)
    service, version = serving.get_service(CHAT)
    keeping = service.spec.evolve(rollout=service.spec.rollout.evolve(keep_former_s=600))
    serving.save_service(service.evolve(spec=keeping), version)
    body = {"revision": earlier.revision_id, "at_once": True}
    rollout = api.post("/services/chat/roll-back", json=body).json()
    assert (rollout["at_once"], rollout["state"], rollout["options"]["keep_former_s"]) == (True, "pending", 0)


def test_a_service_is_scaled_stopped_and_started(api: TestClient, serving: FakeStore) -> None:
    assert api.post("/services/chat/scale", json={"replicas": 3}).json()["stable_replicas"] == 3
    assert api.post("/services/chat/stop").json()["stopped"]
    assert not api.post("/services/chat/start").json()["stopped"]
    problem(api.post("/services/chat/scale", json={"replicas": -1}), 422)


def test_a_schedule_is_added_paused_resumed_triggered_and_deleted(api: TestClient, serving: FakeStore) -> None:
    body = {"service": "chat", "schedule": {"name": "weekly", "cron": "0 2 * * SUN", "action": "tune"}}
    assert api.post("/schedules", json=body).status_code == 201
    problem(api.post("/schedules", json=body), 409)
    assert api.post("/schedules/chat/weekly/pause").json()["spec"]["paused"]
    assert not api.post("/schedules/chat/weekly/resume").json()["spec"]["paused"]
    assert api.post("/schedules/chat/weekly/trigger").json()["next_at"].startswith("2026-03-01T12:00")
    assert api.delete("/schedules/chat/weekly").status_code == 204
    problem(api.delete("/schedules/chat/weekly"), 404)


def test_a_schedule_with_a_broken_cron_is_refused(api: TestClient, serving: FakeStore) -> None:
    body = {"service": "chat", "schedule": {"name": "weekly", "cron": "every day"}}
    assert "five valid cron fields" in problem(api.post("/schedules", json=body), 422)["why"]


def test_a_scheduled_replay_needs_its_rate_and_its_points_are_listed(api: TestClient, serving: FakeStore) -> None:
    schedule = {"name": "nightly", "cron": "0 3 * * *", "action": "replay"}
    half = problem(api.post("/schedules", json={"service": "chat", "schedule": schedule}), 422)
    assert "belong together" in half["why"]
    whole = schedule | {"replay": {"rate_rps": 5}}
    assert api.post("/schedules", json={"service": "chat", "schedule": whole}).status_code == 201
    report = a_report(a_spec(), rate_rps=5, full_rps=9)
    point = ReplayPoint(service=CHAT, schedule="nightly", number=1, regressed=True)
    serving.add_load_report("replay.chat.nightly.1", CHAT, report, NOW, replay=point)
    serving.add_load_report("load-1", CHAT, report, NOW)
    (point,) = api.get("/replays", params={"service": "chat"}).json()["items"]
    assert (point["schedule"], point["regressed"], point["report"]["rate_rps"]) == ("nightly", True, 5)
    assert api.get("/replays", params={"service": "other"}).json()["items"] == []


def test_a_list_whose_item_is_wrong_is_one_mistake_not_two(api: TestClient) -> None:
    spec = a_spec().model_dump(mode="json")
    spec["slos"]["latency"][0]["limit_ms"] = -5
    assert problem(api.post("/services", json=spec), 422)["why"].endswith("greater than 0")


@pytest.mark.parametrize(
    ("bad", "said"),
    [({"percentile": 90}, "50, 95 or 99"), ({"margin_ms": 0}, "greater than 0"), ({"metric": "e2e_ms"}, "ttft_ms")],
)
def test_a_latency_margin_that_cannot_be_judged_is_refused(api: TestClient, bad: dict[str, Any], said: str) -> None:
    spec = a_spec().model_dump(mode="json")
    spec["rollout"]["latency_margins"] = [{"metric": "ttft_ms", "percentile": 99, "margin_ms": 100, **bad}]
    assert said in problem(api.post("/services", json=spec), 422)["why"]


def test_a_step_that_may_be_over_before_its_hangs_show_is_refused_with_both_numbers(
    api: TestClient, serving: FakeStore
) -> None:
    spec = a_spec().model_dump(mode="json")
    spec["rollout"]["steps"][0]["min_s"] = 10
    told = problem(api.post("/services", json=spec), 422)
    assert "min_s 10 is shorter than 60 s" in told["title"] + told["detail"]
    body = {"service": "chat", "replicas": 1, "flags": {"max-num-seqs": 64}, "options": spec["rollout"]}
    told = problem(api.post("/rollouts", json=body), 422)
    assert "gateway.stall_timeout_s is 60" in told["why"]
    assert not serving.list_rollouts()
    body["options"]["steps"][0]["min_s"] = None
    steps = api.post("/rollouts", json=body).json()["options"]["steps"]
    assert [step["min_s"] for step in steps] == [60, 0, 0]


def test_changes_are_laid_over_the_stable_flags_and_the_replicas_stay(api: TestClient, store: FakeStore) -> None:
    revision = a_revision(EngineConfig(flags={"max-num-seqs": 256, "enforce-eager": True}))
    store.add_revision(revision)
    store.save_service(a_service(stable=revision.revision_id, stable_replicas=3), 0)
    body = {"service": "chat", "changes": {"max_num_seqs": 128, "enforce-eager": None}, "reason": "too many at once"}
    rollout = api.post("/rollouts", json=body).json()
    assert (rollout["canary_replicas"], rollout["reason"]) == (3, "too many at once")
    assert store.get_revision(rollout["canary"]).config.flags == {"max-num-seqs": 128}


@pytest.mark.parametrize("body", [{}, {"changes": {"max-num-seqs": 1}, "flags": {"max-num-seqs": 1}}])
def test_a_rollout_of_nothing_or_of_two_things_is_refused(
    api: TestClient, serving: FakeStore, body: dict[str, object]
) -> None:
    assert "either changes" in problem(api.post("/rollouts", json={"service": "chat", **body}), 422)["detail"]


@pytest.mark.parametrize("name", ["replay.x", "replay.chat.nightly.1", "replay."])
def test_a_report_cannot_be_uploaded_under_the_name_of_a_replay(api: TestClient, serving: FakeStore, name: str) -> None:
    report = a_report(a_spec(), rate_rps=5, full_rps=9).model_dump(mode="json")
    body = problem(api.post("/load-reports", json={"report_id": name, "report": report}), 422)
    assert "replays are named" in body["why"]
    assert api.get("/replays").json()["items"] == []


def test_a_day_that_never_comes_is_a_422(api: TestClient, serving: FakeStore) -> None:
    body = {"service": "chat", "schedule": {"name": "never", "cron": "0 0 30 2 *"}}
    assert "never comes" in problem(api.post("/schedules", json=body), 422)["why"]


def test_a_service_that_shares_gpus_is_registered_held_and_not_changed_while_it_serves(
    api: TestClient, store: FakeStore
) -> None:
    engine = a_spec().engine.evolve(flags={"enable-sleep-mode": True}, env={"VLLM_SERVER_DEV_MODE": "1"})
    spec = a_spec(engine=engine, shares={"pool": "small", "hold_s": 7}).model_dump(mode="json")
    assert api.post("/services", content=json.dumps(spec)).status_code == 201
    route = api.get("/services/chat/status").json()
    assert set(route["desired_replicas"].values()) == {0}
    scaled = problem(api.post("/services/chat/scale", json={"replicas": 2}), 409)
    assert "takes turns on the GPUs of small" in scaled["detail"]
    spec["shares"]["pool"] = "other"
    assert "stop it first" in problem(api.post("/services", content=json.dumps(spec)), 409)["allowed"]
    spec["shares"] = {"pool": "small", "level": 3}
    assert "level" in problem(api.post("/services", content=json.dumps(spec)), 422)["detail"]
