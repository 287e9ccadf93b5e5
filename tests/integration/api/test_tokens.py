"""Tokens of an issuer at the API: same keys, same claims, the scopes of the API."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.door.identity import Scope
from controlplane.domain.errors import InvalidInput
from controlplane.reading.issuers_file import load_issuers
from controlplane.tokens.door import TokenDoor
from controlplane.tokens.fetch import fetch_keys
from controlplane.tokens.key_set import ASKED_AT_MOST_EVERY_S
from tests.builders_serving import NOW
from tests.fakes.store import FakeStore
from tests.integration.api.conftest import an_api, problem
from tests.issuer import TestIssuer, serving_keys

ROLES: dict[str, Any] = {"scopes": {role: Scope(role) for role in ("infer", "read", "operate", "admin")}}


@pytest.fixture
def issuer() -> Iterator[TestIssuer]:
    with serving_keys(TestIssuer()) as served:
        yield served


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_token_does_what_its_scopes_say(store: FakeStore, issuer: TestIssuer) -> None:
    api = an_api(store, tokens=TokenDoor([issuer.described(**ROLES)], fetch_keys, lambda: 0.0))
    problem(api.get("/services"), 401)  # no key was ever made, and yet not everybody may ask
    problem(api.get("/services", headers=bearer("no.such.token")), 401)
    problem(api.get("/services", headers=bearer(issuer.token(NOW, scope="infer"))), 403)
    assert api.get("/services", headers=bearer(issuer.token(NOW, scope="openid read"))).status_code == 200
    problem(api.get("/keys", headers=bearer(issuer.token(NOW, scope="read operate"))), 403)
    made = api.post("/keys", json={"name": "app"}, headers=bearer(issuer.token(NOW, scope="admin")))
    assert made.status_code == 201
    assert [event.actor for event in store.list_events(limit=5)] == ["corp:ada"]


def test_rotated_keys_are_followed(store: FakeStore, issuer: TestIssuer) -> None:
    at = [0.0]
    api = an_api(store, tokens=TokenDoor([issuer.described(**ROLES)], fetch_keys, lambda: at[0]))
    old = issuer.token(NOW, scope="read")
    assert api.get("/services", headers=bearer(old)).status_code == 200
    issuer.rotate(keep_old=False)
    at[0] += ASKED_AT_MOST_EVERY_S
    assert api.get("/services", headers=bearer(issuer.token(NOW, scope="read"))).status_code == 200
    problem(api.get("/services", headers=bearer(old)), 401)
    assert issuer.fetched == 2


def test_an_issuer_that_is_away_is_unavailable(store: FakeStore, issuer: TestIssuer) -> None:
    issuer.down = True
    api = an_api(store, tokens=TokenDoor([issuer.described(**ROLES)], fetch_keys, lambda: 0.0))
    problem(api.get("/services", headers=bearer(issuer.token(NOW, scope="read"))), 503)
    problem(api.get("/services", headers=bearer(issuer.token(NOW + timedelta(days=1), iss="other"))), 401)


def test_the_file_of_issuers_is_read_or_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "issuers.yaml"
    path.write_text("issuers: [{name: a, issuer: i, audience: us, jwks_url: 'https://i/keys', scopes: {x: admin}}]")
    assert load_issuers(path)[0].scopes == {"x": Scope.ADMIN}
    path.write_text("issuers: [{name: a, issuer: i, audience: us, jwks_url: 'http://i/keys', algorithms: [HS256]}]")
    with pytest.raises(InvalidInput, match="https") as caught:
        load_issuers(path)
    assert "algorithms" in str(caught.value)
    twice = "{name: a, issuer: i, audience: us, jwks_url: 'https://i/keys'}"
    path.write_text(f"issuers: [{twice}, {twice}]")
    with pytest.raises(InvalidInput, match="same name"):
        load_issuers(path)
    for text in ("issuers: [", "5", ""):
        path.write_text(text)
        with pytest.raises(InvalidInput):
            load_issuers(path)
    with pytest.raises(InvalidInput, match="cannot read"):
        load_issuers(tmp_path / "none.yaml")
    assert load_issuers(None) == ()
