"""What gateways have to tell, kept in the store: last uses of keys, and troubles as events when they come and go."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime

from controlplane.domain.event import Event
from controlplane.ports.gateways import GatewayNews
from controlplane.ports.store import Store
from controlplane.services.keys import NOTED_EVERY, note_uses

TROUBLES_EVERY_S = 5.0


class GatewayNewsKeeper:
    """Asks once in a while. `monotonic` in seconds. What was told before a restart of the controller is told again."""

    def __init__(self, *, store: Store, news: GatewayNews | None, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._news = news
        self._monotonic = monotonic
        self._uses_at = self._troubles_at = -math.inf
        self._told: dict[str, Sequence[str]] = {}

    def keep(self, now: datetime) -> None:
        """Keep what is new."""
        at = self._monotonic()
        if self._news is None:
            return
        if at - self._uses_at >= NOTED_EVERY.total_seconds():
            self._uses_at = at
            note_uses(self._store, self._news.key_uses())
        if at - self._troubles_at >= TROUBLES_EVERY_S:
            self._troubles_at = at
            self._tell(self._news, now)

    def _tell(self, news: GatewayNews, now: datetime) -> None:
        for gateway, troubles in news.troubles().items():
            before = self._told.get(gateway, ())
            for trouble in troubles:
                if trouble not in before:
                    self._store.add_event(_event("gateway.trouble", gateway, trouble, now))
            for trouble in before:
                if trouble not in troubles:
                    self._store.add_event(_event("gateway.recovered", gateway, f"over: {trouble}", now))
            self._told[gateway] = troubles


def _event(action: str, gateway: str, reason: str, now: datetime) -> Event:
    return Event(at=now, actor="controller", action=action, subject=f"gateway/{gateway}", reason=reason)
