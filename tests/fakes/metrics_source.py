"""MetricsSource in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from controlplane.domain.engines.engine_metrics import EngineNumber, EngineNumbers, NumberAt
from controlplane.ports import Clock


class FakeMetricsSource:
    """Holds what was scraped, and shows it for `stale_after_s` after it was."""

    def __init__(self, clock: Clock, *, stale_after_s: float) -> None:
        self._clock = clock
        self._stale_after_s = stale_after_s
        self._scraped: dict[str, list[EngineNumbers]] = {}

    def scrape(self, numbers: EngineNumbers) -> None:
        """Keep what all engines of a model said at one moment."""
        self._scraped.setdefault(numbers.model, []).append(numbers)

    def read(self, model: str) -> EngineNumbers:
        now = self._clock()
        last = self._last(model, now)
        if last is None or (now - last.at).total_seconds() > self._stale_after_s:
            return EngineNumbers(model=model, at=now)
        return last.evolve(at=now)

    def series(
        self, model: str, number: EngineNumber, *, since: datetime, until: datetime, step_s: float
    ) -> Sequence[NumberAt]:
        steps = int((until - since).total_seconds() / step_s) + 1
        moments = [since + timedelta(seconds=step_s * each) for each in range(steps)]
        found = ((at, self._last(model, at)) for at in moments)
        return [NumberAt(at, None if last is None else getattr(last, number.value)) for at, last in found]

    def _last(self, model: str, at: datetime) -> EngineNumbers | None:
        before = [each for each in self._scraped.get(model, []) if each.at <= at]
        return max(before, key=lambda each: each.at, default=None)
