"""One request on its way through the stages: what came in, where it goes, and how it went."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from controlplane.gateway.call import Call
from controlplane.gateway.pools import Route
from controlplane.gateway.tally import Tally


@dataclass
class Exchange:
    """What every stage sees. `route` is the one of the moment the request arrived."""

    request: web.Request
    call: Call
    route: Route
    tally: Tally


Next = Callable[[Exchange], Awaitable[web.StreamResponse]]
"""The rest of the way: whoever is next, down to the answer."""
