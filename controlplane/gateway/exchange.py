"""One request on its way through the stages: what came in, where it goes, and how it went."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from controlplane.gateway.call import Call
from controlplane.gateway.passage import Passage
from controlplane.gateway.pools import Route
from controlplane.gateway.tally import Tally

if TYPE_CHECKING:
    from controlplane.telemetry.requests import RequestTrace


@dataclass(slots=True)
class Exchange:
    """What every stage sees. `route` is the one of the moment the request arrived."""

    request: web.Request
    call: Call
    route: Route
    tally: Tally
    fields: dict[str, Any] | None = None  # of a small JSON body, until an engine is asked; None: of any other body
    passages: list[Passage] = field(default_factory=list)  # in the order in which the answer passes them
    sensitive: bool = False  # nothing of it may be kept
    trace: RequestTrace | None = None  # where somebody collects traces

    def replace_body(self, body: bytes) -> None:
        """Send engines another body than the one that came."""
        self.call = self.tally.call = self.call._replace(body=body)


Next = Callable[[Exchange], Awaitable[web.StreamResponse]]
"""The rest of the way: whoever is next, down to the answer."""
