"""Counts of this process alone. Belongs to one event loop; nothing waits between looking and taking."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from controlplane.gateway.counts.lines import PLACE_RETRY_S, Kind, Line, Standing, has_passed

LOOKED_THROUGH_EVERY_S = 600.0


@dataclass(slots=True)
class _Bucket:
    limit: float
    level: float
    at: float

    def left(self, now: float) -> float:
        if now == self.at:
            return self.level
        level, limit = self.level + (now - self.at) * self.limit / 60, self.limit
        self.level, self.at = level if level < limit else limit, now
        return self.level


@dataclass
class LocalCounts:
    """See `Counts`. `monotonic` in seconds. `sums` are by the line's name, which holds the day or month."""

    monotonic: Callable[[], float]
    lost: bool = False
    gateways: int = 1
    sums: dict[str, float] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    _buckets: dict[str, _Bucket] = field(default_factory=dict)
    _sums_end: dict[str, float] = field(default_factory=dict)
    _looked_at: float = 0.0

    async def take(self, lines: Sequence[Line]) -> Sequence[Standing]:
        """See `Counts.take`."""
        return self.take_now(lines)

    def take_now(self, lines: Sequence[Line]) -> Sequence[Standing]:
        """The same without an event loop."""
        now = self.monotonic()
        standings = [self._standing(line, now) for line in lines]
        if not has_passed(standings):
            return standings
        for line in lines:
            self._add(line, line.amount, now)
        if now - self._looked_at >= LOOKED_THROUGH_EVERY_S:
            self._forget_what_is_over(now)
        return [Standing(standing.left - line.amount, 0.0) for standing, line in zip(standings, lines, strict=True)]

    def settle(self, lines: Sequence[Line], used: Sequence[float]) -> None:
        """See `Counts.settle`."""
        now = self.monotonic()
        for line, amount in zip(lines, used, strict=True):
            if line.kind is Kind.PLACES:
                self._add(line, -1.0, now)
            elif amount != line.amount:
                self._add(line, amount - line.amount, now)

    def begin_with(self, sums: Mapping[str, float]) -> None:
        """Go on from sums of an earlier life."""
        self.sums = dict(sums)

    def _standing(self, line: Line, now: float) -> Standing:
        match line.kind:
            case Kind.RATE:
                left, limit = self._bucket(line, now).left(now), line.limit
                lacking = (line.amount if line.amount < limit else limit) - left
                return Standing(left, lacking * 60 / limit if lacking > 0 else 0.0)
            case Kind.SUM:
                used = self.sums.get(line.name, 0.0)
                fits = used + line.amount <= line.limit or (used <= 0 and line.limit > 0)
                return Standing(line.limit - used, 0.0 if fits else max(PLACE_RETRY_S, line.ends_in_s))
            case Kind.PLACES:
                left = line.limit - self.places.get(line.name, 0)
                return Standing(left, 0.0 if left >= 1 else PLACE_RETRY_S)

    def _add(self, line: Line, amount: float, now: float) -> None:
        match line.kind:
            case Kind.RATE:
                bucket = self._bucket(line, now)
                left = bucket.left(now) - amount
                bucket.level = left if left < bucket.limit else bucket.limit
            case Kind.SUM:
                self.sums[line.name] = self.sums.get(line.name, 0.0) + amount
                self._sums_end[line.name] = now + line.ends_in_s
            case Kind.PLACES:
                taken = self.places.get(line.name, 0) + int(amount)
                if taken > 0:
                    self.places[line.name] = taken
                else:
                    self.places.pop(line.name, None)

    def _bucket(self, line: Line, now: float) -> _Bucket:
        """Return the line's bucket; one of another limit than before begins anew, full."""
        found = self._buckets.get(line.name)
        if found is None or found.limit != line.limit:
            found = self._buckets[line.name] = _Bucket(line.limit, line.limit, now)
        return found

    def _forget_what_is_over(self, now: float) -> None:
        """Full buckets are as good as none, and days that are over are over: callers come and go."""
        self._looked_at = now
        self._buckets = {name: bucket for name, bucket in self._buckets.items() if bucket.left(now) < bucket.limit}
        over = [name for name, end in self._sums_end.items() if end + LOOKED_THROUGH_EVERY_S < now]
        for name in over:  # not at once: a request that began in the old day may still settle there
            self.sums.pop(name, None)
            del self._sums_end[name]
