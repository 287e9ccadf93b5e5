"""What reaches whom, whoever splits it: Fleetune's gateway, or the cluster's by an HTTPRoute. One suite for both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from scipy.stats import binom

from controlplane.adapters.fleet_kubernetes.door import open_door
from controlplane.adapters.fleet_kubernetes.routes import RouteTraffic
from controlplane.adapters.gateway.traffic import GatewayTraffic
from controlplane.domain.base import EngineId, RevisionId
from controlplane.domain.door.routing import Backend, RevisionRoute, RoutingTable, ServiceRoute
from controlplane.domain.engines.fleet import Engine, EngineState
from controlplane.ports.gateways import TrafficRouter
from tests.contract.conftest import open_server
from tests.contract.fleet_on_cluster import ClusterSubject
from tests.contract.fleet_subjects import a_spec, observe_until
from tests.contract.gateways import gateway
from tests.contract.kubernetes_servers import KINDS, Server
from tests.contract.routes import ROUTE, data_plane, endpoints_told

pytestmark = pytest.mark.engines
STABLE, CANARY = RevisionId("rev-1"), RevisionId("rev-2")
ASKED = {"model": "m", "prompt": "a", "max_tokens": 4}
_SURE = 1e-6


class Split:
    """Two revisions of one replica each, and whatever splits traffic over them."""

    def __init__(self, router: TrafficRouter, url: str, engines: Sequence[Engine]) -> None:
        self.router, self._url, self._version = router, url, 0
        self._backends = [Backend(engine_id=e.spec.engine_id, url=str(e.url)) for e in engines]

    def give(self, canary: int) -> RoutingTable:
        """Let the canary have so many percent."""
        self._version += 1
        weights = zip((STABLE, CANARY), (100 - canary, canary), self._backends, strict=True)
        routes = tuple(RevisionRoute(revision=r, weight_percent=w, backends=(b,)) for r, w, b in weights)
        service = ServiceRoute(service="chat", model="m", revisions=routes)
        table = RoutingTable(version=self._version, services=(service,))
        self.router.apply(table)
        return table

    def canarys_share(self, requests: int) -> int:
        """Return how many of so many requests the canary answered."""
        mine = self._backends[1].url
        with ThreadPoolExecutor(8) as pool, httpx.Client(timeout=240, trust_env=False, verify=False) as client:
            answers = list(pool.map(lambda _: self._ask(client), range(requests)))
        return sum(answer in mine for answer in answers)

    def stream(self, tokens: int) -> str:
        """Return a whole stream."""
        asked = ASKED | {"stream": True, "max_tokens": tokens}
        return httpx.post(f"{self._url}/v1/completions", json=asked, timeout=240, trust_env=False, verify=False).text

    def _ask(self, client: httpx.Client) -> str:
        answer = client.post(f"{self._url}/v1/completions", json=ASKED)
        answer.raise_for_status()
        return str(answer.json()["system_fingerprint"])


@pytest.fixture(scope="module", params=KINDS)
def engines(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ClusterSubject, Sequence[Engine]]]:
    folder = tmp_path_factory.mktemp("split")
    server = open_server(request, request.param, folder)
    subject = ClusterSubject(server)
    ids = [EngineId("chat-rev-1-1"), EngineId("chat-rev-2-1")]
    for name, revision in zip(ids, (STABLE, CANARY), strict=True):
        subject.fleet.start(a_spec(name).evolve(owner=f"rollout/chat/{revision}"))
    for name in ids:
        observe_until(subject, name, EngineState.READY)
    yield subject, [subject.fleet.observe(name) for name in ids]
    subject.close()


@pytest.fixture(params=["own-gateway", "httproute"])
def split(
    request: pytest.FixtureRequest, engines: tuple[ClusterSubject, Sequence[Engine]], tmp_path: Path
) -> Iterator[Split]:
    subject, found = engines
    open_split: Callable[..., Iterator[Split]] = _by_gateway if request.param == "own-gateway" else _by_route
    yield from open_split(subject.server, found, tmp_path)


def _by_gateway(_server: Server, engines: Sequence[Engine], folder: Path) -> Iterator[Split]:
    with gateway(folder, "gw-1", seed=7) as address:
        router = GatewayTraffic(lambda: [address], admin_token="adm1n", timeout_s=240)
        yield Split(router, address.url, engines)
        router.close()


def _by_route(server: Server, engines: Sequence[Engine], _folder: Path) -> Iterator[Split]:
    with data_plane(server) as plane, endpoints_told(server, "chat-rev-1", "chat-rev-2"):
        router = RouteTraffic(open_door(server.kubeconfig()), server.namespace, options=lambda _: ROUTE, settle_s=60)
        yield Split(router, plane.url, engines)
        router.apply(RoutingTable(version=1000))
        router.close()


def test_each_revision_gets_its_share(split: Split) -> None:
    split.give(20)
    low, high = binom.interval(1 - _SURE, 300, 0.2)
    assert low <= split.canarys_share(300) <= high


def test_a_revision_of_weight_0_gets_nothing(split: Split) -> None:
    split.give(20)
    split.give(0)
    assert split.canarys_share(100) == 0


def test_no_stream_is_cut_when_weights_change(split: Split) -> None:
    split.give(50)
    with ThreadPoolExecutor(8) as pool:
        streams = [pool.submit(split.stream, 25) for _ in range(8)]
        for canary in (100, 0, 20):
            split.give(canary)
        texts = [stream.result() for stream in streams]
    assert [text.count('"a"') for text in texts] == [25] * 8
    assert all(text.endswith("data: [DONE]\n\n") for text in texts)


def test_the_table_in_force_is_read_back(split: Split) -> None:
    split.give(5)
    table = split.give(20)
    assert list(split.router.actual()) == [table]
