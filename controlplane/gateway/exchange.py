"""One request on its way through the stages: what came in, where it goes, and how it went."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from aiohttp import web

from controlplane.gateway.body import SMALL_BYTES
from controlplane.gateway.call import Call
from controlplane.gateway.passage import Passage
from controlplane.gateway.paths import PASSED_ON, Shape
from controlplane.gateway.pools import Route
from controlplane.gateway.tally import Tally

if TYPE_CHECKING:
    from controlplane.telemetry.requests import RequestTrace


@dataclass
class Exchange:
    """What every stage sees. `route` is the one of the moment the request arrived."""

    request: web.Request
    call: Call
    route: Route
    tally: Tally
    passages: list[Passage] = field(default_factory=list)  # in the order in which the answer passes them
    sensitive: bool = False  # nothing of it may be kept
    trace: RequestTrace | None = None  # where somebody collects traces

    def small_fields(self) -> Mapping[str, Any] | None:
        """Return the fields of a small JSON body, parsed again for the few that ask; None for any other body.

        A lone surrogate is no text that could be compared or looked at: such a body has none either.
        """
        if len(self.call.body) > SMALL_BYTES or PASSED_ON[self.call.path].shape is not Shape.JSON:
            return None
        fields: Mapping[str, Any] = json.loads(self.call.body)
        return fields

    def replace_body(self, body: bytes) -> None:
        """Send engines another body than the one that came."""
        self.call = self.tally.call = replace(self.call, body=body)


Next = Callable[[Exchange], Awaitable[web.StreamResponse]]
"""The rest of the way: whoever is next, down to the answer."""
