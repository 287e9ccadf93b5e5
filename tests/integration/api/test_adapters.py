"""Adapters over the API, and their command line in front of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from controlplane.services.fleet.loaded import LoadedAdapters, write_loaded
from controlplane.services.fleet.serving import register_service
from tests.builders_serving import CHAT, NOW, a_spec
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
    code, listed = run("adapter", "list", "chat", "-o", "json")
    (row,) = json.loads(listed)
    assert row["loaded"] == {"chat-1": [1, 2], "chat-2": [1]}
    assert row["problems"] == {"support--2": "chat-2 refuses it"}
    assert run("adapter", "promote", "chat", "support")[0] == 0
    assert "stable 1" in run("adapter", "roll-back", "chat", "support", "--to", "1")[1]
    assert run("adapter", "unload", "chat", "support") == (0, "support is unloaded from every replica of chat")
    assert "no adapter; `fleetune adapter load" in run("adapter", "list", "chat")[1]


def test_bad_input_is_one_message(run: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "adapter_config.json").write_text("{")
    for path, says in (
        (str(tmp_path / "empty"), "holds no adapter"),
        (str(tmp_path / "odd"), "is no JSON"),
        (a_folder(tmp_path / "none", r="x"), "it says no rank"),
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
