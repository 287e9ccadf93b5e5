"""What the API shows: newest first, whole, and without secrets."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from controlplane.domain.base import RolloutId, ServiceName
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.engine_metrics import EngineNumbers
from controlplane.domain.engines.gpu import EngineGpu, GpuReading, Throttle
from controlplane.domain.event import Event
from controlplane.domain.operations.autoscale import ScaleDecision
from controlplane.domain.operations.autoscale_options import AutoscaleOptions
from controlplane.domain.operations.health import InstallationHealth
from controlplane.domain.operations.replica_capacity import ReplicaCapacity
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.schedule import Schedule, ScheduleSpec
from controlplane.domain.service import ModelSpec
from controlplane.domain.studies.capacity import Capacity
from controlplane.domain.studies.importance import Importance
from controlplane.domain.studies.study import Recommendation, Study, Trial
from controlplane.services.fleet.scaling import ScaleMemory
from tests.builders_reports import a_load_report
from tests.builders_serving import (
    CHAT,
    NOW,
    a_recommendation,
    a_revision,
    a_rollout,
    a_service,
    a_spec,
    a_study,
    a_trial,
    an_applicable_study,
)
from tests.fakes.metrics_source import FakeMetricsSource
from tests.fakes.store import FakeStore
from tests.integration.api.conftest import an_api, problem


def test_studies_are_newest_first_and_limited(api: TestClient, store: FakeStore) -> None:
    for number in range(4):
        store.save_study(a_study(f"st-{number}", created_at=NOW + timedelta(seconds=number)), 0)
    page = api.get("/studies", params={"limit": 2}).json()
    assert [study["study_id"] for study in page["items"]] == ["st-3", "st-2"]
    assert page["limit"] == 2


def test_lists_can_be_narrowed_to_a_service(api: TestClient, store: FakeStore) -> None:
    store.save_study(a_study(), 0)
    assert api.get("/studies", params={"service": "chat"}).json()["items"]
    assert api.get("/studies", params={"service": "other"}).json()["items"] == []


def test_a_study_and_its_trials_come_back_as_they_were_saved(api: TestClient, store: FakeStore) -> None:
    study, trials = a_study(), [a_trial(number=0), a_trial(number=1)]
    store.save_study(study, 0)
    for trial in trials:
        store.save_trial(trial, 0)
    assert Study.model_validate(api.get("/studies/st-1").json()) == study
    items = api.get("/studies/st-1/trials").json()["items"]
    assert [Trial.model_validate(item) for item in items] == trials
    assert Trial.model_validate(api.get("/trials/st-1-1").json()) == trials[1]


def test_what_each_flag_did_is_empty_until_enough_trials_tell(api: TestClient, store: FakeStore) -> None:
    store.save_study(a_study(), 0)
    assert api.get("/studies/st-1/importance").json()["items"] == []
    for number, flags in enumerate(({}, {"quantization": "fp8"}, {}, {"quantization": "fp8"})):
        rps = 4.0 if flags else 3.0
        capacity = Capacity(rps=rps, low_rps=rps, high_rps=rps)
        store.save_trial(a_trial(number=number, config=EngineConfig(flags=flags), capacity=capacity), 0)
    (item,) = api.get("/studies/st-1/importance").json()["items"]
    found = Importance.model_validate(item)
    assert (found.flag, found.best) == ("quantization", "fp8")
    assert 0 <= found.low <= found.effect <= found.high
    problem(api.get("/studies/st-9/importance"), 404)


def test_recommendations_are_those_of_finished_studies(api: TestClient, store: FakeStore) -> None:
    store.save_study(a_study("st-0"), 0)
    store.save_study(an_applicable_study("st-1"), 0)
    (item,) = api.get("/recommendations").json()["items"]
    assert Recommendation.model_validate(item) == a_recommendation("st-1")
    assert api.get("/recommendations/st-1").json() == item
    problem(api.get("/recommendations/st-0"), 404)


def test_rollouts_are_shown_with_their_steps(api: TestClient, store: FakeStore) -> None:
    store.save_rollout(a_rollout(rollout_id=RolloutId("ro-0"), state=RolloutState.ABORTED), 0)
    store.save_rollout(a_rollout(), 0)
    assert [item["rollout_id"] for item in api.get("/rollouts").json()["items"]] == ["ro-1", "ro-0"]
    assert api.get("/rollouts/ro-1").json()["state"] == "pending"


def test_the_fleet_shows_engines_and_free_gpus(api: TestClient) -> None:
    body = api.get("/fleet").json()
    assert body["free_gpus"] == 3
    assert body["engines"][0]["spec"]["engine_id"] == "chat-1"


def test_values_of_environment_variables_are_never_shown(api: TestClient, store: FakeStore) -> None:
    spec = a_spec()
    spec = spec.evolve(engine=spec.engine.evolve(env={"HF_TOKEN": "hf-secret"}))
    store.save_service(a_service(spec=spec), 0)
    store.save_study(a_study(spec=spec), 0)
    for path in ("/fleet", "/services", "/services/chat", "/studies", "/studies/st-1"):
        text = api.get(path).text
        assert "HF_TOKEN" in text
        assert "hf-secret" not in text


def test_events_can_be_narrowed_to_a_subject(api: TestClient, store: FakeStore) -> None:
    for subject in ("study/st-1", "rollout/ro-1"):
        store.add_event(Event(at=NOW, actor="ana", action="x", subject=subject, service=CHAT))
    (event,) = api.get("/events", params={"subject": "rollout/ro-1"}).json()["items"]
    assert event["actor"] == "ana"


def test_a_load_report_is_uploaded_once_and_told(api: TestClient, store: FakeStore) -> None:
    store.save_service(a_service(), 0)
    body = {"report_id": "nightly-1", "service": "chat", "report": a_load_report().model_dump(mode="json")}
    assert api.post("/load-reports", json=body).status_code == 201
    problem(api.post("/load-reports", json=body), 409)
    assert api.get("/load-reports").json()["items"][0]["report_id"] == "nightly-1"
    assert api.get("/load-reports/nightly-1").json() == body["report"]
    assert store.list_events(subject="load-report/nightly-1")[0].action == "load_report.uploaded"


def test_a_load_report_of_an_unknown_service_is_refused(api: TestClient) -> None:
    body = {"report_id": "x", "service": "nobody", "report": a_load_report().model_dump(mode="json")}
    problem(api.post("/load-reports", json=body), 404)


def test_live_figures_of_a_silent_service_claim_nothing(api: TestClient, store: FakeStore) -> None:
    store.save_service(a_service(), 0)
    body = api.get("/live/chat").json()
    assert body["overall"]["requests"] == 0
    assert body["checks"][0]["state"] == "silent"


def test_a_bucket_longer_than_its_window_is_refused(api: TestClient, store: FakeStore) -> None:
    store.save_service(a_service(), 0)
    problem(api.get("/live/chat", params={"window_s": 10, "bucket_s": 60}), 422)


def test_schedules_are_listed_per_service(api: TestClient, store: FakeStore) -> None:
    spec = ScheduleSpec(name="weekly", cron="0 2 * * SUN")
    for service in ("chat", "code"):
        store.save_schedule(Schedule(service=ServiceName(service), spec=spec, next_at=NOW), 0)
    items = api.get("/schedules", params={"service": "code"}).json()["items"]
    assert [(item["service"], item["spec"]["name"]) for item in items] == [("code", "weekly")]


def test_the_twin_answers_for_flags_nobody_started(api: TestClient, store: FakeStore) -> None:
    store.save_service(a_service(), 0)
    body = api.post("/predict", json={"service": "chat", "flags": {"max_num_seqs": 8}, "rate_rps": 2}).json()
    assert body["config"]["flags"] == {"max-num-seqs": 8}
    assert body["capacity"]["rps"] > 0
    assert body["point"]["latency"]["ttft_ms_p95"]["value"] > 0
    problem(api.post("/predict", json={"service": "chat", "rate_rps": -1}), 422)


@pytest.mark.parametrize(
    ("gpus", "numbers"),
    [((0, 1, 2, 3), [1, 2, 3]), ((), []), ((0, 1), [])],
    ids=["numbered", "GPUs without numbers", "another count than the fleet's"],
)
def test_free_gpus_have_numbers_where_they_are_known_for_sure(
    store: FakeStore, gpus: tuple[int, ...], numbers: list[int]
) -> None:
    found = an_api(store, gpus=gpus).get("/fleet").json()
    assert (found["free_gpus"], found["free_gpu_indices"]) == (3, numbers)


def test_what_a_replica_sustains_is_shown_as_it_was_measured(api: TestClient, store: FakeStore) -> None:
    stable = a_revision()
    store.add_revision(stable)
    store.save_service(a_service(stable=stable.revision_id, stable_replicas=1), 0)
    store.save_study(a_study(), 0)
    store.save_trial(a_trial(capacity=Capacity(rps=7, low_rps=6, high_rps=8)), 0)
    found = ReplicaCapacity.model_validate(api.get("/services/chat/capacity").json())
    assert (found.revision, found.rate_rps.value) == (stable.revision_id, 7)


def test_a_capacity_that_nobody_knows_is_no_number(api: TestClient, store: FakeStore) -> None:
    spec = a_spec(model=ModelSpec(name="llama-8b", path="somebody/model"))
    stable = a_revision(spec=spec)
    store.add_revision(stable)
    store.save_service(a_service(spec=spec, stable=stable.revision_id), 0)
    assert "no capacity" in problem(api.get("/services/chat/capacity"), 404)["detail"]
    store.save_service(a_service(spec=spec), 1)
    assert "nothing serves" in problem(api.get("/services/chat/capacity"), 404)["detail"]


def test_what_the_autoscaler_decided_is_shown_while_it_is_on(api: TestClient, store: FakeStore) -> None:
    memory = ScaleMemory(decision=ScaleDecision(at=NOW, replicas=3, wanted=3, reason="3 for 5 requests/s"))
    store.write_setting("autoscale/chat", memory.model_dump_json(), 0)
    store.save_service(a_service(), 0)
    assert api.get("/services/chat/scaling").json()["decision"] is None
    store.save_service(a_service(spec=a_spec(autoscale=AutoscaleOptions(enabled=True))), 1)
    assert api.get("/services/chat/scaling").json()["decision"]["reason"] == "3 for 5 requests/s"


def test_what_engines_say_is_shown_and_where_nobody_collects_it_that_is_said(store: FakeStore) -> None:
    source = FakeMetricsSource(lambda: NOW, stale_after_s=60)
    source.scrape(EngineNumbers(model="llama-8b", at=NOW, waiting=0, running=5))
    api = an_api(store, metrics=source)
    found = EngineNumbers.model_validate(api.get("/fleet/metrics", params={"model": "llama-8b"}).json())
    assert (found.waiting, found.running, found.ttft_p99_ms) == (0, 5, None)
    asked: dict[str, str | float] = {"model": "llama-8b", "number": "running", "hours": 0.1, "step_s": 60}
    series = api.get("/fleet/metrics/series", params=asked).json()
    assert (len(series), series[0][1], series[-1][1]) == (7, None, 5)
    assert "nobody collects" in problem(an_api(store).get("/fleet/metrics", params={"model": "x"}), 404)["detail"]


def test_gpus_are_shown_one_by_one_in_the_status_and_to_a_prometheus(store: FakeStore) -> None:
    source = FakeMetricsSource(lambda: NOW, stale_after_s=60)
    reading = GpuReading("3", 128.0, 140.0, 97.0, 650.0, None, (Throttle.HW_THERMAL,))
    source.tell_gpus("llama-8b", "e1", NOW, reading)
    store.save_service(a_service(), 0)
    api = an_api(store, metrics=source)
    [gpu] = api.get("/fleet/gpus", params={"model": "llama-8b"}).json()
    assert (gpu["engine"], gpu["reading"]["temperature_c"], gpu["reading"]["throttled"]) == (
        "e1",
        None,
        ["thermal, by the hardware"],
    )
    assert api.get("/fleet/gpus", params={"model": "other"}).json() == []
    [service] = InstallationHealth.model_validate(api.get("/status").json()).services
    assert service.gpus == (EngineGpu("e1", reading),)
    assert "GPU 3 of e1 is held back" in " ".join(found.text for found in service.findings)
    page = api.get("/metrics").text
    assert 'DCGM_FI_DEV_GPU_UTIL{engine="e1",gpu="3",service="chat"} 97.0' in page
    assert "DCGM_FI_DEV_GPU_TEMP" not in page, "what nobody tells is no zero"


def test_what_a_service_costs_is_of_its_own_engines(api: TestClient, store: FakeStore) -> None:
    store.save_service(a_service(), 0)
    found = api.get("/services/chat/cost", params={"hours": 2}).json()
    assert (found["gpus"], found["usd_per_hour"], found["window_s"]) == (1, 3.0, 7200)
    assert found["usd_per_million_tokens"] is None
    problem(api.get("/services/chat/cost", params={"hours": 25}), 422)
