"""How many engines of a service failed of late, by what the controller noted when it saw them."""

from __future__ import annotations

from datetime import datetime, timedelta

from controlplane.domain.base import ServiceName
from controlplane.domain.operations.known_alerts import FAILED_WITHIN_S
from controlplane.ports.store import Store


def failed_lately(store: Store, service: ServiceName, now: datetime) -> int:
    """Return how many engines failed within half an hour, of the newest 200 events. One that was sent away did not.

    Raises Unavailable.
    """
    since = now - timedelta(seconds=FAILED_WITHIN_S)
    events = store.list_events(service=service)
    return len({each.subject for each in events if each.action == "engine.failed" and since < each.at <= now})
