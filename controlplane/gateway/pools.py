"""Replicas as the gateway sees them: what is in flight on each, and which are put aside after a failed connect."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from controlplane.domain.base import RevisionId
from controlplane.domain.routing import Backend
from controlplane.domain.service import GatewayOptions

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 10.0


@dataclass(eq=False)
class Replica:
    """One backend. Lives across routing tables, so that what is in flight is never forgotten.

    A failed connect puts it aside for a backoff that doubles from 0.5 s to 10 s. Afterwards one request at a time may
    probe it (half-open) until an answer brings it back.
    """

    backend: Backend
    revision: RevisionId
    in_flight: int = 0
    failures: int = 0
    _aside_until: float = 0.0
    _probing: bool = False

    def usable(self, now: float) -> bool:
        """Say whether it may get a request at `now` (monotonic seconds)."""
        if self.failures == 0:
            return True
        return now >= self._aside_until and not self._probing

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Count one request as in flight for as long as its answer is being passed on."""
        probe = self.failures > 0
        self._probing = self._probing or probe
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1
            self._probing = self._probing and not probe

    def answered(self) -> None:
        self.failures = 0

    def failed_to_connect(self, now: float) -> None:
        backoff_s = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2**self.failures)
        self.failures = min(self.failures + 1, 16)
        self._aside_until = now + backoff_s


@dataclass(frozen=True)
class Pool:
    """The replicas of one revision and its share of the traffic."""

    revision: RevisionId
    weight_percent: int
    replicas: tuple[Replica, ...] = ()


@dataclass(frozen=True, eq=False)
class Route:
    """Everything needed to serve one model."""

    service: str
    model: str
    pools: tuple[Pool, ...] = ()
    options: GatewayOptions = field(default_factory=GatewayOptions)

    @property
    def served(self) -> bool:
        """Say whether some replica may get traffic."""
        return any(pool.weight_percent > 0 and pool.replicas for pool in self.pools)
