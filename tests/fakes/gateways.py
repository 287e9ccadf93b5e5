"""Gateways without processes: a URL that a TwinLoadTester spreads over the engines of its route."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from controlplane.domain.door.routing import ServiceRoute
from controlplane.domain.errors import Unavailable
from controlplane.ports.gateways import OpenGateway


class FakeGateways:
    """Implements `ports.GatewayOpener`. `breaks` plays gateways that do not come up, `opened` counts.

    `slower` is by how much each gateway multiplies latencies, the first one's first; 1 when it is used up.
    """

    def __init__(self) -> None:
        self.opened = 0
        self.breaks = False
        self.slower: list[float] = []
        self._slowness: dict[str, float] = {}
        self.seen: list[ServiceRoute] = []
        self._routes: dict[str, ServiceRoute] = {}

    @contextmanager
    def open(self, route: ServiceRoute, *, folder: Path) -> Iterator[OpenGateway]:
        self.opened += 1
        if self.breaks:
            raise Unavailable("a gateway for the fleet did not start", why="killed by signal 9")
        url = f"http://gateway-{self.opened}"
        self._routes[url] = route
        self.seen.append(route)
        self._slowness[url] = self.slower.pop(0) if self.slower else 1.0
        try:
            yield OpenGateway(url)
        finally:
            del self._routes[url]

    def slowness(self, url: str) -> float:
        """Return by how much the gateway at a URL multiplies latencies."""
        return self._slowness.get(url, 1.0)

    def engines_at(self, url: str) -> Sequence[str]:
        """Return the URLs of the engines behind a URL; that itself when no gateway is open there."""
        route = self._routes.get(url)
        if route is None:
            return [url]
        return [backend.url for revision in route.revisions for backend in revision.backends]
