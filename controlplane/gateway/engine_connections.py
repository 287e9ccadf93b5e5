"""Connections to engines: opened when none is free, kept for a moment when an answer was read to its end."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from yarl import URL

from controlplane.gateway.engine_connection import EngineConnection

KEEPALIVE_S = 3.0
"""Servers of the uvicorn kind close idle connections after 5 s; ours go first, so no request meets a closing one."""


class NotConnected(Exception):
    """The engine could not be reached, or not in time, or is not who it has to be."""


class Place(NamedTuple):
    """Where an engine is."""

    host: str
    port: int
    tls: bool


class EngineConnections:
    """Belongs to one event loop. `tls` is for engines at https; None trusts whom the system trusts."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._free: dict[Place, list[EngineConnection]] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    async def ask(
        self, url: str, target: str, headers: Mapping[str, str], body: bytes, *, connect_s: float
    ) -> EngineConnection:
        """Send a request and return its connection, to be given back. `url` is the engine's, `target` what is asked.

        Raises NotConnected, and ValueError for a header that would be two.
        """
        place, named, prefix = _read(url)
        head = _head(named, prefix + target, headers, len(body))
        connection = self._take(place) or await self._open(place, connect_s)
        connection.ask(head, body)
        return connection

    def give_back(self, url: str, connection: EngineConnection) -> None:
        """Keep a connection for the next request when its answer was read to its end, else close it."""
        if not connection.reusable:
            connection.close()
            return
        connection.idle_since = self._loop.time()
        self._free.setdefault(_read(url)[0], []).append(connection)
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(KEEPALIVE_S, self._sweep)

    def close(self) -> None:
        """Close what is free."""
        for connection in [each for free in self._free.values() for each in free]:
            connection.close()
        self._free.clear()
        if self._sweeping is not None:
            self._sweeping.cancel()

    def _take(self, place: Place) -> EngineConnection | None:
        """Return the one that was used last; those that were closed meanwhile, or are about to be, are none."""
        free = self._free.get(place)
        while free:
            connection = free.pop()
            if connection.reusable and self._loop.time() - connection.idle_since < KEEPALIVE_S:
                return connection
            connection.close()
        return None

    async def _open(self, place: Place, connect_s: float) -> EngineConnection:
        try:
            async with asyncio.timeout(connect_s):
                _, connection = await self._loop.create_connection(
                    EngineConnection, place.host, place.port, ssl=self._context() if place.tls else None
                )
        except (OSError, UnicodeError) as error:  # TimeoutError, ssl.SSLError and socket.gaierror among them
            raise NotConnected from error
        return connection

    def _context(self) -> ssl.SSLContext:
        self._tls = self._tls or ssl.create_default_context()
        return self._tls

    def _sweep(self) -> None:
        """Close what was free for too long, and look again as long as something is free."""
        oldest = self._loop.time() - KEEPALIVE_S
        kept: dict[Place, list[EngineConnection]] = {}
        for place, free in self._free.items():
            for connection in free:
                if connection.reusable and connection.idle_since > oldest:
                    kept.setdefault(place, []).append(connection)
                else:
                    connection.close()
        self._free = kept
        self._sweeping = self._loop.call_later(KEEPALIVE_S, self._sweep) if kept else None


@lru_cache(maxsize=4096)
def _read(url: str) -> tuple[Place, str, str]:
    """Return where an engine is, its name for the Host header, and what its paths begin with."""
    parsed = URL(url)
    tls = parsed.scheme == "https"
    place = Place(parsed.host or "", parsed.port or (443 if tls else 80), tls)
    return place, parsed.host_port_subcomponent or "", parsed.raw_path.rstrip("/")


def _head(named: str, target: str, headers: Mapping[str, str], length: int) -> bytes:
    """Return a request's head. Raises ValueError for a header that would be two."""
    lines = [f"POST {target} HTTP/1.1", f"Host: {named}", f"Content-Length: {length}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    text = "\r\n".join(lines) + "\r\n\r\n"
    if text.count("\n") != len(lines) + 1 or text.count("\r") != len(lines) + 1:
        raise ValueError("a header holds the end of a line")
    return text.encode("utf-8", "surrogateescape")
