"""How many engines of a service failed of late, by what the controller noted when it saw them."""

from __future__ import annotations

from datetime import datetime, timedelta

from controlplane.domain.base import ServiceName
from controlplane.domain.operations.known_alerts import FAILED_WITHIN_S
from controlplane.ports.store import Store

FAILED = "engine.failed"
_MOST = 1000


def failed_lately(store: Store, service: ServiceName, now: datetime) -> int:
    """Return how many engines failed within half an hour, a thousand at most. One that was sent away did not.

    Raises Unavailable.
    """
    since = now - timedelta(seconds=FAILED_WITHIN_S)
    events = store.list_events(service=service, actions=(FAILED,), since=since, limit=_MOST)
    return len({each.subject for each in events if each.at <= now})
