"""The registry over the API, and its command line in front of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from controlplane.host.digests import folder_digest
from tests.fakes.store import FakeStore
from tests.integration.api.conftest import an_api


@pytest.fixture
def api(store: FakeStore) -> TestClient:
    return an_api(store)


def test_a_version_is_registered_shown_and_its_alias_moved(api: TestClient) -> None:
    made = api.post("/models/llama/versions", json={"source": "org/llama", "quality": {"mmlu": 0.7}})
    assert (made.status_code, made.json()["number"]) == (201, 1)
    moved = api.put("/models/llama/aliases/candidate", json={"version": "latest"})
    assert moved.json()["aliases"]["candidate"]["version"] == 1
    assert api.get("/models").json()["items"] == [moved.json()]
    assert api.get("/models/llama/lineage").json()["items"] == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("GET", "/models/mistral", None, 404, "no model 'mistral'"),
        ("PUT", "/models/llama/aliases/stable", {"version": "9"}, 404, "llama has no version '9'"),
        ("PUT", "/models/llama/aliases/candidate", {"version": "1"}, 409, "was moved to version 1 by local"),
        ("PUT", "/models/llama/aliases/latest", {"version": "1"}, 422, "is no alias"),
        ("POST", "/models/llama/versions", {"source": "org/llama"}, 409, "is version 1 of llama already"),
        ("POST", "/models/llama/versions", {"source": "x", "digest": "md5:1"}, 422, "digest"),
        ("POST", "/models/Bad_Name!/versions", {"source": "x"}, 422, "name"),
        ("POST", "/models/llama/serve", {"service": "chat", "version": "1"}, 404, "no service 'chat'"),
    ],
)
def test_what_cannot_be_done_is_one_problem_that_says_why(
    api: TestClient, method: str, path: str, body: Mapping[str, Any] | None, status: int, says: str
) -> None:
    api.post("/models/llama/versions", json={"source": "org/llama"})
    api.put("/models/llama/aliases/candidate", json={"version": "1"})
    answered = api.request(method, path, json=body)
    assert answered.status_code == status
    assert says in answered.text


def test_a_folder_is_read_when_it_is_registered_and_known_again(run: Any, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "weights").write_bytes(b"1")
    digest = folder_digest(tmp_path)
    assert run("model", "register", "m", str(tmp_path), "--score", "mmlu=0.7", "--variant", "fp8=org/m-fp8")[0] == 0
    code, shown = run("model", "show", "m")
    assert code == 0
    assert digest[:19] in shown
    assert "mmlu 0.7; also fp8" in shown
    assert run("model", "alias", "m", "stable", "1") == (0, run("model", "alias", "m", "stable", "latest")[1])
    assert run("model", "verify", "m", "stable")[0] == 0
    (tmp_path / "sub" / "weights").write_bytes(b"2")
    code, said = run("model", "verify", "m", "stable")
    assert code == 2
    assert "is not what it should be" in said
    code, said = run("model", "register", "m", str(tmp_path), "--digest", digest)
    assert code == 2
    assert f"allowed: {digest}" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("model", "register", "m", "org/m", "--score", "mmlu"), "'mmlu' is no pair"),
        (("model", "register", "m", "org/m", "--score", "mmlu=good"), "the score mmlu is no number"),
        (("model", "alias", "m", "stable", "1"), "no model 'm'"),
        (("model", "serve", "m", "1", "--service", "chat"), "no model 'm'"),
        (("roll-back", "chat"), "no service 'chat'"),
        (("roll-back", "chat", "--to", "rev-1"), "no revision 'rev-1'"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(run: Any, words: tuple[str, ...], says: str) -> None:
    code, said = run(*words)
    assert code == 2
    assert says in said


@pytest.mark.parametrize("change", ["content", "name", "moved", "more"])
def test_a_digest_tells_any_change_of_a_folder(tmp_path: Path, change: str) -> None:
    (tmp_path / "a").write_bytes(b"12")
    (tmp_path / "b").write_bytes(b"3")
    before = folder_digest(tmp_path)
    match change:
        case "content":
            (tmp_path / "b").write_bytes(b"4")
        case "name":
            (tmp_path / "b").rename(tmp_path / "c")
        case "moved":
            (tmp_path / "a").write_bytes(b"1")
            (tmp_path / "b").write_bytes(b"23")
        case "more":
            (tmp_path / "empty").write_bytes(b"")
    assert folder_digest(tmp_path) != before
