"""From an engine that died to a replica more: a real Prometheus and a real Alertmanager, with the written files."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import uvicorn

from controlplane.api.app import create_app
from controlplane.domain.door.identity import Grant, Scope
from controlplane.domain.operations.alerts import AlertAction, AlertOptions
from controlplane.domain.service import ServiceSpec
from controlplane.host.ports import free_port
from controlplane.services.keys import create_key
from dashboards.observability.files import ALERTS, RULES, SCRAPE, Where, files
from tests.builders_serving import CHAT, NOW, a_revision, a_service, a_spec
from tests.fakes.record_source import FakeRecordSource
from tests.fakes.store import FakeStore
from tests.integration.observability.test_prometheus import Engines, an_engine

PROGRAMS = ("prometheus", "prometheus-alertmanager")
MISSING = [each for each in PROGRAMS if shutil.which(each) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed here (Debian packages): {', '.join(MISSING)}"),
]
LIMIT_S = 240.0  # only a dead process gets there


@asynccontextmanager
async def running(*command: str) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def an_api(store: FakeStore, dead_engine_url: str) -> AsyncIterator[str]:
    app = create_app(
        store=store,
        records=FakeRecordSource(),
        fleet_view=Engines(an_engine("e1", "rollout/chat/rev-a", dead_engine_url)),
        clock=lambda: NOW,
    )
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


def a_store(spec: ServiceSpec) -> FakeStore:
    store, stable = FakeStore(), a_revision(spec=spec)
    store.add_revision(stable)
    store.save_service(a_service(spec=spec, stable=stable.revision_id, stable_replicas=1), 0)
    return store


def written(folder: Path, spec: ServiceSpec, where: Where) -> None:
    """Write the files as the command does; the one alert of this test fires at once, not after a minute."""
    for name, text in files([spec], where).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text.replace("for: 1m", "for: 0s") if name == RULES else text)


async def until_acted(store: FakeStore) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not any(event.action == "alert.acted" for event in store.list_events()):  # noqa: ASYNC110  # processes
            await asyncio.sleep(0.1)


async def test_a_dead_engine_is_told_and_a_replica_more_is_wanted(tmp_path: Path) -> None:
    spec = a_spec(alerts=AlertOptions(actions={"FleetuneEngineDown": AlertAction.SCALE_OUT}))
    store = a_store(spec)
    secret = create_key(store, "prometheus", Grant(scopes=(Scope.OPERATE,)), actor="cli", now=NOW).secret
    (tmp_path / "key").write_text(secret)
    ports = [free_port() for _ in PROGRAMS]
    prometheus, alertmanager = (f"127.0.0.1:{port}" for port in ports)
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(an_api(store, "http://127.0.0.1:9"))
        where = Where(api, ["127.0.0.1:9"], str(tmp_path / "key"), interval="1s", alertmanager=alertmanager)
        written(tmp_path, spec, where)
        for command in (
            (
                PROGRAMS[1],
                f"--config.file={tmp_path / ALERTS}",
                f"--storage.path={tmp_path / 'alerts'}",
                f"--web.listen-address={alertmanager}",
                "--cluster.listen-address=",
            ),
            (
                PROGRAMS[0],
                f"--config.file={tmp_path / SCRAPE}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address={prometheus}",
            ),
        ):
            await stack.enter_async_context(running(*command))
        await until_acted(store)
    assert store.get_service(CHAT).value.stable_replicas == 2
    fired = [event for event in store.list_events(service=CHAT) if event.subject == "alert/FleetuneEngineDown"]
    assert {event.actor for event in fired} == {"prometheus"}
    assert [event.action for event in reversed(fired)] == ["alert.fired", "alert.acted"]
