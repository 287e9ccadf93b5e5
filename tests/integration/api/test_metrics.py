"""The control plane's page for Prometheus: what is wanted, what is there, and nothing that is not known."""

from __future__ import annotations

from datetime import timedelta

from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from controlplane.domain.operations.autoscale import ScaleDecision
from controlplane.domain.operations.autoscale_options import AutoscaleOptions
from controlplane.domain.operations.space import Space
from controlplane.domain.replay import ReplayPoint
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.studies.study import StudyState, TrialState
from controlplane.services.fleet.scaling import ScaleMemory, memory_setting
from tests.builders_reports import a_load_report
from tests.builders_serving import CHAT, NOW, a_recommendation, a_revision, a_rollout, a_service, a_spec, a_study, after
from tests.fakes.store import FakeStore
from tests.integration.api.conftest import an_api


def page(api: TestClient) -> dict[tuple[str, ...], float]:
    answer = api.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(answer.text)
    return {(each.name, *each.labels.values()): each.value for family in families for each in family.samples}


def test_an_empty_installation_says_what_it_has_and_no_zeros_of_services(api: TestClient) -> None:
    found = page(api)
    assert found[("fleetune_studies", "running")] == 0
    assert not [name for name, *_ in found if "replicas" in name or "rollout" in name]


def test_replicas_rollout_and_studies_are_told(api: TestClient, store: FakeStore) -> None:
    revision = a_revision()
    store.add_revision(revision)
    store.save_service(a_service(stable=revision.revision_id, stable_replicas=3), 0)
    store.save_rollout(a_rollout(state=RolloutState.HALTED), 0)
    store.save_study(a_study(), 0)
    found = page(api)
    assert found[("fleetune_replicas_wanted", "chat")] >= 3
    assert found[("fleetune_replicas_ready", "chat")] == 0
    assert found[("fleetune_engines_failed", "chat")] == 0
    assert found[("fleetune_usd_per_hour", "chat")] == 3, "one engine of one GPU"
    assert (found[("fleetune_rollout", "chat", "halted")], found[("fleetune_rollout", "chat", "progressing")]) == (1, 0)
    assert sum(value for (name, *_), value in found.items() if name == "fleetune_studies") == 1
    assert (found[("fleetune_rollout_step", "chat")], found[("fleetune_rollout_age_seconds", "chat")]) == (0, 0)
    assert ("fleetune_rollout_stays_seconds", "chat") not in found, "halted: told at once"
    store.save_rollout(a_rollout(state=RolloutState.PAUSED), 1)
    found = page(api)
    stays = [found[(f"fleetune_rollout_{name}_seconds", "chat")] for name in ("stays", "patience")]
    assert stays == [0, 1800]
    assert [found[("fleetune_gpus_held", by)] for by in ("rollout", "trial", "replay")] == [1, 0, 0]


def test_a_service_s_newest_study_is_told_and_the_ratio_of_the_newest_that_recommends(
    api: TestClient, store: FakeStore
) -> None:
    store.save_study(a_study("st-1", state=StudyState.DONE, recommendation=a_recommendation(), gpu_seconds=7200), 0)
    assert page(api)[("fleetune_study_gpu_hours", "chat")] == 2
    store.save_study(a_study("st-2", state=StudyState.RUNNING, gpu_seconds=1800, created_at=after(60)), 0)
    found = page(api)
    assert (found[("fleetune_study_gpu_hours", "chat")], found[("fleetune_study_cost_ratio", "chat")]) == (0.5, 0.5)


def test_what_a_baseline_that_took_no_load_costs_is_no_ratio(api: TestClient, store: FakeStore) -> None:
    found = a_recommendation()
    baseline = found.evidence.baseline.evolve(state=TrialState.INFEASIBLE)
    alone = found.evolve(evidence=found.evidence.evolve(baseline=baseline))
    store.save_study(a_study("st-1", state=StudyState.DONE, recommendation=alone), 0)
    assert ("fleetune_study_cost_ratio", "chat") not in page(api)


def test_replays_and_their_generator_are_told_while_they_say_something_of_today(store: FakeStore) -> None:
    def told(days: float) -> dict[str, float]:
        found = page(an_api(store, clock=lambda: NOW + timedelta(days=days)))
        return {"/".join(name): value for name, value in found.items() if "generator" in name[0] or "replay" in name[0]}

    store.save_service(a_service(), 0)
    assert not told(0)
    point = ReplayPoint(service=CHAT, schedule="nightly", number=1, regressed=True)
    store.add_load_report("replay.1", CHAT, a_load_report(), NOW, replay=point)
    regressed = {"fleetune_replay_regressed/nightly/chat": 1}
    assert told(0.5) == regressed | {
        "fleetune_generator_behind/chat": 0,
        "fleetune_generator_lag_seconds/chat": 0.2405,
    }
    assert told(2) == regressed
    assert not told(9)


def test_room_is_told_where_somebody_can_tell(store: FakeStore) -> None:
    def told(space: Space | None) -> list[float | None]:
        found = page(an_api(store, space=lambda: space))
        return [found.get((f"fleetune_data_{name}_bytes",)) for name in ("free", "size")]

    assert told(Space(size=100, free=7)) == [7, 100]
    assert told(None) == [None, None]


def test_an_autoscaler_that_holds_is_told_once_it_has_decided(api: TestClient, store: FakeStore) -> None:
    store.save_service(a_service(spec=a_spec(autoscale=AutoscaleOptions(enabled=True))), 0)
    assert ("fleetune_autoscale_held", "chat") not in page(api)
    memory = ScaleMemory(decision=ScaleDecision(at=NOW, replicas=1, held=True, reason="no gateway answers"))
    store.write_setting(memory_setting(CHAT), memory.model_dump_json(), 0)
    assert page(api)[("fleetune_autoscale_held", "chat")] == 1
