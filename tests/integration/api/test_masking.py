"""Secrets are hidden wherever they stand, and what was hidden and is given back keeps its value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from controlplane.domain.base import ServiceName
from controlplane.domain.door.judging import JudgeOptions
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.masking import HIDDEN, is_secret, masked
from controlplane.domain.service import EngineOptions, ServiceSpec
from tests.builders_serving import a_revision, a_service, a_spec, a_study, a_trial
from tests.fakes.store import FakeStore
from tests.integration.api.conftest import problem
from tests.integration.api.test_scopes import OPERATIONS, PREFIX

SECRET = "PLANTED-s3cret"
FLAGS = {"api-key": SECRET, "hf-token": SECRET, "max-num-seqs": 8, "tokenizer": "shown-tokenizer"}
COMMAND = ("vllm", "serve", "{model}", "--port", "{port}", "{args}", f"--api-key={SECRET}", "--hf-token", SECRET)


def secretive() -> ServiceSpec:
    spec = a_spec()
    engine = EngineOptions(**{**dict(spec.engine), "flags": FLAGS, "env": {"TOKEN": SECRET}, "command": COMMAND})
    return spec.evolve(engine=engine)


@pytest.fixture
def planted(store: FakeStore) -> FakeStore:
    """A store with a secret in every place where a service may have one."""
    spec = secretive()
    config = EngineConfig(flags=FLAGS)
    revision = a_revision(config, spec)
    store.add_revision(revision)
    store.save_service(a_service(spec=spec, stable=revision.revision_id), 0)
    store.save_study(a_study(spec=spec, baseline=config), 0)
    store.save_trial(a_trial(config=config), 0)
    return store


def test_no_answer_of_the_api_shows_a_secret(api: TestClient, planted: FakeStore) -> None:
    names = {"{service}": "chat", "{study_id}": "st-1", "{trial_id}": "st-1-0"}
    shown = ""
    for method, path in OPERATIONS:
        if method == "GET":
            for placeholder, name in names.items():
                path = path.replace(placeholder, name)  # noqa: PLW2901 - the same path, named
            shown += api.get(path).text
    assert SECRET not in shown
    assert shown.count(HIDDEN) > 10
    assert "shown-tokenizer" in shown
    assert PREFIX  # the paths above are relative to it


def test_a_service_that_is_read_and_given_back_keeps_its_secrets(api: TestClient, planted: FakeStore) -> None:
    shown = api.get("/services/chat").json()["spec"]
    shown["slos"]["target_qps"] = 9
    answer = api.post("/services", content=json.dumps(shown))
    assert answer.status_code == 201, answer.text
    assert SECRET not in answer.text
    kept = planted.get_service(ServiceName("chat")).value.spec
    assert kept == secretive().evolve(slos=kept.slos)
    assert kept.slos.target_qps == 9


@pytest.mark.parametrize("place", ["env", "flags", "command"])
def test_what_hides_nothing_known_is_refused(api: TestClient, store: FakeStore, place: str) -> None:
    hidden: dict[str, Any] = {
        "env": {"TOKEN": HIDDEN},
        "flags": {"api-key": HIDDEN},
        "command": ["vllm", "{port}", "{args}", f"--api-key={HIDDEN}"],
    }
    spec = a_spec().model_dump(mode="json")
    spec["engine"][place] = hidden[place]
    assert HIDDEN in problem(api.post("/services", content=json.dumps(spec)), 422)["detail"]
    assert not store.list_services()


def test_a_judges_secret_is_hidden_and_kept_when_its_service_is_given_back(api: TestClient, store: FakeStore) -> None:
    judge = JudgeOptions(command=("judge", f"--api-key={SECRET}"), tenants=("acme",))
    store.save_service(a_service(spec=a_spec(ab_judge=judge)), 0)
    shown = api.get("/services/chat").json()["spec"]
    assert shown["ab_judge"]["command"] == ["judge", f"--api-key={HIDDEN}"]
    answer = api.post("/services", content=json.dumps({**shown, "slos": {**shown["slos"], "target_qps": 9}}))
    assert (answer.status_code, SECRET in answer.text) == (201, False)
    assert store.get_service(ServiceName("chat")).value.spec.ab_judge == judge


@pytest.mark.parametrize(
    ("flag", "value", "secret"),
    [
        ("api-key", "x", True),
        ("--hf_token", "x", True),
        ("some-password", "x", True),
        ("tokenizer", "x", False),
        ("max-num-batched-tokens", 8, False),
        ("hf-token", True, False),
        ("ssl-keyfile", "/etc/key.pem", False),
    ],
)
def test_a_flag_is_secret_by_its_last_word(flag: str, value: object, secret: bool) -> None:
    assert is_secret(flag, value) is secret


def test_masking_changes_nothing_else() -> None:
    content = {"a": [1, {"flags": {"x": 1}, "command": ["sh", "-c", "echo"]}], "env": {}, "key": "name-of-a-key"}
    assert masked(content) == content
