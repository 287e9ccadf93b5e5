"""How a request ended: noted once, in its tally, for the audit, the trace and the record alike."""

from __future__ import annotations

import asyncio

from controlplane.gateway.openai_errors import RequestRefused
from controlplane.gateway.relay import ClientGone
from controlplane.gateway.tally import Tally


class NotingEnd:
    """Notes a refusal, or that the client left, on its way out to whoever answers for it."""

    __slots__ = ("_tally",)

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def __enter__(self) -> None:
        """Nothing ended yet."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        if isinstance(error, RequestRefused):
            self._tally.turned_away(error.status, error.code)
        elif isinstance(error, (ClientGone, asyncio.CancelledError)):
            self._tally.client_left()
