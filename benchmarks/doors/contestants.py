"""Starting each door before the stub engine, on a core of its own."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import aiohttp
import psutil

from controlplane.domain.base import RevisionId
from controlplane.domain.door.caching import CacheMode, CacheOptions
from controlplane.domain.door.gateway_files import addresses_dir
from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.identity import ApiKey, Limits
from controlplane.domain.door.personal import Personal
from controlplane.domain.door.privacy import Action, InputPolicy, OutputPolicy, PrivacyOptions
from controlplane.domain.door.queue_options import QueueOptions
from controlplane.domain.door.routing import Backend, GatewayAddress, RevisionRoute, RoutingTable, ServiceRoute

SECRET = "sk-" + "benchmark" * 8  # LiteLLM wants a long one
_START_S = 180.0
_PLENTY = 1_000_000_000

STAGES: Mapping[str, GatewayOptions] = {
    "limits": GatewayOptions(limits=Limits(requests_per_minute=_PLENTY, tokens_per_day=_PLENTY, concurrent=_PLENTY)),
    "screen": GatewayOptions(privacy=PrivacyOptions(input=InputPolicy(scripts=Action.FLAG, invisible=Action.FLAG))),
    "cache": GatewayOptions(cache=CacheOptions(mode=CacheMode.ALL)),  # no two requests are equal: looked up, then kept
    "redact": GatewayOptions(privacy=PrivacyOptions(output=OutputPolicy(redact=tuple(Personal)))),
    "queue": GatewayOptions(queue=QueueOptions(enabled=True)),
}
"""Our stages that can be turned on one by one, without a service of somebody else's behind them."""

ALL_STAGES = GatewayOptions(
    limits=STAGES["limits"].limits,
    privacy=PrivacyOptions(input=STAGES["screen"].privacy.input, output=STAGES["redact"].privacy.output),
    cache=STAGES["cache"].cache,
    queue=STAGES["queue"].queue,
)


class Door(NamedTuple):
    """One contestant that serves."""

    name: str
    url: str
    process: psutil.Process
    grpc: str | None = None

    def cpu_s(self) -> float:
        """CPU seconds used so far, by its children too. Counted by the kernel in nanoseconds, not in ticks of 10 ms."""
        found = [self.process, *self.process.children(recursive=True)]
        return sum(time.clock_gettime(_cpu_clock(each.pid)) for each in found)

    def rss_mib(self) -> float:
        """Memory in use now, by its children too."""
        found = [self.process, *self.process.children(recursive=True)]
        return float(sum(each.memory_info().rss for each in found)) / (1 << 20)


def _cpu_clock(pid: int) -> int:
    """Return Linux's number of the clock that counts a process's CPU time (`clock_getcpuclockid`)."""
    return ~pid << 3 | 2


@dataclass(frozen=True)
class Place:
    """Where contestants run: one core, before the stub, with a folder for their files."""

    core: int
    stub_url: str
    folder: Path

    @property
    def log(self) -> Path:
        """What contestants say."""
        return self.folder / "doors.log"


@asynccontextmanager
async def ours(
    place: Place,
    name: str,
    options: GatewayOptions,
    *,
    keyed: bool = False,
    audited: bool = False,
    grpc: bool = False,
    source: Path | None = None,
) -> AsyncIterator[Door]:
    """Run our gateway with these stages on, with a key that is asked for, with an audit log, with gRPC beside HTTP.

    `source` is a folder with another commit's package.
    """
    data_dir = place.folder / name.replace(" ", "-")
    command = [sys.executable, "-m", "controlplane.gateway", f"--data-dir={data_dir}", "--port=0", "--admin-port=0"]
    command += ["--audit-days=1"] if audited else []
    command += ["--grpc-port=0"] if grpc else []
    path = addresses_dir(data_dir) / "gw-1.json"
    path.unlink(missing_ok=True)  # of the round before, whose gateway was killed
    async with _child(command, place, {}, source) as process:
        await _until(path.exists, process, place.log)
        address = GatewayAddress.model_validate_json(path.read_bytes())
        await _give(address, _table(place.stub_url, options, keyed=keyed))
        yield Door(name, address.url, process, address.grpc)


