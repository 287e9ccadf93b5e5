"""How much of a limit is left: rates as buckets that refill steadily, and how many requests are under way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from controlplane.domain.identity import Limits

CONCURRENT_RETRY_S = 1.0
"""When a place will be free nobody knows; asking again after a second costs little."""


@dataclass
class Bucket:
    """A rate per minute: holds a minute's worth at most, and refills with the time. Instants are monotonic seconds."""

    per_minute: int
    _level: float
    _at: float

    def left(self, now: float) -> float:
        """Return how much may be taken now; less than nothing after more was used than had been reserved."""
        self._level = min(float(self.per_minute), self._level + (now - self._at) * self.per_minute / 60)
        self._at = now
        return self._level

    def wait_s(self, amount: float, now: float) -> float:
        """Return after how many seconds `amount` can be taken. More than the bucket holds needs a full one."""
        missing = min(amount, self.per_minute) - self.left(now)
        return max(0.0, missing * 60 / self.per_minute)

    def take(self, amount: float, now: float) -> None:
        """Take an amount; a negative one is given back, to no more than a full bucket."""
        self._level = min(float(self.per_minute), self.left(now) - amount)

    def full_after_s(self, now: float) -> float:
        """Return after how many seconds it is full again."""
        return (self.per_minute - self.left(now)) * 60 / self.per_minute


class Shortage(NamedTuple):
    """What there is too little of, and when to ask again."""

    of: str
    retry_after_s: float


class Allowance:
    """What one key, tenant or model may still ask."""

    def __init__(self, limits: Limits, now: float) -> None:
        self.limits = limits
        self.requests = _bucket(limits.requests_per_minute, now)
        self.tokens = _bucket(limits.tokens_per_minute, now)
        self.under_way = 0

    def shortage(self, tokens: int, now: float) -> Shortage | None:
        """Say what keeps a request of so many tokens from being taken now; None when nothing does."""
        if self.limits.concurrent is not None and self.under_way >= self.limits.concurrent:
            return Shortage("concurrent requests", CONCURRENT_RETRY_S)
        waits = [
            Shortage("requests per minute", self.requests.wait_s(1, now) if self.requests else 0.0),
            Shortage("tokens per minute", self.tokens.wait_s(tokens, now) if self.tokens else 0.0),
        ]
        longest = max(waits, key=lambda each: each.retry_after_s)
        return longest if longest.retry_after_s > 0 else None

    def take(self, tokens: int, now: float) -> None:
        """Count one request in, with the tokens it may use."""
        self.under_way += 1
        if self.requests:
            self.requests.take(1, now)
        if self.tokens:
            self.tokens.take(tokens, now)

    def settle(self, reserved: int, used: int, now: float) -> None:
        """Count one request out, and put right what it used."""
        self.under_way -= 1
        if self.tokens:
            self.tokens.take(used - reserved, now)

    def headers(self, now: float) -> dict[str, str]:
        """Return what OpenAI's clients read of it."""
        found: dict[str, str] = {}
        for name, bucket in (("requests", self.requests), ("tokens", self.tokens)):
            if bucket is not None:
                found[f"x-ratelimit-limit-{name}"] = str(bucket.per_minute)
                found[f"x-ratelimit-remaining-{name}"] = str(max(0, int(bucket.left(now))))
                found[f"x-ratelimit-reset-{name}"] = f"{bucket.full_after_s(now):.3f}s"
        return found


def _bucket(per_minute: int | None, now: float) -> Bucket | None:
    return None if per_minute is None else Bucket(per_minute, float(per_minute), now)
