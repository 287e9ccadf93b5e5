"""Replicas as the gateway sees them: what is in flight on each, and which of them may be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from controlplane.domain.base import RevisionId
from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.hold_options import HoldOptions
from controlplane.domain.door.judging import Sampling
from controlplane.domain.door.routing import AdapterRoute, Backend, VersionRoute
from controlplane.gateway.breaker import Breaker
from controlplane.gateway.prefixes import Prefixes


@dataclass(eq=False)
class Replica:
    """One backend. Lives across routing tables, so that what is in flight and how it fares are never forgotten."""

    backend: Backend
    revision: RevisionId
    in_flight: int = 0
    tokens: int = 0  # what the requests in flight may use, prompt and answer
    prefixes: Prefixes = field(default_factory=Prefixes)
    breaker: Breaker = field(default_factory=Breaker)

    def serving(self, tokens: int = 0) -> Serving:
        """Count one request as in flight for as long as its answer is being passed on; True for the breaker's probe."""
        return Serving(self, tokens)


class Serving:
    """See `Replica.serving`. A class takes a third of the time of a generator, with each request."""

    __slots__ = ("_probe", "_replica", "_tokens")

    def __init__(self, replica: Replica, tokens: int) -> None:
        self._replica, self._tokens, self._probe = replica, tokens, False

    def __enter__(self) -> bool:
        self._probe = self._replica.breaker.begin()
        self._replica.in_flight += 1
        self._replica.tokens += self._tokens
        return self._probe

    def __exit__(self, *_: object) -> None:
        self._replica.in_flight -= 1
        self._replica.tokens -= self._tokens
        self._replica.breaker.end(self._probe)


@dataclass(frozen=True)
class Pool:
    """The replicas of one revision and its share of the traffic."""

    revision: RevisionId
    weight_percent: int
    replicas: tuple[Replica, ...] = ()
    concurrency_limit: int | None = None

    def usable(self, now: float) -> list[Replica]:
        """Return the replicas that may be asked: those that can be reached, at most half of all left out as ejected.

        When more than half fail it is hardly they: a bad request that comes again and again, or something all of them
        need. Then those ejected first are asked again.
        """
        for replica in self.replicas:
            if replica.breaker.is_open:
                return self._usable(now)
        return list(self.replicas)

    def _usable(self, now: float) -> list[Replica]:
        ejected = [replica for replica in self.replicas if replica.breaker.ejected(now)]
        if ejected:
            ejected.sort(key=lambda replica: replica.breaker.ejected_until, reverse=True)
            ejected = ejected[: len(self.replicas) // 2]
        return [r for r in self.replicas if r.breaker.reachable(now) and r not in ejected]


@dataclass(frozen=True, eq=False)
class Route:
    """Everything needed to serve one model."""

    service: str
    model: str
    pools: tuple[Pool, ...] = ()
    options: GatewayOptions = field(default_factory=GatewayOptions)
    adapters: Mapping[str, AdapterRoute] = field(default_factory=dict)  # by the names clients use
    versions: Mapping[str, VersionRoute] = field(default_factory=dict)  # by the names clients use
    hold: HoldOptions | None = None  # what is done while no replica is ready; None: 503 at once
    split_by: str | None = None  # an A/B test: users are shuffled anew, and each stays with one arm
    sampling: Sampling | None = None  # answers of it that are kept for a judge

    @cached_property
    def heeds_prefixes(self) -> bool:
        """Say whether what a replica has in its cache matters: only where there is a choice."""
        return self.options.prefix_affinity and any(len(pool.replicas) > 1 for pool in self.pools)

    @cached_property
    def leading(self) -> str:
        """The revision with the largest share of the traffic; nothing where there is none."""
        pool = max(self.pools, key=lambda pool: pool.weight_percent, default=None)
        return pool.revision if pool else ""

    def has_others(self, replica: Replica) -> bool:
        """Say whether a replica's revision has more of them."""
        return any(len(pool.replicas) > 1 for pool in self.pools if pool.revision == replica.revision)

    @property
    def salted(self) -> bool:
        """Say whether some engine keeps prefixes apart by `cache_salt`."""
        return any(replica.backend.by_salt for pool in self.pools for replica in pool.replicas)

    def weight_percent(self, revision: RevisionId) -> int | None:
        """Return a revision's share of the traffic; None of one that has no pool here."""
        return next((pool.weight_percent for pool in self.pools if pool.revision == revision), None)

    @property
    def served(self) -> bool:
        """Say whether some replica may get traffic."""
        return any(pool.weight_percent > 0 and pool.replicas for pool in self.pools)
