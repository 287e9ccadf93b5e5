"""How a request ended: noted once, in its tally, for the audit, the trace and the record alike."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from controlplane.gateway.openai_errors import RequestRefused
from controlplane.gateway.relay import ClientGone
from controlplane.gateway.tally import Tally


@contextmanager
def noting_end(tally: Tally) -> Iterator[None]:
    """Note a refusal, or that the client left, on its way out to whoever answers for it."""
    try:
        yield
    except RequestRefused as refusal:
        tally.turned_away(refusal.status, refusal.code)
        raise
    except (ClientGone, asyncio.CancelledError):
        tally.client_left()
        raise
