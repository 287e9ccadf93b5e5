"""A real Prometheus with the written configuration: it finds the engine through the API, and every panel has data."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from controlplane.api.app import create_app
from controlplane.domain.base import EngineId, StudyId
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.fleet import Engine, EngineSpec, EngineState
from controlplane.domain.operations.alerts import AlertOptions
from controlplane.domain.operations.autoscale import ScaleDecision
from controlplane.domain.operations.autoscale_options import AutoscaleOptions
from controlplane.domain.operations.savings import Savings
from controlplane.domain.operations.space import Space
from controlplane.domain.replay import ReplayPoint
from controlplane.domain.service import ServiceSpec
from controlplane.domain.slo import LatencyMetric, LatencySlo
from controlplane.domain.studies.study import StudyState
from controlplane.host.ports import free_port
from controlplane.services.fleet.scaling import ScaleMemory, memory_setting
from dashboards.observability.files import SCRAPE, Where, files
from dashboards.observability.grafana import boards
from tests.builders_reports import a_load_report
from tests.builders_serving import CHAT, NOW, a_recommendation, a_revision, a_rollout, a_service, a_spec, a_study
from tests.fakes.record_source import FakeRecordSource
from tests.fakes.store import FakeStore
from tests.integration.gateway.harness import Gateway, gateway
from tests.integration.gateway.test_emulated_engines import asked, backend, emulated

pytestmark = pytest.mark.slow

UP = 'up{job="fleetune-engines"}'
STABLE = a_revision().revision_id
LIMITS = tuple(LatencySlo(metric=metric, percentile=99, limit_ms=1000) for metric in LatencyMetric)


class Engines:
    """A fleet to look at: what it is given."""

    def __init__(self, *engines: Engine) -> None:
        self._engines = engines

    def list(self) -> Sequence[Engine]:
        return self._engines

    def free_gpus(self, *, spot: bool | None = None) -> int:
        return 0


def an_engine(name: str, owner: str, url: str | None, state: EngineState = EngineState.READY) -> Engine:
    spec = EngineSpec(
        engine_id=EngineId(name),
        owner=owner,
        kind=EngineKind.EMULATOR,
        model="llama-8b",
        served_name="llama",
        config=EngineConfig(),
        gpus=1,
    )
    return Engine(spec=spec, state=state, url=url, started_at=NOW)


@asynccontextmanager
async def an_api(*engines: Engine, store: FakeStore | None = None) -> AsyncIterator[str]:
    app = create_app(
        store=store or FakeStore(),
        records=FakeRecordSource(),
        fleet_view=Engines(*engines),
        clock=lambda: NOW,
        open_without_keys=True,
        space=lambda: Space(size=100, free=50),
    )
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def prometheus(folder: Path, spec: ServiceSpec, where: Where) -> AsyncIterator[httpx.AsyncClient]:
    for name, text in files([spec], where).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={folder / SCRAPE}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=240) as client:
            yield client
    finally:
        process.terminate()
        await process.wait()


async def answer(client: httpx.AsyncClient, expr: str) -> list[Any]:
    try:
        response = await client.get("/api/v1/query", params={"query": expr})
    except httpx.TransportError:  # still starting
        return []
    if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        return []
    assert response.status_code == httpx.codes.OK, f"{expr}: {response.text}"
    found: list[Any] = response.json()["data"]["result"]
    return [each for each in found if each["value"][1] != "NaN"]


async def until_answered(client: httpx.AsyncClient, queries: Sequence[str]) -> None:
    """Wait until every query has data; the time-out says which have none."""
    left = list(queries)
    try:
        async with asyncio.timeout(240):
            while left := [query for query in left if not await answer(client, query)]:  # noqa: ASYNC110  # a process
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise AssertionError(f"no data for {left}") from None


def under_way(spec: ServiceSpec) -> FakeStore:
    """Return a store in which a service scales by itself and has a rollout: every panel has something to show."""
    store = FakeStore()
    store.add_revision(a_revision())
    store.save_service(a_service(spec=spec.evolve(autoscale=AutoscaleOptions(enabled=True)), stable=STABLE), 0)
    store.save_rollout(a_rollout(), 0)
    memory = ScaleMemory(decision=ScaleDecision(at=NOW, replicas=1, reason="1 for 1 requests/s"))
    store.write_setting(memory_setting(CHAT), memory.model_dump_json(), 0)
    store.save_study(a_study(state=StudyState.DONE, recommendation=a_recommendation()), 0)
    saved = Savings(revision=STABLE, study_id=StudyId("st-1"), promoted_at=NOW, watched_s=3600, baseline_usd=2)
    store.write_setting(f"savings/{CHAT}", saved.model_dump_json(), 0)
    point = ReplayPoint(service=CHAT, schedule="nightly", number=1, regressed=False)
    store.add_load_report("replay.1", CHAT, a_load_report(), NOW, replay=point)
    return store


async def keep_asking(gw: Gateway) -> None:
    while True:
        await gw.post(asked(8))
        await asyncio.sleep(0.05)


async def test_every_panel_of_every_dashboard_has_data(tmp_path: Path) -> None:
    spec = a_spec(name="chat", slos=a_spec().slos.evolve(latency=LIMITS), alerts=AlertOptions(usd_per_day=100))
    queries = [
        query
        for board in boards([spec])
        for row in board.rows.values()
        for chart in row
        for query in chart.queries.values()
    ]
    async with gateway(tmp_path / "gw") as gw, emulated("e1") as engine:
        serving = an_engine("e1", "rollout/chat/rev-a", engine.url)
        others = [
            an_engine("t1", "trial/study/1", "http://127.0.0.1:9"),
            an_engine("e2", "rollout/chat/rev-a", None, EngineState.STARTING),
        ]
        await gw.route(backend(engine))
        traffic = asyncio.create_task(keep_asking(gw))
        async with an_api(serving, *others, store=under_way(spec)) as api:
            where = Where(api, [gw.url.removeprefix("http://")], interval="1s")
            async with prometheus(tmp_path, spec, where) as client:
                await until_answered(client, [*queries, f"{UP} == 1"])  # not at every second on a busy machine
                targets = await answer(client, UP)
                errors = await answer(client, 'fleetune:slo_miss:ratio_rate5m{slo=~"errors.*"}')
        traffic.cancel()
    assert [(each["metric"]["engine"], each["metric"]["revision"]) for each in targets] == [("e1", "rev-a")]
    assert [each["value"][1] for each in errors] == ["0"]


def test_a_board_is_the_same_text_every_time() -> None:
    made = [files([a_spec()], Where("http://a", ["b:1"]))["grafana/fleetune-slo.json"] for _ in range(2)]
    assert made[0] == made[1]
    assert json.loads(made[0])["title"] == "Fleetune: SLOs"
