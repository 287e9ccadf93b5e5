"""Which requests are a replica's first ones: its caches are cold, whatever its flags. Pure.

The rule: of each replica of the canary (and of its control) the first `warm_up_requests` answered requests, users' and
replayed alike, say nothing of misses. Errors, refusals and hangs count as ever: a cold cache makes slow, not wrong.
"""

from __future__ import annotations

from collections import Counter

from controlplane.domain.door.outcomes import ANSWERED, Outcome
from controlplane.domain.door.routing import GatewayRecord


class WarmUp:
    """Counts each replica's answers in the order of the records; what we sent through a gateway is one replica's."""

    def __init__(self, requests: int) -> None:
        self._requests = requests
        self._answered: Counter[str | None] = Counter()

    def covers(self, record: GatewayRecord, outcome: Outcome) -> bool:
        """Say whether this is one of a replica's first answers, and count it."""
        if outcome not in ANSWERED or self._answered[record.engine_id] >= self._requests:
            return False
        self._answered[record.engine_id] += 1
        return True