@asynccontextmanager
async def litellm(place: Place, command: str) -> AsyncIterator[Door]:
    """Run LiteLLM's proxy, one worker, nothing on but routing. `command` is its `litellm`."""
    config, port = place.folder / "litellm.yaml", _free_port()
    known = {"model": "openai/stub", "api_base": f"{place.stub_url}/v1", "api_key": SECRET}
    config.write_text(json.dumps({"model_list": [{"model_name": "stub", "litellm_params": known}]}))
    options = [f"--config={config}", "--host=127.0.0.1", f"--port={port}", "--num_workers=1", "--telemetry=False"]
    offline = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MASTER_KEY": SECRET}
    async with _child([command, *options], place, offline) as process:
        await _until(lambda: _listens(port), process, place.log)
        yield Door("litellm", f"http://127.0.0.1:{port}", process)


@asynccontextmanager
async def envoy(place: Place, command: str) -> AsyncIterator[Door]:
    """Run Envoy, one worker, with one route."""
    config, port = place.folder / "envoy.json", _free_port()
    config.write_text(json.dumps(envoy_config(port, int(place.stub_url.rpartition(":")[2]))))
    options = ["-c", str(config), "--concurrency", "1", "--log-level", "error", "--disable-hot-restart"]
    async with _child([command, *options], place, {}) as process:
        await _until(lambda: _listens(port), process, place.log)
        yield Door("envoy", f"http://127.0.0.1:{port}", process)


def found(name: str, given: str | None) -> str | None:
    """Return the command of a contestant: the one that was given, else one on the path, else None."""
    return given or shutil.which(name)


def envoy_config(port: int, engine_port: int) -> Mapping[str, object]:
    """Return a static configuration: a listener on `port`, one cluster, no limit on the length of streams."""
    manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "engine", "timeout": "0s"}}
    hosts = [{"name": "all", "domains": ["*"], "routes": [route]}]
    http = {
        "@type": manager,
        "stat_prefix": "door",
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": http}]
    endpoint = {"endpoint": {"address": _address(engine_port)}}
    many = {"thresholds": [{"max_connections": 20_000, "max_pending_requests": 20_000, "max_requests": 20_000}]}
    cluster = {
        "name": "engine",
        "type": "STATIC",
        "circuit_breakers": many,
        "load_assignment": {"cluster_name": "engine", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    listener = {"address": _address(port), "filter_chains": [{"filters": filters}]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _address(port: int) -> Mapping[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _table(stub_url: str, options: GatewayOptions, *, keyed: bool) -> RoutingTable:
    backend = Backend(engine_id="stub", url=stub_url)
    revision = RevisionRoute(
        revision=RevisionId("rev"), weight_percent=100, backends=(backend,), concurrency_limit=100_000
    )
    service = ServiceRoute(service="stub", model="stub", revisions=(revision,), options=options)
    key = ApiKey(name="bench", sha256=hashlib.sha256(SECRET.encode()).hexdigest())
    return RoutingTable(version=1, services=(service,), api_keys=(key,) if keyed else ())


async def _give(address: GatewayAddress, table: RoutingTable) -> None:
    async with aiohttp.ClientSession() as session:
        await session.put(f"{address.admin_url}/admin/routing", data=table.model_dump_json(), raise_for_status=True)


@asynccontextmanager
async def _child(
    command: Sequence[str], place: Place, more: Mapping[str, str], folder: Path | None = None
) -> AsyncIterator[psutil.Process]:
    with place.log.open("ab") as log:
        child = await asyncio.create_subprocess_exec(
            *command, stdout=log, stderr=log, env={**os.environ, **more}, cwd=folder
        )
    process = psutil.Process(child.pid)
    process.cpu_affinity([place.core])
    try:
        yield process
    finally:
        if child.returncode is None:
            for each in [*process.children(recursive=True), process]:
                each.kill()
        await child.wait()


async def _until(holds: Callable[[], bool], process: psutil.Process, log: Path) -> None:
    async with asyncio.timeout(_START_S):
        while not holds():  # another process
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                raise RuntimeError(f"a contestant ended, and said last: {_last_words(log)}")
            await asyncio.sleep(0.05)


def _last_words(log: Path) -> str:
    return " ".join(log.read_text(errors="replace").split())[-500:]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
