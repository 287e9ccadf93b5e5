"""Which requests are a replica's first ones: its caches are cold, whatever its flags. Pure.

The rule: of each replica of the canary (and of its control) the first `warm_up_requests` answered requests say nothing
of misses. Errors, refusals and hangs count as ever: a cold cache makes slow, not wrong. What a replica answered before
the step counts whoever asked; in the step each gateway, and what we send, has first ones of its own: in which order
they are read, now or by a controller that starts anew, then changes nothing.
"""

from __future__ import annotations

from collections import Counter

from controlplane.domain.door.outcomes import ANSWERED, Outcome
from controlplane.domain.door.routing import GatewayRecord


class WarmUp:
    """Counts each replica's answers, a gateway's in its order; what we sent through a gateway is one replica's."""

    def __init__(self, requests: int) -> None:
        self._requests = requests
        self._before: Counter[str | None] = Counter()
        self._answered: Counter[tuple[str, str | None]] = Counter()

    def saw_before(self, record: GatewayRecord, outcome: Outcome) -> None:
        """Count an answer of the time before the step. All of these come first."""
        self._before[record.engine_id] += outcome in ANSWERED

    def covers(self, record: GatewayRecord, outcome: Outcome) -> bool:
        """Say whether this is one of a replica's first answers, and count it."""
        way = record.gateway, record.engine_id
        if outcome not in ANSWERED or self._before[record.engine_id] + self._answered[way] >= self._requests:
            return False
        self._answered[way] += 1
        return True
