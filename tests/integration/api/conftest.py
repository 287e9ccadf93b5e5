"""An API over fakes, and a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from controlplane.api.app import create_app
from controlplane.api.context import ChecksTokens
from controlplane.cli import asking
from controlplane.cli.client import ApiClient
from controlplane.cli.main import app
from controlplane.domain.base import EngineId
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.fleet import Engine, EngineSpec, EngineState
from controlplane.domain.operations.space import Space
from controlplane.ports import Clock
from controlplane.ports.metrics import MetricsSource, OwnMetrics
from controlplane.ports.store import Store
from tests.builders_serving import NOW
from tests.fakes.record_source import FakeRecordSource
from tests.fakes.store import FakeStore


class OneEngine:
    """A fleet to look at: one ready engine, three free GPUs."""

    def list(self) -> Sequence[Engine]:
        spec = EngineSpec(
            engine_id=EngineId("chat-1"),
            owner="rollout/chat/rev-1",
            kind=EngineKind.EMULATOR,
            model="llama-8b",
            served_name="llama-8b",
            config=EngineConfig(),
            gpus=1,
            env={"HF_TOKEN": "hf-secret"},
        )
        return [Engine(spec=spec, state=EngineState.READY, gpu_indices=(0,), started_at=NOW, ready_at=NOW)]

    def free_gpus(self, *, spot: bool | None = None) -> int:
        return 3


def an_api(
    store: Store,
    *,
    open_without_keys: bool = True,
    trusted_as: str | None = None,
    own_secrets: Mapping[str, str] | None = None,
    gpus: tuple[int, ...] = (),
    clock: Clock = lambda: NOW,
    wall_clock: Clock | None = None,
    metrics: MetricsSource | None = None,
    own_metrics: OwnMetrics | None = None,
    tokens: ChecksTokens | None = None,
    space: Callable[[], Space | None] = lambda: None,
    alert_secret: Callable[[], str | None] = lambda: None,
) -> TestClient:
    """Return a client of an API over `store`, as a caller on this machine sees it."""
    app = create_app(
        store=store,
        records=FakeRecordSource(),
        fleet_view=OneEngine(),
        clock=clock,
        wall_clock=wall_clock,
        open_without_keys=open_without_keys,
        trusted_as=trusted_as,
        own_secrets=own_secrets,
        gpus=gpus,
        metrics=metrics,
        own_metrics=own_metrics,
        space=space,
        alert_secret=alert_secret,
        tokens=tokens,
    )
    return TestClient(app, base_url="http://127.0.0.1:8700/api/v1", raise_server_exceptions=False)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def api(store: FakeStore) -> TestClient:
    return an_api(store)


class Answer(Protocol):
    """The part of an HTTP response that a problem is read from."""

    @property
    def status_code(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    def json(self) -> Any: ...


def problem(response: Answer, status: int) -> dict[str, Any]:
    """Return the problem document of a response that must be one."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert {"type", "title", "detail", "what"} <= body.keys()
    assert "Traceback" not in response.text
    return body


@pytest.fixture
def run(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what runs a command against the API of the test, and its exit code and text."""

    def send(method: str, url: str, options: Mapping[str, Any]) -> Any:
        wanted = {name: value for name, value in options.items() if name in ("json", "params")}
        return api.request(method, url.split("/api/v1", 1)[1], **wanted)

    def client(*_: Any, **__: Any) -> ApiClient:
        found = ApiClient(url="http://api", key=None, data_dir=Path())
        found._send = send
        return found

    monkeypatch.setattr(asking, "client", client)

    def invoked(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, words)
        return done.exit_code, " ".join(done.output.split())

    return invoked
