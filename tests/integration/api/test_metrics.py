"""The control plane's page for Prometheus: what is wanted, what is there, and nothing that is not known."""

from __future__ import annotations

from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from controlplane.domain.operations.autoscale import ScaleDecision
from controlplane.domain.operations.autoscale_options import AutoscaleOptions
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.services.fleet.scaling import ScaleMemory, memory_setting
from tests.builders_serving import CHAT, NOW, a_revision, a_rollout, a_service, a_spec, a_study
from tests.fakes.store import FakeStore


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
    assert found[("fleetune_usd_per_hour", "chat")] == 3, "one engine of one GPU"
    assert (found[("fleetune_rollout", "chat", "halted")], found[("fleetune_rollout", "chat", "progressing")]) == (1, 0)
    assert sum(value for (name, *_), value in found.items() if name == "fleetune_studies") == 1


def test_an_autoscaler_that_holds_is_told_once_it_has_decided(api: TestClient, store: FakeStore) -> None:
    store.save_service(a_service(spec=a_spec(autoscale=AutoscaleOptions(enabled=True))), 0)
    assert ("fleetune_autoscale_held", "chat") not in page(api)
    memory = ScaleMemory(decision=ScaleDecision(at=NOW, replicas=1, held=True, reason="no gateway answers"))
    store.write_setting(memory_setting(CHAT), memory.model_dump_json(), 0)
    assert page(api)[("fleetune_autoscale_held", "chat")] == 1
