"""What every TrafficRouter does, on the fake and on real gateways over their admin ports."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from controlplane.adapters.gateway.traffic import GatewayTraffic
from controlplane.domain.base import RevisionId
from controlplane.domain.door.identity import ApiKey
from controlplane.domain.door.routing import RevisionRoute, RoutingTable, ServiceRoute
from controlplane.domain.errors import StaleVersion, Unavailable
from controlplane.ports.gateways import CertificateView, FlightView, GatewayNews, TrafficRouter
from tests.contract.gateways import gateway
from tests.fakes.traffic_router import FakeTrafficRouter


def table(version: int, *, canary: int = 0) -> RoutingTable:
    revisions = (
        RevisionRoute(revision=RevisionId("stable"), weight_percent=100 - canary),
        RevisionRoute(revision=RevisionId("canary"), weight_percent=canary),
    )
    return RoutingTable(version=version, services=(ServiceRoute(service="chat", model="llama", revisions=revisions),))


@dataclass
class Setup:
    """A router of some gateways; `take_down` makes one of them stop answering."""

    router: TrafficRouter
    view: FlightView
    uses: GatewayNews
    certificates: CertificateView
    use: Callable[[int, str], None]
    take_down: Callable[[int], None]


@pytest.fixture(params=["fake", "gateways"])
def build(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[int], Setup]]:
    """Return a builder of a router with so many gateways."""
    with ExitStack() as stack:
        yield _fake if request.param == "fake" else lambda count: _real(count, tmp_path, stack)


def _fake(count: int) -> Setup:
    fake = FakeTrafficRouter(f"gw-{number}" for number in range(count))

    def use(number: int, name: str) -> None:
        fake.uses[name] = datetime.now(UTC)

    return Setup(fake, fake, fake, fake, use, lambda number: fake.down.add(f"gw-{number}"))


def _real(count: int, data_dir: Path, stack: ExitStack) -> Setup:
    addresses = [stack.enter_context(gateway(data_dir, f"gw-{number}")) for number in range(count)]

    def take_down(number: int) -> None:
        # Port 1: nothing listens there, as after a crash.
        addresses[number] = addresses[number].evolve(admin_url="http://127.0.0.1:1")

    router = GatewayTraffic(lambda: addresses, admin_token="adm1n", timeout_s=240)
    stack.callback(router.close)

    def use(number: int, name: str) -> None:
        httpx.get(f"{addresses[number].url}/v1/models", headers={"X-Api-Key": name}, timeout=240).raise_for_status()

    return Setup(router, router, router, router, use, take_down)


Build = Callable[[int], Setup]


def test_every_gateway_gets_the_table(build: Build) -> None:
    setup = build(2)
    setup.router.apply(table(1))
    assert list(setup.router.actual()) == [table(1), table(1)]


def test_a_newer_table_replaces_the_present_one(build: Build) -> None:
    setup = build(1)
    setup.router.apply(table(1))
    setup.router.apply(table(2, canary=5))
    assert list(setup.router.actual()) == [table(2, canary=5)]


def test_the_same_table_again_is_fine(build: Build) -> None:
    setup = build(1)
    setup.router.apply(table(3))
    setup.router.apply(table(3))
    assert list(setup.router.actual()) == [table(3)]


@pytest.mark.parametrize(
    "late", [table(2, canary=20), table(3, canary=20)], ids=["older", "same version, other content"]
)
def test_a_table_that_comes_too_late_is_stale(build: Build, late: RoutingTable) -> None:
    setup = build(1)
    setup.router.apply(table(3))
    with pytest.raises(StaleVersion):
        setup.router.apply(late)
    assert list(setup.router.actual()) == [table(3)]


def test_a_gateway_that_is_down_is_told_while_the_others_have_the_table(build: Build) -> None:
    setup = build(2)
    setup.take_down(0)
    with pytest.raises(Unavailable):
        setup.router.apply(table(1))
    assert list(setup.router.actual()) == [None, table(1)]  # it may be sending by an old table


def test_a_gateway_without_a_table_has_an_empty_one(build: Build) -> None:
    assert list(build(1).router.actual()) == [RoutingTable(version=0)]


def test_certificates_are_those_of_gateways_that_answer_and_plain_http_has_none(build: Build) -> None:
    setup = build(2)
    setup.take_down(0)
    assert [dict(each) for each in setup.certificates.certificates().values()] == [{}]


def test_without_any_gateway_nothing_can_be_routed(build: Build) -> None:
    setup = build(0)
    with pytest.raises(Unavailable):
        setup.router.apply(table(1))
    with pytest.raises(Unavailable):
        setup.router.actual()


def test_the_last_use_of_a_key_is_the_latest_of_all_gateways(build: Callable[[int], Setup]) -> None:
    setup = build(2)
    keys = tuple(ApiKey(name=name, sha256=hashlib.sha256(name.encode()).hexdigest()) for name in ("ops", "app"))
    setup.router.apply(table(1).evolve(api_keys=keys))
    assert setup.uses.key_uses() == {}
    setup.use(0, "ops")
    first = setup.uses.key_uses()
    setup.use(1, "ops")
    then = setup.uses.key_uses()
    assert first.keys() == then.keys() == {"ops"}
    assert first["ops"] <= then["ops"]
    setup.take_down(0)
    setup.take_down(1)
    assert setup.uses.key_uses() == {}


def test_a_wrong_admin_token_is_told_and_changes_nothing(tmp_path: Path) -> None:
    with gateway(tmp_path, "gw-1") as address:
        stranger = GatewayTraffic(lambda: [address], admin_token="wrong", timeout_s=240)
        with pytest.raises(Unavailable, match="admin token"):
            stranger.apply(table(1))
        stranger.close()


def test_flights_are_those_of_gateways_that_answer(build: Callable[[int], Setup]) -> None:
    setup = build(2)
    assert setup.view.flights() == []
    setup.take_down(0)
    assert setup.view.flights() == []
    setup.take_down(1)
    with pytest.raises(Unavailable):
        setup.view.flights()


def test_gateways_that_answer_tell_their_troubles(build: Callable[[int], Setup]) -> None:
    setup = build(2)
    assert setup.uses.troubles() == {"gw-0": [], "gw-1": []}
    setup.take_down(0)
    assert setup.uses.troubles() == {"gw-1": []}


def test_the_page_that_a_gateway_shows_to_clients_networks_is_read_at_its_admin_port(tmp_path: Path) -> None:
    with gateway(tmp_path, "gw-1") as address:
        gone = address.evolve(name="gw-0", admin_url="http://127.0.0.1:1")
        router = GatewayTraffic(lambda: [gone, address], admin_token="adm1n", timeout_s=240)
        stranger = GatewayTraffic(lambda: [address], admin_token="wrong", timeout_s=240)
        pages, refused = router.metrics_pages(), stranger.metrics_pages()
        router.close()
        stranger.close()
    assert list(pages) == ["gw-1"]
    assert "fleetune_gateway_routing_table_version -1.0" in pages["gw-1"]
    assert not refused
