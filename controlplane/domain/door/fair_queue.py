"""Who is next: classes by weight, tenants of a class alike, both counted in tokens. Pure; it knows no time.

Self-clocked fair queueing (Golestani 1994) on two levels. A request would move its flow's tag on by its tokens over the
flow's weight, and the one that ends at the smallest tag is next: over any stretch in which two flows both wait, what
they get differs by no more than their largest requests, so nobody starves, and who was idle has saved nothing up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from controlplane.domain.door.identity import PriorityClass

N = TypeVar("N")


@dataclass(eq=False)
class Waiting:
    """One request that waits. `tokens` is what it may use, prompt and answer, 1 at least."""

    tenant: str
    priority: PriorityClass
    tokens: int


@dataclass
class _Flows(Generic[N]):
    """Tags of what waits. `now` is virtual time: the tag of what was served last."""

    now: float = 0.0
    waiting: dict[N, float] = field(default_factory=dict)
    ended: dict[N, float] = field(default_factory=dict)

    def joins(self, name: N) -> None:
        self.waiting.setdefault(name, max(self.now, self.ended.get(name, 0.0)))

    def leaves(self, name: N) -> None:
        """It waits no more; its tag is kept while it is ahead of virtual time."""
        tag = self.waiting.pop(name)
        self.ended = {other: end for other, end in self.ended.items() if end > self.now}
        if tag > self.now:
            self.ended[name] = tag

    def served(self, name: N, amount: float) -> None:
        self.now = self.waiting[name] = self.waiting[name] + amount

    def first(self, among: Collection[N], amount: Callable[[N], float]) -> N | None:
        """Return who is next; `amount` is what serving the first request of a flow would move its tag on."""
        found = (name for name in self.waiting if name in among)
        return min(found, key=lambda name: self.waiting[name] + amount(name), default=None)


@dataclass
class _Class:
    """The tenants of one class, each with its requests in the order they came."""

    flows: _Flows[str] = field(default_factory=_Flows)
    lines: dict[str, dict[Waiting, None]] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)

    def add(self, one: Waiting) -> None:
        self.flows.joins(one.tenant)
        self.lines.setdefault(one.tenant, {})[one] = None
        self.tokens[one.tenant] = self.tokens.get(one.tenant, 0) + one.tokens

    def next(self) -> Waiting:
        tenant = self.flows.first(self.lines, lambda name: self._first_of(name).tokens)
        assert tenant is not None
        return self._first_of(tenant)

    def _first_of(self, tenant: str) -> Waiting:
        return next(iter(self.lines[tenant]))

    def remove(self, one: Waiting) -> None:
        line = self.lines[one.tenant]
        del line[one]
        self.tokens[one.tenant] -= one.tokens
        if not line:
            self.flows.leaves(one.tenant)
            del self.lines[one.tenant], self.tokens[one.tenant]

    def newest_of_the_largest(self) -> Waiting:
        """Return the newest request of the tenant whose requests hold most tokens."""
        largest = max(self.tokens, key=self.tokens.__getitem__)
        return next(reversed(self.lines[largest]))


class FairQueue:
    """Requests that wait for a place. `weights` are shares of what classes get while they wait; `most` of them wait."""

    def __init__(self, weights: Mapping[PriorityClass, float], *, most: int) -> None:
        self.weights = weights
        self.most = most
        self._classes = {each: _Class() for each in PriorityClass}
        self._flows: _Flows[PriorityClass] = _Flows()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def waiting(self, priority: PriorityClass) -> int:
        """Return how many of a class wait."""
        return sum(len(line) for line in self._classes[priority].lines.values())

    def offer(self, one: Waiting) -> Waiting | None:
        """Let a request wait. When all places to wait are taken return who does not: the newest of a worse class, else
        of a tenant of its own class that holds more, else the request itself.
        """
        refused = self._victim(one) if self._count >= self.most else None
        if refused is one:
            return one
        if refused is not None:
            self.withdraw(refused)
        self._flows.joins(one.priority)
        self._classes[one.priority].add(one)
        self._count += 1
        return refused

    def take(self, among: Collection[PriorityClass] = tuple(PriorityClass)) -> Waiting | None:
        """Return who is next of these classes, who waits no more; None when none of them waits."""
        priority = self._flows.first(among, self._amount)
        if priority is None:
            return None
        one = self._classes[priority].next()
        self._flows.served(priority, self._amount(priority))
        self._classes[priority].flows.served(one.tenant, one.tokens)
        self.withdraw(one)
        return one

    def withdraw(self, one: Waiting) -> None:
        """Let a request wait no more: it was taken, its client left, or its time is over."""
        found = self._classes[one.priority]
        found.remove(one)
        self._count -= 1
        if not found.lines:
            self._flows.leaves(one.priority)

    def _amount(self, priority: PriorityClass) -> float:
        return self._classes[priority].next().tokens / self.weights[priority]

    def _victim(self, one: Waiting) -> Waiting:
        order = list(PriorityClass)
        worst = next(each for each in reversed(order) if self._classes[each].lines)
        if order.index(worst) < order.index(one.priority):
            return one
        victim, held = self._classes[worst].newest_of_the_largest(), self._classes[worst].tokens
        if worst is one.priority and held[victim.tenant] <= held.get(one.tenant, 0) + one.tokens:
            return one
        return victim
