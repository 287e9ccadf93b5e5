"""What a description names and nobody knows is said when it is registered, and as long as it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient

from controlplane.domain.service import ModelSpec
from controlplane.services.fleet.serving import register_service
from controlplane.services.models import NewVersion, move_alias, register_version
from tests.builders_serving import NOW, a_spec
from tests.fakes.store import FakeStore

FALLBACK = "gateway.fallback is small, which no service here serves: nothing falls back"
ALIAS = "follows is llama@candidate: "


def described(folder: Path, **changes: Any) -> str:
    path = folder / "service.yaml"
    path.write_text(yaml.safe_dump(a_spec().model_dump(mode="json") | changes))
    return str(path)


def findings(api: TestClient) -> list[str]:
    (chat,) = (each for each in api.get("/status").json()["services"] if each["service"] == "chat")
    return [each["text"] for each in chat["findings"] if each["standing"] == "watch"]


def small(store: FakeStore) -> None:
    spec = a_spec(name="small", model=ModelSpec(name="small", path="llama-1b"))
    register_service(store, spec, actor="ann", now=NOW)


def test_a_fallback_that_no_service_serves_is_said_until_one_does(
    run: Any, api: TestClient, store: FakeStore, tmp_path: Path
) -> None:
    code, said = run("service", "register", "-f", described(tmp_path, gateway={"fallback": "small"}))
    assert code == 0
    assert f"note: chat: {FALLBACK} (there is no other service)" in said
    assert any(FALLBACK in text for text in findings(api))
    small(store)
    assert not any(FALLBACK in text for text in findings(api))
    assert FALLBACK not in run("service", "register", "-f", str(tmp_path / "service.yaml"))[1]


@pytest.mark.parametrize("known", [False, True], ids=["no such model", "no such alias"])
def test_an_alias_to_follow_that_nobody_knows_is_said_until_it_is_there(
    run: Any, api: TestClient, store: FakeStore, tmp_path: Path, known: bool
) -> None:
    if known:
        register_version(store, "llama", NewVersion(source="/models/llama-1"), actor="ann", now=NOW)
    code, said = run("service", "register", "-f", described(tmp_path, follows="llama@candidate"))
    assert code == 0
    assert f"note: chat: {ALIAS}" in said
    assert ("llama has no version 'candidate'" in said) is known
    assert "llama-8b serves until it is there" in said
    assert any(ALIAS in text for text in findings(api))
    if not known:
        register_version(store, "llama", NewVersion(source="/models/llama-1"), actor="ann", now=NOW)
    move_alias(store, "llama", "candidate", "1", seen=None, actor="ann", now=NOW)
    assert not any(ALIAS in text for text in findings(api))
