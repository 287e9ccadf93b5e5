"""API keys: who may ask, and what is kept of a secret."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from tests.builders_serving import NOW, a_service, a_study, after
from tests.fakes.store import FakeStore
from tests.integration.api.conftest import an_api, problem


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def a_key(api: TestClient, name: str = "ana", secret: str | None = None) -> str:
    body = {"name": name, "scopes": ["admin"]}
    response = api.post("/keys", json=body, headers=bearer(secret) if secret else {})
    assert response.status_code == 201, response.text
    made: str = response.json()["secret"]
    return made


def test_without_keys_this_machine_may_ask(api: TestClient) -> None:
    assert api.get("/studies").status_code == 200


def test_after_the_first_key_every_request_needs_one(api: TestClient) -> None:
    secret = a_key(api)
    assert "Authorization" in problem(api.get("/studies"), 401)["allowed"]
    problem(api.get("/studies", headers=bearer("flt_wrong")), 401)
    assert api.get("/studies", headers=bearer(secret)).status_code == 200


def test_health_and_schema_are_open(api: TestClient) -> None:
    a_key(api)
    assert api.get("/health").json() == {"status": "ok"}
    assert "slos" in api.get("/schema").json()["properties"]


def test_a_refusal_names_the_scheme(api: TestClient) -> None:
    a_key(api)
    assert api.get("/studies").headers["www-authenticate"] == "Bearer"


def test_a_revoked_key_is_refused(api: TestClient) -> None:
    first = a_key(api)
    second = a_key(api, "ben", first)
    assert api.delete("/keys/ana", headers=bearer(second)).status_code == 204
    problem(api.get("/studies", headers=bearer(first)), 401)


def test_only_the_hash_of_a_secret_is_kept(api: TestClient, store: FakeStore) -> None:
    secret = a_key(api)
    kept = "".join(row.value.model_dump_json() for row in store.list_credentials())
    assert "sha256" in kept
    assert secret not in kept
    assert secret.removeprefix("flt_") not in kept
    shown = api.get("/keys", headers=bearer(secret))
    assert [key["name"] for key in shown.json()["items"]] == ["ana"]
    assert "sha256" not in shown.text
    assert all(secret not in event.model_dump_json() for event in store.list_events())


def test_a_change_is_told_with_the_name_of_the_key(api: TestClient, store: FakeStore) -> None:
    store.save_service(a_service(), 0)
    store.save_study(a_study(), 0)
    secret = a_key(api)
    body = {"reason": "lunch"}
    assert api.post("/studies/st-1/pause", json=body, headers=bearer(secret)).status_code == 200
    event = store.list_events(subject="study/st-1")[0]
    assert (event.actor, event.reason) == ("ana", "lunch")


@pytest.mark.parametrize("name", ["", "UPPER", "a b", "controller", "x" * 41])
def test_a_bad_name_for_a_key_is_refused(api: TestClient, name: str) -> None:
    assert "a-z" in problem(api.post("/keys", json={"name": name}), 422)["allowed"]


def test_a_name_in_use_is_a_conflict(api: TestClient) -> None:
    secret = a_key(api)
    problem(api.post("/keys", json={"name": "ana"}, headers=bearer(secret)), 409)


def test_an_unknown_key_cannot_be_revoked(api: TestClient) -> None:
    problem(api.delete("/keys/nobody"), 404)


def test_beyond_loopback_nobody_may_ask_without_a_key(store: FakeStore) -> None:
    problem(an_api(store, open_without_keys=False).get("/studies"), 401)


def test_a_web_page_of_another_origin_may_not_act_on_an_open_api(api: TestClient) -> None:
    problem(api.post("/keys", json={"name": "evil"}, headers={"Origin": "https://evil.example"}), 401)
    problem(api.get("/studies", headers={"Host": "evil.example:8700"}), 401)
    assert api.get("/studies", headers={"Origin": "http://localhost:8501"}).status_code == 200


def test_a_trusted_caller_in_process_needs_no_key_and_is_named(store: FakeStore) -> None:
    a_key(an_api(store))
    trusted = an_api(store, trusted_as="cli")
    assert trusted.post("/keys", json={"name": "ben"}).status_code == 201
    assert store.list_events()[0].actor == "cli"


def test_a_new_key_may_ask_models_only_unless_told_otherwise(api: TestClient) -> None:
    made = api.post("/keys", json={"name": "app", "tenant": "shop"}).json()
    assert (made["scopes"], made["tenant"]) == (["infer"], "shop")
    problem(api.get("/studies", headers=bearer(made["secret"])), 403)


def test_a_rotated_key_works_with_both_secrets_until_the_overlap_ends(store: FakeStore) -> None:
    moment = [NOW]
    api = an_api(store, clock=lambda: moment[0])
    old = a_key(api)
    new = api.post("/keys/ana/rotate", json={"overlap_s": 60}, headers=bearer(old)).json()["secret"]
    for secret in (old, new):
        assert api.get("/studies", headers=bearer(secret)).status_code == 200
    moment[0] = after(60)
    assert api.get("/studies", headers=bearer(new)).status_code == 200
    problem(api.get("/studies", headers=bearer(old)), 401)


def test_a_key_stops_when_it_expires(store: FakeStore) -> None:
    moment = [NOW]
    api = an_api(store, clock=lambda: moment[0])
    body = {"name": "brief", "scopes": ["read"], "expires_at": after(60).isoformat()}
    secret = api.post("/keys", json=body).json()["secret"]
    assert api.get("/studies", headers=bearer(secret)).status_code == 200
    moment[0] = after(60)
    problem(api.get("/studies", headers=bearer(secret)), 401)


def test_the_last_use_of_a_key_is_kept_to_the_minute(store: FakeStore) -> None:
    moment = [NOW]
    api = an_api(store, clock=lambda: moment[0])
    secret = a_key(api)
    for second in (1, 30, 62):
        moment[0] = after(second)
        api.get("/studies", headers=bearer(secret))
    assert store.list_credentials()[0].value.last_used_at == after(62)
    assert store.list_credentials()[0].version == 3


def test_revoking_the_last_key_does_not_open_the_door_again(api: TestClient) -> None:
    secret = a_key(api)
    assert api.delete("/keys/ana", headers=bearer(secret)).status_code == 204
    problem(api.get("/studies"), 401)


def test_a_revoked_name_may_be_used_again_with_another_secret(store: FakeStore) -> None:
    trusted = an_api(store, trusted_as="cli")
    first = a_key(trusted)
    trusted.delete("/keys/ana")
    second = a_key(trusted)
    api = an_api(store)
    problem(api.get("/studies", headers=bearer(first)), 401)
    assert api.get("/studies", headers=bearer(second)).status_code == 200


def test_the_installations_own_dashboard_goes_on_when_keys_are_made_and_may_operate_but_not_make_keys(
    store: FakeStore,
) -> None:
    api = an_api(store, own_secrets={"dashboard": "its-own"})
    store.save_study(a_study(), 0)
    a_key(api)
    assert api.get("/studies", headers=bearer("its-own")).status_code == 200
    assert api.post("/studies/st-1/pause", json={}, headers=bearer("its-own")).status_code == 200
    assert store.list_events()[0].actor == "dashboard"
    problem(api.post("/keys", json={"name": "more"}, headers=bearer("its-own")), 403)
    problem(api.get("/studies", headers=bearer("its-owm")), 401)


def test_the_command_line_of_the_host_may_do_everything_with_the_key_of_the_data_folder(store: FakeStore) -> None:
    api = an_api(store, own_secrets={"dashboard": "shown", "cli": "of-the-folder"})
    a_key(api)
    assert api.post("/keys", json={"name": "more"}, headers=bearer("of-the-folder")).status_code == 201
    assert store.list_events()[0].actor == "cli"


@pytest.mark.parametrize("given", ["", "None", "null"])
def test_without_a_key_of_its_own_nobody_is_the_dashboard(store: FakeStore, given: str) -> None:
    api = an_api(store)
    a_key(api)
    problem(api.get("/studies", headers=bearer(given)), 401)
