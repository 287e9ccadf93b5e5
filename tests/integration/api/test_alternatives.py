"""Alternatives of a service by the front door: described, shown without secrets, rolled out, refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from controlplane.domain.base import RevisionId
from controlplane.domain.engines.engine import EngineKind
from controlplane.domain.masking import HIDDEN
from tests.builders_serving import a_spec
from tests.fakes.store import FakeStore
from tests.integration.api.conftest import problem


def described(**engine: Any) -> str:
    other = {"engine": {"kind": "sglang", "flags": {"max-running-requests": 64}, **engine}}
    return json.dumps(a_spec().model_dump(mode="json") | {"alternatives": {"fast": other}})


def test_an_alternative_is_shown_without_its_secrets_and_rolled_out_as_what_it_is(
    api: TestClient, store: FakeStore
) -> None:
    assert api.post("/services", content=described(env={"TOKEN": "planted"})).status_code == 201
    shown = api.get("/services/chat").json()["spec"]["alternatives"]["fast"]["engine"]
    assert (shown["kind"], shown["env"]) == ("sglang", {"TOKEN": HIDDEN})
    flags = {"engine": "fast", "max-running-requests": 32}
    answer = api.post("/rollouts", json={"service": "chat", "replicas": 1, "flags": flags})
    assert answer.status_code == 201, answer.text
    canary = store.get_revision(RevisionId(answer.json()["canary"]))
    assert (canary.engine.kind, canary.config.flags["engine"]) == (EngineKind.SGLANG, "fast")
    assert "planted" not in api.get(f"/revisions/{canary.revision_id}").text


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        ({"flags": {"max-num-seqs": 8}}, "SGLang calls it --max-running-requests"),
        ({"flags": {"colour": "blue"}}, "there is no --colour"),
        ({"kind": "onnx"}, "alternatives.fast.engine.kind"),
        ({"version": "9.9"}, "newer than every flag file that ships"),
    ],
)
def test_an_alternative_that_could_not_start_is_refused_at_the_door(
    api: TestClient, store: FakeStore, engine: dict[str, Any], says: str
) -> None:
    refused = problem(api.post("/services", content=described(**engine)), 422)
    assert says in refused["title"] + refused["detail"] + refused.get("allowed", "")
    assert not store.list_services()


def test_a_rollout_to_an_alternative_that_is_not_described_is_refused(api: TestClient) -> None:
    api.post("/services", content=described())
    flags = {"engine": "slow"}
    refused = problem(api.post("/rollouts", json={"service": "chat", "replicas": 1, "flags": flags}), 422)
    assert "has no alternative slow" in refused["detail"]
    assert "fast" in refused["allowed"]
