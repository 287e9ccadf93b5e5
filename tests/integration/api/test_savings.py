"""What a recommendation saved is shown with the cost, in the status and to a Prometheus."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from fastapi.testclient import TestClient

from controlplane.domain.base import RevisionId, StudyId
from controlplane.domain.operations.savings import Savings
from tests.builders_serving import NOW, a_service
from tests.fakes.store import FakeStore


def test_it_is_shown_with_the_cost_in_the_status_and_to_a_prometheus(
    api: TestClient,
    store: FakeStore,
    run: Any,
) -> None:
    store.save_service(a_service(stable=RevisionId("rev-1")), 0)
    assert api.get("/services/chat/cost").json()["saved"] is None
    kept = Savings(
        revision=RevisionId("rev-1"),
        study_id=StudyId("st-1"),
        promoted_at=NOW - timedelta(hours=2),
        watched_s=3600,
        ran_usd=6,
        baseline_usd=12,
        baseline_low_usd=9,
        baseline_high_usd=15,
    )
    store.write_setting("savings/chat", kept.model_dump_json(), 0)
    assert api.get("/services/chat/cost").json()["saved"]["saved_usd_per_hour"] == 6
    assert api.get("/status").json()["services"][0]["saved_usd_per_hour"] == 6
    assert 'fleetune_saved_usd_per_hour{service="chat"} 6.0' in api.get("/metrics").text
    _, text = run("service", "cost", "chat")
    assert "study st-1 saves 6.00 USD/h against its baseline (3.00 to 9.00): 6.00 USD in 1.0 h watched" in text
    _, wide = run("status", "-o", "wide")
    assert "6.00" in wide
    store.write_setting("savings/chat", kept.evolve(revision=RevisionId("rev-0")).model_dump_json(), 1)
    assert api.get("/services/chat/cost").json()["saved"] is None, "of a revision that serves no more"
