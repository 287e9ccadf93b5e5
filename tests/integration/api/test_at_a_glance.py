"""What is said without the API is what the API says, to the letter; what is not plain is left to it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from controlplane.adapters.store_sql.store import open_store
from controlplane.adapters.store_sql.version import VERSION_TABLE
from controlplane.api.app import PREFIX, create_app
from controlplane.wiring.at_a_glance import LISTS, ONES, answer
from tests.builders_serving import NOW
from tests.e2e.dashboard import seed
from tests.fakes.record_source import FakeRecordSource
from tests.integration.api.conftest import OneEngine

LIMITED = {"limit": 20}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("seeded") / "fleetune.db"
    store = open_store(url_of(found))
    seed.fill(store, NOW)
    store.close()
    return found


@pytest.fixture(scope="module")
def api(file: Path) -> Iterator[TestClient]:
    app = create_app(
        store=open_store(url_of(file)),
        records=FakeRecordSource(),
        fleet_view=OneEngine(),
        clock=lambda: NOW,
        trusted_as="tester",
    )
    with TestClient(app) as client:
        yield client


@pytest.fixture
def copy(file: Path, tmp_path: Path) -> Path:
    """A store that a test may damage."""
    made = tmp_path / "fleetune.db"
    with closing(sqlite3.connect(file)) as whole, closing(sqlite3.connect(made)) as part:
        whole.backup(part)
    return made


def url_of(file: Path) -> str:
    return f"sqlite:///{file}"


def said(api: TestClient, path: str, **params: Any) -> Any:
    response = api.get(f"{PREFIX}{path}", params=params)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("noun", LISTS)
def test_a_list_is_the_apis(noun: str, api: TestClient, file: Path) -> None:
    seen = answer(url_of(file), f"/{noun}", LIMITED)
    assert seen["items"], "nothing is seeded, so nothing is compared"
    assert json.dumps(seen) == json.dumps(said(api, f"/{noun}", **LIMITED))


@pytest.mark.parametrize("noun", [noun for noun, shelf in LISTS.items() if shelf.filters])
def test_a_list_of_one_service_is_the_apis(noun: str, api: TestClient, file: Path) -> None:
    for service in (seed.CHAT, seed.CODE, "unknown"):
        asked = LIMITED | {"service": service}
        assert answer(url_of(file), f"/{noun}", asked) == said(api, f"/{noun}", **asked)


def test_a_list_is_cut_where_the_apis_is(api: TestClient, file: Path) -> None:
    asked = {"limit": 2}
    seen = answer(url_of(file), "/events", asked)
    assert len(seen["items"]) == 2
    assert seen == said(api, "/events", **asked)
    of_one = {"limit": 5, "subject": seen["items"][1]["subject"]}
    assert answer(url_of(file), "/events", of_one) == said(api, "/events", **of_one)


def names_of(noun: str, file: Path) -> list[str]:
    shelf = ONES[noun]
    with closing(sqlite3.connect(file)) as connection:
        return [name for (name,) in connection.execute(f"SELECT {shelf.key} FROM {shelf.table}")]


@pytest.mark.parametrize("noun", ONES)
def test_one_thing_is_the_apis(noun: str, api: TestClient, file: Path) -> None:
    names = names_of(noun, file)
    seen = [answer(url_of(file), f"/{noun}/{name}", {}) for name in names]
    asked = [api.get(f"{PREFIX}/{noun}/{name}") for name in names]
    assert any(seen)
    assert seen == [each.json() if each.is_success else None for each in asked]


def test_the_trials_of_a_study_are_the_apis(api: TestClient, file: Path) -> None:
    for study in names_of("studies", file):
        seen = answer(url_of(file), f"/studies/{study}/trials", {})
        assert seen["items"]
        assert seen == said(api, f"/studies/{study}/trials")


def test_secrets_are_hidden(file: Path) -> None:
    seen = json.dumps(answer(url_of(file), "/services", {}))
    assert "HF_TOKEN" in seen
    assert "hf-not-for-the-api" not in seen


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/studies/unknown", {}),
        ("/studies/unknown/trials", {}),
        ("/studies", {"limit": 0}),
        ("/studies", {"limit": 1001}),
        ("/studies", {}),
        ("/services/chat/status", {}),
        ("/keys", {}),
    ],
)
def test_what_is_not_plain_is_left_to_the_api(path: str, params: dict[str, Any], file: Path) -> None:
    assert answer(url_of(file), path, params) is None


@pytest.mark.parametrize(
    "damage",
    [
        f"UPDATE {VERSION_TABLE} SET version_num = 'newer'",
        f"DROP TABLE {VERSION_TABLE}",
        "UPDATE fleetune_studies SET document = '{}'",
    ],
)
def test_a_store_that_is_not_as_expected_is_left_to_the_api(damage: str, copy: Path) -> None:
    assert answer(url_of(copy), "/studies", LIMITED) is not None
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute(damage)
    assert answer(url_of(copy), "/studies", LIMITED) is None


@pytest.mark.parametrize("url", ["postgresql://nobody@localhost/none", "sqlite:////nowhere/fleetune.db"])
def test_another_store_is_left_to_the_api_and_nothing_is_made(url: str) -> None:
    assert answer(url, "/studies", LIMITED) is None
    assert not Path("/nowhere").exists()
