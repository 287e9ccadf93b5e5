"""TrafficRouter on Fleetune's own gateways: tables are pushed to each gateway's admin port and read back from there."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import httpx
from pydantic import AwareDatetime, TypeAdapter, ValidationError

from controlplane.domain.ab_tests.ab_test import AbTestId
from controlplane.domain.door.gateway_files import addresses_dir
from controlplane.domain.door.judging import Sample
from controlplane.domain.door.routing import GatewayAddress, InFlight, RoutingTable
from controlplane.domain.errors import StaleVersion, Unavailable
from controlplane.host.processes import is_alive
from controlplane.ports.gateways import Taken

T = TypeVar("T")
_FLIGHTS = TypeAdapter(list[InFlight])
_TROUBLES = TypeAdapter(list[str])
_TAKEN = TypeAdapter(Taken)
_NOTHING = Taken((), 0)
_ENDS = TypeAdapter(dict[str, AwareDatetime])
_USES = TypeAdapter(dict[str, AwareDatetime])

FindGateways = Callable[[], Sequence[GatewayAddress]]

# An abort must have moved all traffic within two seconds of the verdict, a gateway that hangs included.
TIMEOUT_S = 1.0
HELD_TIMEOUT_S = 10.0
"""Beyond what a gateway waits with its answer."""
_AT_ONCE = 8


class GatewayTraffic:
    """Pushes to every gateway that `find` names at that moment, all of them at once.

    `ca`: PEM file of who signed the certificates of admin ports at https; None: whom the system trusts. `server_name`:
    the name that those certificates are for; None: the host of each URL.
    """

    def __init__(
        self,
        find: FindGateways,
        *,
        admin_token: str | None = None,
        timeout_s: float = TIMEOUT_S,
        ca: Path | None = None,
        server_name: str | None = None,
    ) -> None:
        headers = {"Authorization": f"Bearer {admin_token}"} if admin_token else {}
        self._find = find
        asking = [] if server_name is None else [_naming(server_name)]
        self._client = httpx.Client(
            headers=headers, timeout=timeout_s, trust_env=False, verify=_trust(ca), event_hooks={"request": asking}
        )

    def close(self) -> None:
        """Close the kept connections."""
        self._client.close()

    def apply(self, table: RoutingTable) -> None:
        """Give the table to every gateway.

        Raises StaleVersion when one has a newer table, Unavailable when none runs or one did not take it for any other
        reason (no answer, a wrong admin token, a route it refuses). The other gateways have the table even then.
        """
        gateways = self._find()
        if not gateways:
            raise Unavailable("no gateway runs", why="none has written its address", allowed="at least one")
        body = table.model_dump_json().encode()
        failures = [error for error in self._each(gateways, lambda gateway: self._push(gateway, body)) if error]
        if failures:
            raise failures[0]

    def actual(self) -> Sequence[RoutingTable | None]:
        """Return the table each running gateway now uses; one without a table has an empty one of version 0.

        None is a gateway that did not answer: it may still be sending by an old table. Raises Unavailable when no
        gateway answers.
        """
        tables = self._each(self._find(), self._read)
        if not any(tables):
            raise Unavailable("no gateway answers", why="none runs, or none reads its admin port")
        return tables

    def flights(self) -> Sequence[InFlight]:
        """See `ports.FlightView.flights`."""
        parts = [found for found in self._each(self._find(), self._read_flights) if found is not None]
        if not parts:
            raise Unavailable("no gateway answers", why="none runs, or none reads its admin port")
        return [each for part in parts for each in part]

    def await_held(self) -> bool:
        """See `ports.HeldRequests.await_held`. Raises Unavailable when no gateway answers."""
        gateways = self._find()
        if not gateways:
            raise Unavailable("no gateway answers", why="none runs")
        pool = ThreadPoolExecutor(len(gateways))
        try:
            asked = [pool.submit(self._read_held, gateway) for gateway in gateways]
            told = []
            for each in as_completed(asked):
                told.append(each.result())
                if told[-1]:  # the others need not be waited for
                    return True
            if all(each is None for each in told):
                raise Unavailable("no gateway answers", why="none says whether it holds requests")
            return False
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def key_uses(self) -> Mapping[str, datetime]:
        """See `ports.GatewayNews.key_uses`."""
        uses: dict[str, datetime] = {}
        for part in self._each(self._find(), self._read_uses):
            uses |= {name: max(at, uses.get(name, at)) for name, at in part.items()}
        return uses

    def troubles(self) -> Mapping[str, Sequence[str]]:
        """See `ports.GatewayNews.troubles`."""
        gateways = self._find()
        told = zip(gateways, self._each(gateways, self._read_troubles), strict=True)
        return {gateway.name: found for gateway, found in told if found is not None}

    def certificates(self) -> Mapping[str, Mapping[str, datetime]]:
        """See `ports.CertificateView.certificates`."""
        gateways = self._find()
        told = zip(gateways, self._each(gateways, self._read_ends), strict=True)
        return {gateway.name: found for gateway, found in told if found is not None}

    def metrics_pages(self) -> Mapping[str, str]:
        """Return the page of each gateway that answers, by its name."""
        gateways = self._find()
        told = zip(gateways, self._each(gateways, self._read_page), strict=True)
        return {gateway.name: found for gateway, found in told if found is not None}

    def take_samples(self, test: AbTestId, *, most: int) -> Taken:
        """See `ports.SampleSource.take_samples`."""
        samples, dropped = list[Sample](), 0
        for gateway in self._find():
            if len(samples) < most:
                found = self._take_samples(gateway, test, most - len(samples))
                samples += found.samples
                dropped += found.dropped
        return Taken(samples, dropped)

    def _take_samples(self, gateway: GatewayAddress, test: AbTestId, most: int) -> Taken:
        try:
            url, query = f"{gateway.admin_url}/admin/samples", {"test": test, "most": str(most)}
            answer = self._client.post(url, params=query)
            return _TAKEN.validate_json(answer.content) if answer.is_success else _NOTHING
        except (httpx.HTTPError, ValidationError):
            return _NOTHING

    def _each(self, gateways: Sequence[GatewayAddress], ask: Callable[[GatewayAddress], T]) -> list[T]:
        if len(gateways) <= 1:
            return [ask(gateway) for gateway in gateways]
        with ThreadPoolExecutor(min(_AT_ONCE, len(gateways))) as pool:
            return list(pool.map(ask, gateways))

    def _push(self, gateway: GatewayAddress, body: bytes) -> StaleVersion | Unavailable | None:
        try:
            answer = self._client.put(f"{gateway.admin_url}/admin/routing", content=body)
        except httpx.HTTPError as error:
            return Unavailable(f"gateway {gateway.name} did not take the routing table", why=_reason(error))
        if answer.is_success:
            return _refused(gateway, answer)
        kind = StaleVersion if answer.status_code == httpx.codes.CONFLICT else Unavailable
        return kind(f"gateway {gateway.name} refused the routing table", why=_message(answer))

    def _read_flights(self, gateway: GatewayAddress) -> Sequence[InFlight] | None:
        try:
            answer = self._client.get(f"{gateway.admin_url}/admin/flights")
            return _FLIGHTS.validate_json(answer.content) if answer.is_success else None
        except (httpx.HTTPError, ValidationError):
            return None

    def _read_held(self, gateway: GatewayAddress) -> bool | None:
        try:
            answer = self._client.get(f"{gateway.admin_url}/admin/held", timeout=HELD_TIMEOUT_S)
            return bool(answer.json()["held"]) if answer.is_success else None
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return None

    def _read_uses(self, gateway: GatewayAddress) -> Mapping[str, datetime]:
        try:
            answer = self._client.get(f"{gateway.admin_url}/admin/key-uses")
            return _USES.validate_json(answer.content) if answer.is_success else {}
        except (httpx.HTTPError, ValidationError):
            return {}

    def _read_troubles(self, gateway: GatewayAddress) -> Sequence[str] | None:
        try:
            answer = self._client.get(f"{gateway.admin_url}/admin/status")
            return _TROUBLES.validate_python(answer.json()["troubles"]) if answer.is_success else None
        except (httpx.HTTPError, ValueError, KeyError):
            return None

    def _read_ends(self, gateway: GatewayAddress) -> Mapping[str, datetime] | None:
        try:
            answer = self._client.get(f"{gateway.admin_url}/admin/status")
            return _ENDS.validate_python(answer.json()["certificates"]) if answer.is_success else None
        except (httpx.HTTPError, ValueError, KeyError):
            return None

    def _read_page(self, gateway: GatewayAddress) -> str | None:
        try:
            answer = self._client.get(f"{gateway.admin_url}/metrics")
            return answer.text if answer.is_success else None
        except httpx.HTTPError:
            return None

    def _read(self, gateway: GatewayAddress) -> RoutingTable | None:
        try:
            answer = self._client.get(f"{gateway.admin_url}/admin/routing")
            if answer.status_code == 404:
                return RoutingTable(version=0)
            return RoutingTable.model_validate_json(answer.content) if answer.is_success else None
        except (httpx.HTTPError, ValidationError):
            return None


def _trust(ca: Path | None) -> ssl.SSLContext | bool:
    return True if ca is None else ssl.create_default_context(cafile=str(ca))


def _naming(server_name: str) -> Callable[[httpx.Request], None]:
    """Return what makes a request hold the other side's certificate against this name instead of its URL's host."""

    def name(request: httpx.Request) -> None:
        request.extensions = {**request.extensions, "sni_hostname": server_name}

    return name


def running_gateways(data_dir: Path) -> FindGateways:
    """Return a finder of the gateways of one data folder, those whose process is gone left out."""

    def find() -> Sequence[GatewayAddress]:
        paths = sorted(addresses_dir(data_dir).glob("*.json"))
        found = [address for path in paths if (address := _address(path)) is not None]
        return [each for each in found if each.process is not None and is_alive(each.process)]

    return find


def _address(path: Path) -> GatewayAddress | None:
    try:
        return GatewayAddress.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):  # removed under our eyes, or not a gateway's: either way none to push to
        return None


def _refused(gateway: GatewayAddress, answer: httpx.Response) -> Unavailable | None:
    """A gateway keeps the present route of a service whose new one it cannot accept, and takes the others."""
    refused = answer.json().get("refused") or {}
    if not refused:
        return None
    why = "; ".join(f"{service}: {reason}" for service, reason in sorted(refused.items()))
    return Unavailable(f"gateway {gateway.name} refused the routes of {', '.join(sorted(refused))}", why=why)


def _reason(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"it answered {answer.status_code}"
