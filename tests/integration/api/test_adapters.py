"""Adapters over the API, and their command line in front of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from controlplane.services.adapters.verdict import AdapterJudge
from controlplane.services.fleet.loaded import LoadedAdapters, write_loaded
from controlplane.services.fleet.serving import register_service
from tests.builders_serving import CHAT, NOW, a_spec
from tests.fakes.record_source import FakeRecordSource
from tests.fakes.store import FakeStore
from tests.unit.fleet.test_adapters import ENGINE


@pytest.fixture(autouse=True)
def chat(store: FakeStore) -> None:
    register_service(store, a_spec(engine=ENGINE), actor="ann", now=NOW)


def a_folder(path: Path, **changes: Any) -> str:
    path.mkdir()
    config = {"r": 8, "base_model_name_or_path": "meta/llama-8b"} | changes
    (path / "adapter_config.json").write_text(json.dumps(config))
    return str(path)


def test_an_adapter_goes_its_way_from_the_command_line(run: Any, store: FakeStore, tmp_path: Path) -> None:
    first, second = a_folder(tmp_path / "a"), a_folder(tmp_path / "b")
    assert run("adapter", "load", "chat", "support", first)[0] == 0
    code, shown = run("adapter", "load", "chat", "support", second, "--share", "10")
    assert (code, "share of the canary 10 %" in shown) == (0, True)
    engines = {"chat-1": ("support--1", "support--2"), "chat-2": ("support--1",)}
    write_loaded(store, CHAT, LoadedAdapters(engines=engines, problems={"support--2": "chat-2 refuses it"}))
    code, said = run("adapter", "load", "chat", "support", first)
    assert (code, "is version 1 of support already" in said) == (2, True), "said twice it is loaded once"
    code, listed = run("adapter", "list", "chat", "-o", "json")
    (row,) = json.loads(listed)
    assert row["loaded"] == {"chat-1": [1, 2], "chat-2": [1]}
    assert row["problems"] == {"support--2": "chat-2 refuses it"}
    assert run("adapter", "promote", "chat", "support")[0] == 0
    assert "stable 1" in run("adapter", "roll-back", "chat", "support", "--to", "1")[1]
    assert run("adapter", "unload", "chat", "support") == (0, "support is unloaded from every replica of chat")
    assert "no adapter; `fleetune adapter load" in run("adapter", "list", "chat")[1]


def test_a_canary_is_judged_unless_a_person_wants_to_decide(run: Any, store: FakeStore, api: TestClient) -> None:
    for path, how in (("/a", "--judge"), ("/b", "--judge"), ("/c", "--by-hand")):
        if path == "/c":
            assert run("adapter", "promote", "chat", "support")[0] == 0
        assert run("adapter", "load", "chat", "support", path, how)[0] == 0
        (status,) = api.get("/services/chat/adapters").json()["items"]
        assert status["adapter"]["judged"] is (path == "/b")
        assert status["judgement"] is None
        if path == "/b":
            AdapterJudge(store=store, records=FakeRecordSource(), clock=lambda: NOW).run()
            (status,) = api.get("/services/chat/adapters").json()["items"]
            assert "0 of at least 50 canary requests" in status["judgement"]["reason"]
            assert "0 of at least 50" in " ".join(run("adapter", "list", "chat")[1].split())


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"base": "org/mistral"}, 422, "it was made for org/mistral"),
        ({"rank": 64}, 422, "its rank is 64"),
        ({"name": "llama-8b"}, 409, "is served already"),
        ({"share_percent": 100}, 422, "share_percent"),
    ],
)
def test_an_adapter_that_cannot_serve_is_one_problem(
    api: TestClient, change: dict[str, Any], status: int, says: str
) -> None:
    answered = api.post("/services/chat/adapters", json={"name": "support", "path": "/a"} | change)
    assert answered.status_code == status
    assert says in answered.text


def test_bad_input_is_one_message(run: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "adapter_config.json").write_text("{")
    for path, says in (
        (str(tmp_path / "empty"), "holds no adapter"),
        (str(tmp_path / "odd"), "is no JSON"),
        (a_folder(tmp_path / "none", r=None), "it says no rank"),
        (a_folder(tmp_path / "word", r="x"), 'its rank `r` is "x"'),
        (a_folder(tmp_path / "large", r=64), "its rank is 64"),
        (a_folder(tmp_path / "other", base_model_name_or_path="org/mistral"), "it was made for org/mistral"),
    ):
        code, said = run("adapter", "load", "chat", "support", path)
        assert code == 2
        assert says in said
    for words, says in (
        (("promote", "chat", "support"), "chat has no adapter 'support'"),
        (("list", "mail"), "no service 'mail'"),
        (("load", "chat", "Bad Name", "/x"), "name"),
    ):
        code, said = run("adapter", *words)
        assert code == 2
        assert says in said
