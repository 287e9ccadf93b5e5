"""The registry over the API, and its command line in front of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from controlplane.domain.catalogue import CatalogueLink
from controlplane.host.digests import folder_digest
from controlplane.services.catalogue.follow import CatalogueFollower
from controlplane.services.fleet.serving import register_service
from tests.builders_serving import NOW, a_spec
from tests.fakes.catalogue import FakeCatalogue
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


def following(store: FakeStore, *, silent: bool) -> None:
    """Have a service follow a model of MLflow, which answers or does not."""
    link = CatalogueLink(model="Support Llama", alias="champion")
    register_service(store, a_spec(mlflow=link), actor="ann", now=NOW)
    catalogue = FakeCatalogue()
    for source in ("llama-8b", "models:/m-1"):
        catalogue.add("Support Llama", source)
    catalogue.move_alias("Support Llama", "champion", "1")
    catalogue.silent = "nobody listens there" if silent else None
    follower = CatalogueFollower(
        store=store, open_catalogue=lambda: catalogue, clock=lambda: NOW, monotonic=lambda: 0.0
    )
    follower.run()


def test_what_a_model_follows_in_mlflow_is_shown(api: TestClient, store: FakeStore, run: Any) -> None:
    following(store, silent=False)
    model = api.get("/models/support-llama").json()
    assert [(each["source"], each["origin"]) for each in model["versions"]] == [("llama-8b", "1")]
    assert model["origin"]["aliases"]["champion"]["version"] == "1"
    assert "no engine reads it: models:/m-1" in model["origin"]["refused"]["2"]
    code, shown = run("model", "show", "support-llama")
    assert code == 0
    assert "Support Llama of MLflow; champion → 1 there" in shown
    assert "1: llama-8b (no digest, 1 in MLflow)" in shown


def test_a_silent_mlflow_is_one_line_of_its_model_and_serving_is_described_as_ever(
    api: TestClient, store: FakeStore, run: Any
) -> None:
    following(store, silent=True)
    code, shown = run("model", "show", "support-llama")
    assert code == 0
    assert "MLflow does not answer: nobody listens there" in shown
    assert api.get("/services/chat").status_code == 200
    (event,) = api.get("/events", params={"subject": "model/support-llama"}).json()["items"]
    assert event["action"] == "model.not_followed"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"follows": "llama@candidate"}, "a service follows one alias"),
        ({"mlflow": {"model": "a/b", "alias": "champion"}}, "mlflow.model"),
        ({"mlflow": {"model": "a", "alias": "champion", "then": "deploy"}}, "mlflow.then"),
    ],
)
def test_a_service_that_cannot_follow_is_refused(api: TestClient, change: dict[str, Any], says: str) -> None:
    link = CatalogueLink(model="Support Llama", alias="champion")
    described = a_spec(mlflow=link).model_dump(mode="json") | change
    answered = api.post("/services", json=described)
    assert answered.status_code == 422
    assert says in answered.text


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
