"""An app that loads what is asked answers it as the whole app does."""

from __future__ import annotations

import httpx
from fastapi import FastAPI

from controlplane.api.app import PREFIX, answer_for, create_app
from tests.builders_serving import NOW, a_service
from tests.fakes.record_source import FakeRecordSource
from tests.fakes.store import FakeStore
from tests.integration.api.conftest import OneEngine


def an_app(*, bare: bool) -> FastAPI:
    store = FakeStore()
    store.save_service(a_service(), 0)
    return create_app(
        store=store,
        records=FakeRecordSource(),
        fleet_view=OneEngine(),
        clock=lambda: NOW,
        trusted_as="tester",
        bare=bare,
    )


def paths(app: FastAPI) -> dict[str, set[str]]:
    """Return the operations of an app, by the first word of their paths."""
    found: dict[str, set[str]] = {}
    for path, operations in app.openapi()["paths"].items():
        word = path.removeprefix(f"{PREFIX}/").split("/")[0]
        found.setdefault(word, set()).update(f"{method} {path}" for method in operations)
    return found


def test_for_every_path_a_bare_app_loads_what_the_whole_one_answers_it_with() -> None:
    whole = paths(an_app(bare=False))
    assert len(whole) > 15
    for word, operations in whole.items():
        app = an_app(bare=True)
        assert paths(app) == {}
        answer_for(app, f"/{word}/some-name")
        assert paths(app)[word] == operations


async def test_it_answers_one_noun_after_the_other() -> None:
    app = an_app(bare=True)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://in-process") as client:
        for path in ("/studies", "/services", "/services/chat", "/studies"):
            answer_for(app, path)
            assert (await client.get(f"{PREFIX}{path}")).status_code == 200
