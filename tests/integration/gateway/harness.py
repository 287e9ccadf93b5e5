"""A gateway of the test's own on free ports, tables for it, and a client."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from controlplane.domain.base import RevisionId
from controlplane.domain.door.gateway_files import records_dir
from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.identity import ApiKey
from controlplane.domain.door.routing import Backend, GatewayRecord, RevisionRoute, RoutingTable, ServiceRoute
from controlplane.gateway.process import RunningGateway, open_gateway
from controlplane.gateway.settings import GatewaySettings
from tests.integration.gateway.upstream import Upstream

MODEL = "llama"
CHAT = "/v1/chat/completions"


def revision(name: str, weight: int, *engines: Upstream) -> RevisionRoute:
    backends = tuple(Backend(engine_id=engine.name, url=engine.url) for engine in engines)
    return RevisionRoute(revision=RevisionId(name), weight_percent=weight, backends=backends)


def table(
    *revisions: RevisionRoute,
    version: int = 1,
    keys: Mapping[str, str] | None = None,
    options: GatewayOptions | None = None,
) -> RoutingTable:
    """Build a table of one service. `keys` maps names to secrets."""
    hashed = tuple(
        ApiKey(name=name, sha256=hashlib.sha256(secret.encode()).hexdigest()) for name, secret in (keys or {}).items()
    )
    service = ServiceRoute(service="chat", model=MODEL, revisions=revisions, options=options or GatewayOptions())
    return RoutingTable(version=version, services=(service,), api_keys=hashed)


def chat(*, stream: bool = True, **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "stream": stream, "messages": [{"role": "user", "content": "secret words"}], **fields}


@dataclass
class Gateway:
    """A running gateway with a client session."""

    running: RunningGateway
    session: aiohttp.ClientSession
    data_dir: Path

    @property
    def url(self) -> str:
        return self.running.address.url

    async def route(self, *revisions: RevisionRoute, **kwargs: Any) -> None:
        status, answer = await self.push(table(*revisions, **kwargs))
        assert status == 200, answer

    async def push(self, routing: RoutingTable | bytes, **headers: str) -> tuple[int, Any]:
        body = routing if isinstance(routing, bytes) else routing.model_dump_json().encode()
        url = f"{self.running.address.admin_url}/admin/routing"
        async with self.session.put(url, data=body, headers=headers) as response:
            return response.status, await response.json()

    async def status(self) -> dict[str, Any]:
        async with self.session.get(f"{self.running.address.admin_url}/admin/status") as response:
            found: dict[str, Any] = await response.json()
            return found

    async def post(self, body: object, *, path: str = CHAT, **headers: str) -> tuple[int, bytes, Mapping[str, str]]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.session.post(self.url + path, data=io.BytesIO(data), headers=headers) as response:
            return response.status, await response.read(), response.headers

    async def split(self, requests: int, **headers: str) -> Counter[str]:
        """Send requests one after the other and count which revision answered."""
        answered: Counter[str] = Counter()
        for _ in range(requests):
            status, _, got = await self.post(chat(), **headers)
            assert status == 200
            answered[got["X-Fleetune-Revision"]] += 1
        return answered

    async def records(self, at_least: int = 1) -> Sequence[GatewayRecord]:
        """Wait until so many records are on disk, then return them all."""
        found: Sequence[GatewayRecord] = ()
        async with asyncio.timeout(240):
            while len(found) < at_least:
                await asyncio.sleep(0.02)
                found = read_records(self.data_dir)
        return found

    async def until(self, holds: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until the gateway's status is as wanted."""
        async with asyncio.timeout(240):
            while not holds(await self.status()):  # noqa: ASYNC110  # the gateway may be another process
                await asyncio.sleep(0.01)


def read_records(data_dir: Path) -> Sequence[GatewayRecord]:
    lines = [line for path in sorted(records_dir(data_dir).glob("*.jsonl")) for line in path.read_bytes().splitlines()]
    return [GatewayRecord.model_validate_json(line) for line in lines]


@asynccontextmanager
async def gateway(data_dir: Path, **settings: Any) -> AsyncIterator[Gateway]:
    """Run a gateway in this process."""
    defaults = {"data_dir": data_dir, "port": 0, "admin_port": 0, "drain_s": 5, "seed": 1}
    async with open_gateway(GatewaySettings(**(defaults | settings))) as running, aiohttp.ClientSession() as session:
        yield Gateway(running, session, data_dir)
