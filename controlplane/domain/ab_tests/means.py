"""Means of users, kept up request by request: a look costs the same for ten users and for ten million. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Means:
    """The mean over users of each user's own mean, and how far users lie apart. A user's mean may still change."""

    users: int = 0
    total: float = 0.0
    squares: float = 0.0

    def take(self, value: float, before: float | None = None) -> None:
        """Count a user's mean; `before` is what was counted of the same user."""
        if before is None:
            self.users += 1
            before = 0.0
        self.total += value - before
        self.squares += value * value - before * before

    @property
    def mean(self) -> float:
        return self.total / self.users if self.users else 0.0

    @property
    def variance(self) -> float:
        """Of users, unbiased; 0 for fewer than two."""
        if self.users < 2:
            return 0.0
        return max(0.0, self.squares - self.total * self.mean) / (self.users - 1)

    @property
    def share(self) -> float:
        """The total of shares as a count can be: rounding may leave it a hair outside."""
        return min(float(self.users), max(0.0, self.total))
