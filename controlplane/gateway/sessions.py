"""Which sessions ask so much that they alone would bend the split between revisions."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from controlplane.gateway.pools import Pool

WINDOW = 512
"""Requests looked back on, per service."""
LEAST = 8
"""So many requests of a session say nothing yet about its share."""


LEAST_WEIGHT = 5
"""Percent: that of a rollout's first step with users."""


class Sessions:
    """Counts the latest requests by session. Belongs to one service.

    Weights are shares of *requests*; a session that stays with one revision moves all of its requests there. That is
    harmless while sessions are many. An application that sends the same `user` with every request is one session with
    all of the traffic: it would miss a canary altogether, or send it twenty times what it was sized for.
    """

    def __init__(self) -> None:
        self._latest: deque[str] = deque()
        self._counts: Counter[str] = Counter()

    def note(self, session: str) -> None:
        """Count one request."""
        self._latest.append(session)
        self._counts[session] += 1
        if len(self._latest) > WINDOW:
            oldest = self._latest.popleft()
            self._counts[oldest] -= 1
            if not self._counts[oldest]:
                del self._counts[oldest]

    def is_large(self, session: str, pools: Iterable[Pool]) -> bool:
        """Say whether a session would dominate, be it at the least of usual weights where only one revision serves."""
        return self._asks_for(
            session, min((p.weight_percent for p in pools if 0 < p.weight_percent < 100), default=LEAST_WEIGHT)
        )

    def dominates(self, session: str, pools: Iterable[Pool]) -> bool:
        """Say whether a session asks for more than half the share of the smallest revision: it is to be split up."""
        weights = [pool.weight_percent for pool in pools if pool.weight_percent > 0]
        if len(weights) < 2:
            return False
        return self._asks_for(session, min(weights))

    def _asks_for(self, session: str, weight_percent: int) -> bool:
        asked = self._counts[session]
        return asked >= LEAST and asked > len(self._latest) * weight_percent / 200
