"""What a key may do: every operation names its scope, and what runs code on the host needs an admin."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient

from controlplane.domain.door.identity import GRANTS, Grant, Scope
from controlplane.services.keys import create_key
from tests.builders_serving import NOW, a_service, a_spec
from tests.fakes.store import FakeStore
from tests.integration.api.conftest import an_api, problem
from tests.integration.api.operations import operations

OPEN = {("GET", "/health"), ("GET", "/schema"), ("GET", "/docs")}
PREFIX = "/api/v1"


def needed(method: str, path: str) -> Scope | None:
    """What an operation needs: looking is `read`, doing is `operate`, keys are `admin`."""
    if (method, path) in OPEN:
        return None
    if path.startswith("/keys"):
        return Scope.ADMIN
    return Scope.READ if method == "GET" or path == "/predict" else Scope.OPERATE


OPERATIONS = sorted({*operations(), ("GET", "/docs")})  # the page for browsers among them


def bearer(store: FakeStore, *scopes: Scope) -> dict[str, str]:
    name = "key-" + "-".join(scopes)
    return {"Authorization": f"Bearer {create_key(store, name, Grant(scopes=scopes), actor='test', now=NOW).secret}"}


def ask(api: TestClient, method: str, path: str, headers: dict[str, str] | None = None) -> Any:
    named = path.replace("{", "").replace("}", "")
    return api.request(method, named, headers=headers or {}, json={} if method in ("POST", "PUT") else None)


def test_all_operations_are_looked_at() -> None:
    assert len(OPERATIONS) > 45
    assert {method for method, _ in OPERATIONS} == {"GET", "POST", "PUT", "DELETE"}


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_operation_needs_its_scope_and_no_more(method: str, path: str) -> None:
    store = FakeStore()
    api, scope = an_api(store), needed(method, path)
    keys = {each: bearer(store, each) for each in Scope}
    if scope is None:
        assert ask(api, method, path).status_code == 200
        return
    problem(ask(api, method, path), 401)
    for given, headers in keys.items():
        answer = ask(api, method, path, headers)
        if scope in GRANTS[given]:
            assert answer.status_code not in (401, 403), (given, answer.text)
        else:
            assert str(scope) in problem(answer, 403)["allowed"]


def with_command(**changes: Any) -> dict[str, Any]:
    """A service's description that runs code of its writer's."""
    spec = a_spec().model_dump(mode="json", exclude_defaults=False)
    for place, value in changes.items():
        *folders, last = place.split("__")
        at = spec
        for folder in folders:
            at = at[folder]
        at[last] = value
    return spec


CODE = [
    {"engine__command": ["/bin/sh", "-c", "id; true {port} {args}"]},
    {"engine__env": {"LD_PRELOAD": "/tmp/evil.so"}},
    {"engine__flags": {"trust_remote_code": True}},
    {"tuning__quality__command": ["/bin/sh", "-c", "id"], "tuning__quality__min_score": 1},
    {"tuning__quality__prompts": "/etc/passwd"},
    {"alternatives": {"other": {"engine": {"kind": "sglang", "command": ["/bin/sh", "{port}", "{args}"]}}}},
    {"alternatives": {"other": {"path": "/m", "space": {"middleware": {"choices": ["evil"]}}}}},
    {"ab_judge": {"command": ["/bin/sh", "-c", "id"]}},
    {"tuning__space": {"--worker-cls": {"choices": ["evil.Worker"]}}},
]


@pytest.mark.parametrize("changes", CODE, ids=lambda change: next(iter(change)))
def test_what_runs_code_on_the_host_is_an_admins_to_register(store: FakeStore, changes: dict[str, Any]) -> None:
    api, body = an_api(store), yaml.safe_dump(with_command(**changes))
    refused = api.post("/services", content=body, headers=bearer(store, Scope.OPERATE))
    assert "admin" in problem(refused, 403)["allowed"]
    assert not store.list_services()
    code = api.post("/services", content=body, headers=bearer(store, Scope.ADMIN)).status_code
    assert code not in (401, 403)


def test_what_an_admin_registered_an_operator_may_change_around_it(store: FakeStore) -> None:
    spec = a_spec()
    spec = spec.evolve(engine=spec.engine.evolve(env={"HF_TOKEN": "hf-secret"}))
    store.save_service(a_service(spec=spec), 0)
    api, headers = an_api(store), bearer(store, Scope.OPERATE)
    shown = api.get("/services/chat", headers=headers).json()["spec"]
    shown["slos"]["target_qps"] = 9
    assert api.post("/services", content=json.dumps(shown), headers=headers).status_code == 201
    shown["engine"]["env"]["HF_TOKEN"] = "another"
    problem(api.post("/services", content=json.dumps(shown), headers=headers), 403)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/rollouts", {"service": "chat", "replicas": 1, "flags": {"--trust_remote_code": True}}),
        ("/studies", {"service": "chat", "overrides": {"quality": {"command": ["sh"], "min_score": 1}}}),
        ("/studies", {"service": "chat", "overrides": {"space": {"middleware": {"choices": ["evil"]}}}}),
    ],
)
def test_code_comes_in_by_no_other_way_either(store: FakeStore, path: str, body: dict[str, Any]) -> None:
    store.save_service(a_service(), 0)
    api = an_api(store)
    problem(api.post(path, json=body, headers=bearer(store, Scope.OPERATE)), 403)
    assert api.post(path, json=body, headers=bearer(store, Scope.ADMIN)).status_code not in (401, 403)
